//! How busy the host was between two looks at `/proc/stat`.
//!
//! Busy is what is neither idle nor stolen, as the hypervisor sees it and CloudWatch counts it. The kernel keeps idle
//! time to the nanosecond (tick-less kernels, `kernel/time/tick-sched.c`) and reports it in ticks of 10 ms, while it
//! only samples user and system time at its ticks, which a load in short slices deceives.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::Instant;

use crate::sys::cpu::CpuTimes;

/// `USER_HZ`, the unit of `/proc/stat`, on x86 and Arm (proc_stat(5)).
const TICKS_A_SECOND: f64 = 100.0;

/// CPU seconds, summed over all CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Share {
    /// Spent running anything.
    pub busy: f64,
    /// Withheld by the hypervisor.
    pub steal: f64,
    /// All there was: CPUs times elapsed time.
    pub total: f64,
}

impl Share {
    /// Busy in percent of all.
    pub fn busy_pct(&self) -> f64 {
        percent(self.busy, self.total)
    }

    /// Steal in percent of all.
    pub fn steal_pct(&self) -> f64 {
        percent(self.steal, self.total)
    }

    /// The part `of` of it.
    pub fn scaled(&self, of: f64) -> Self {
        Self { busy: self.busy * of, steal: self.steal * of, total: self.total * of }
    }
}

impl std::ops::AddAssign for Share {
    fn add_assign(&mut self, other: Self) {
        self.busy += other.busy;
        self.steal += other.steal;
        self.total += other.total;
    }
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { 100.0 * part / whole } else { 0.0 }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    at: Instant,
    idle: f64,
    steal: f64,
    /// CPUs that were online.
    pub cpus: u32,
}

impl Reading {
    /// Reads the text of `/proc/stat`, as it was at `at`.
    pub fn parse(text: &str, at: Instant) -> Option<Self> {
        let times = CpuTimes::parse(text)?;
        let cpus = text.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
        Some(Self {
            at,
            idle: times.idle as f64 / TICKS_A_SECOND,
            steal: times.steal as f64 / TICKS_A_SECOND,
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX).max(1),
        })
    }

    /// Seconds since `earlier`.
    pub fn secs_since(&self, earlier: &Self) -> f64 {
        self.at.saturating_duration_since(earlier.at).as_secs_f64()
    }

    /// What became of the CPU time since `earlier`.
    pub fn since(&self, earlier: &Self) -> Share {
        let total = self.secs_since(earlier) * f64::from(self.cpus);
        let steal = (self.steal - earlier.steal).clamp(0.0, total);
        let idle = (self.idle - earlier.idle).max(0.0);
        Share { busy: (total - idle - steal).max(0.0), steal, total }
    }
}

/// `/proc/stat`, kept open.
#[derive(Debug)]
pub struct Stat {
    file: File,
    text: String,
}

impl Stat {
    /// # Errors
    /// When `/proc` isn't mounted.
    pub fn open() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/stat")?, text: String::new() })
    }

    /// The counters now.
    ///
    /// # Errors
    /// When they can't be read or don't look as documented.
    pub fn read(&mut self) -> io::Result<Reading> {
        self.text.clear();
        self.file.rewind()?;
        self.file.read_to_string(&mut self.text)?;
        Reading::parse(&self.text, Instant::now())
            .ok_or_else(|| io::Error::other("/proc/stat has no cpu line"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn reading(at: Instant, idle: u64, iowait: u64, steal: u64) -> Reading {
        let text = format!("cpu  9 9 9 {idle} {iowait} 9 9 {steal} 0 0\ncpu0 1\ncpu1 1\nintr 1\n");
        Reading::parse(&text, at).unwrap()
    }

    #[test]
    fn busy_is_what_is_neither_idle_nor_stolen() {
        let start = Instant::now();
        let before = reading(start, 1000, 100, 10);
        let after = reading(start + Duration::from_secs(1), 1080, 120, 30);
        let share = after.since(&before);
        assert_eq!((before.cpus, share.total), (2, 2.0));
        assert!((share.busy_pct() - 40.0).abs() < 1e-9 && (share.steal_pct() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn counters_that_run_backwards_never_make_a_negative_share() {
        let start = Instant::now();
        let (before, after) =
            (reading(start, 1000, 100, 10), reading(start + Duration::from_secs(1), 1300, 90, 5));
        assert_eq!(after.since(&before).busy, 0.0);
        assert_eq!(before.since(&before).busy_pct(), 0.0);
    }

    #[test]
    fn the_kernel_can_be_read() {
        let mut stat = Stat::open().unwrap();
        let (first, second) = (stat.read().unwrap(), stat.read().unwrap());
        assert!(second.secs_since(&first) >= 0.0 && first.cpus >= 1);
    }
}
