//! The machine's pressure: disk, memory, CPU. Sampled in a thread of its own, as a hung file system hangs whoever
//! asks it; it never fails the target, it only warns.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_timerslack;
use tokio::sync::watch;

use crate::sys::cpu::{CpuShare, CpuTimes};
use crate::sys::memory;

/// How often.
const EVERY: Duration = Duration::from_secs(20);
/// How late is no matter.
const SLACK_NS: u64 = 1_000_000_000;
/// What is looked at: the log, the state and most likely nginx's files are there.
const DISK: &str = "/";

/// What was found last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostSample {
    /// When it was found.
    pub at: Instant,
    /// Used space of the root file system, in percent of what users may use; `None` where it can't be told.
    pub disk_used_pct: Option<f64>,
    /// Used memory in percent, caches not counted.
    pub memory_used_pct: Option<f64>,
    /// Busy and steal since the sample before.
    pub cpu: Option<CpuShare>,
    /// How long before that was.
    pub over: Duration,
}

/// Samples until the returned sender is dropped; `proc` is where `/proc` is mounted.
pub(super) fn start(proc: &Path) -> std::io::Result<(watch::Receiver<Option<HostSample>>, Sender<()>)> {
    let (publish, samples) = watch::channel(None);
    let (stop, stopped) = channel();
    let mut host = Host::new(proc);
    std::thread::Builder::new().name("host".into()).stack_size(128 << 10).spawn(move || {
        let _ = set_timerslack(SLACK_NS);
        // The first CPU share needs some time between two readings.
        let mut wait = Duration::from_secs(1);
        loop {
            publish.send_replace(Some(host.sample(Instant::now())));
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            wait = EVERY;
        }
    })?;
    Ok((samples, stop))
}

/// The last reading of the CPU counters.
struct Host {
    proc: PathBuf,
    before: Option<CpuTimes>,
    read_at: Instant,
}

impl Host {
    fn new(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), before: CpuTimes::read(proc).ok(), read_at: Instant::now() }
    }

    fn sample(&mut self, at: Instant) -> HostSample {
        let now = CpuTimes::read(&self.proc).ok();
        let cpu = now.zip(self.before).and_then(|(now, before)| now.since(&before));
        self.before = now.or(self.before);
        let over = at.saturating_duration_since(std::mem::replace(&mut self.read_at, at));
        let memory_used_pct = memory::used_pct(&self.proc);
        HostSample { at, disk_used_pct: disk_used_pct(), memory_used_pct, cpu, over }
    }
}

/// As df(1) counts: of what is there for users, the blocks reserved for root left out.
fn disk_used_pct() -> Option<f64> {
    let stat = rustix::fs::statvfs(DISK).ok()?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree) as f64;
    let total = used + stat.f_bavail as f64;
    (total > 0.0).then(|| 100.0 * used / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_disk_and_memory_in_use() {
        let sample = Host::new(Path::new("/proc")).sample(Instant::now());
        for pct in [sample.disk_used_pct.unwrap(), sample.memory_used_pct.unwrap()] {
            assert!((0.0..=100.0).contains(&pct) && pct > 0.0, "{pct}");
        }
    }

    #[test]
    fn cpu_is_of_the_time_between_two_samples() {
        let proc = tempfile::tempdir().unwrap();
        let stat = |user, idle| {
            std::fs::write(proc.path().join("stat"), format!("cpu  {user} 0 0 {idle} 0\n")).unwrap()
        };
        stat(100, 100);
        let mut host = Host::new(proc.path());
        let later = host.read_at + Duration::from_secs(20);
        stat(175, 125);
        let sample = host.sample(later);
        assert_eq!((sample.cpu.unwrap().busy_pct, sample.over), (75.0, Duration::from_secs(20)));
        assert_eq!(sample.memory_used_pct, None, "there is no meminfo");
        std::fs::remove_file(proc.path().join("stat")).unwrap();
        assert_eq!(host.sample(later).cpu, None);
    }
}
