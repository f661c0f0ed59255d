//! The machine's CPU time, as the first line of `/proc/stat` counts it (proc_stat(5)).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Cumulative CPU time of the whole machine, in clock ticks (`USER_HZ`, 10 ms) summed over all CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTimes {
    /// Time spent running anything: user, nice, system, irq, softirq. Guests are part of user already.
    pub busy: u64,
    /// Time that the hypervisor withheld while something wanted to run.
    pub steal: u64,
    /// Idle and waiting for input or output.
    pub idle: u64,
}

/// What became of the CPU time between two readings, in percent of all CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CpuShare {
    /// What CloudWatch's CPUUtilization counts.
    pub busy_pct: f64,
    /// What the hypervisor withheld.
    pub steal_pct: f64,
}

impl CpuTimes {
    /// Reads the machine's counters now.
    ///
    /// # Errors
    /// When `/proc/stat` can't be read or doesn't look as documented.
    pub fn now() -> io::Result<Self> {
        Self::read(Path::new("/proc"))
    }

    /// Reads the counters of the machine whose `/proc` is mounted at `proc`.
    ///
    /// # Errors
    /// When its `stat` can't be read or doesn't look as documented.
    pub fn read(proc: &Path) -> io::Result<Self> {
        // The first line is all that is wanted of a file whose size the kernel doesn't tell.
        let mut first = [0; 512];
        let length = File::open(proc.join("stat"))?.read(&mut first)?;
        Self::parse(&String::from_utf8_lossy(&first[..length]))
            .ok_or_else(|| io::Error::other("/proc/stat has no cpu line"))
    }

    /// Reads the counters out of the text of `/proc/stat`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields =
            text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || fields.next().and_then(Result::ok);
        let (user, nice, system, idle, iowait) = (next()?, next()?, next()?, next()?, next()?);
        let (irq, softirq) = (next().unwrap_or(0), next().unwrap_or(0));
        Some(Self {
            busy: user + nice + system + irq + softirq,
            steal: next().unwrap_or(0),
            idle: idle + iowait,
        })
    }

    /// The shares of the time since `earlier`; `None` when no tick has passed.
    pub fn since(&self, earlier: &Self) -> Option<CpuShare> {
        let busy = self.busy.saturating_sub(earlier.busy) as f64;
        let steal = self.steal.saturating_sub(earlier.steal) as f64;
        let total = busy + steal + self.idle.saturating_sub(earlier.idle) as f64;
        (total > 0.0).then(|| CpuShare { busy_pct: 100.0 * busy / total, steal_pct: 100.0 * steal / total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_leaves_out_idle_iowait_and_steal() {
        let times = CpuTimes::parse("cpu  10 20 30 400 5 6 7 80 3 2\ncpu0 1 2 3\n").unwrap();
        assert_eq!(times, CpuTimes { busy: 10 + 20 + 30 + 6 + 7, steal: 80, idle: 405 });
    }

    #[test]
    fn shares_are_of_all_the_time_that_passed() {
        let before = CpuTimes { busy: 100, steal: 0, idle: 0 };
        let after = CpuTimes { busy: 150, steal: 25, idle: 25 };
        assert_eq!(after.since(&before), Some(CpuShare { busy_pct: 50.0, steal_pct: 25.0 }));
        assert_eq!(after.since(&after), None);
    }

    #[test]
    fn what_is_no_stat_file_is_none() {
        assert_eq!(CpuTimes::parse(""), None);
        assert_eq!(CpuTimes::parse("cpu  1 2 x"), None);
    }
}
