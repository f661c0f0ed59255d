//! The machine's pressure: disk, memory, CPU. Sampled in a thread of its own, as a hung file system hangs whoever
//! asks it; it never fails the target, it only warns.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_timerslack;
use sysinfo::System;
use tokio::sync::watch;

use crate::sys::cpu::{CpuShare, CpuTimes};

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

/// Samples until the returned sender is dropped.
pub(super) fn start() -> std::io::Result<(watch::Receiver<Option<HostSample>>, Sender<()>)> {
    let (publish, samples) = watch::channel(None);
    let (stop, stopped) = channel();
    std::thread::Builder::new().name("host".into()).stack_size(128 << 10).spawn(move || {
        let _ = set_timerslack(SLACK_NS);
        let mut system = System::new();
        let mut before = CpuTimes::now().ok();
        let mut read_at = Instant::now();
        // The first CPU share needs some time between two readings.
        let mut wait = Duration::from_secs(1);
        loop {
            let now = CpuTimes::now().ok();
            let over = std::mem::replace(&mut read_at, Instant::now()).elapsed();
            let cpu = now.zip(before).and_then(|(now, before)| now.since(&before));
            before = now.or(before);
            publish.send_replace(Some(HostSample {
                at: Instant::now(),
                disk_used_pct: disk_used_pct(),
                memory_used_pct: memory_used_pct(&mut system),
                cpu,
                over,
            }));
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            wait = EVERY;
        }
    })?;
    Ok((samples, stop))
}

/// As df(1) counts: of what is there for users, the blocks reserved for root left out.
fn disk_used_pct() -> Option<f64> {
    let stat = rustix::fs::statvfs(DISK).ok()?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree) as f64;
    let total = used + stat.f_bavail as f64;
    (total > 0.0).then(|| 100.0 * used / total)
}

fn memory_used_pct(system: &mut System) -> Option<f64> {
    system.refresh_memory();
    let (total, available) = (system.total_memory(), system.available_memory());
    (total > 0).then(|| 100.0 - 100.0 * available as f64 / total as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_disk_and_memory_in_use() {
        for pct in [disk_used_pct().unwrap(), memory_used_pct(&mut System::new()).unwrap()] {
            assert!((0.0..=100.0).contains(&pct) && pct > 0.0, "{pct}");
        }
    }
}
