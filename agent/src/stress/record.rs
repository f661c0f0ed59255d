//! The record of a running stress, one file a run, for `agent serve`'s status and metrics: it needs no socket, and
//! it is gone with the process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::{Aim, Plan};
use crate::sys::clock::{boot_id, rfc3339, since_boot};
use crate::sys::held::Held;

const FOLDER: &str = "stress";
/// A record is a few hundred bytes.
const MAX_BYTES: u64 = 4096;
/// More runs at once are no use to anybody.
const MOST_RUNS: usize = 64;

/// A stress that runs now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// The process.
    pub pid: u32,
    /// Who started it.
    pub who: String,
    /// How many threads burn.
    pub workers: u32,
    /// The share of one CPU that each worker shall use at most, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_pct: Option<f64>,
    /// The share of the host that shall be busy, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_pct: Option<f64>,
    /// When it started, RFC 3339.
    pub started: String,
    /// The boot in which the deadline counts.
    pub boot_id: String,
    /// The end, as milliseconds of `CLOCK_BOOTTIME`; none: until it is interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_boottime_ms: Option<u64>,
}

/// Why a run couldn't be put on record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write {}: {message}", path.display())]
pub struct RecordError {
    /// The record's file.
    pub path: PathBuf,
    /// What the system said.
    pub message: String,
}

impl Running {
    /// This process, about to follow `plan`.
    pub fn of(plan: &Plan, who: String) -> Self {
        let peak = Some(100.0 * plan.aim.curve().peak());
        let (load_pct, target_pct) = match plan.aim {
            Aim::Load(_) => (peak, None),
            Aim::Target(_) => (None, peak),
        };
        let deadline = plan.secs.map(|secs| since_boot() + secs);
        Self {
            pid: std::process::id(),
            who,
            workers: plan.workers,
            load_pct,
            target_pct,
            started: rfc3339(jiff::Timestamp::now()),
            boot_id: boot_id().unwrap_or_default(),
            deadline_boottime_ms: deadline.and_then(|d| u64::try_from(d.as_millis()).ok()),
        }
    }

    /// How long it still has at `now` (since boot); `None` without a deadline.
    pub fn remaining(&self, now: Duration) -> Option<Duration> {
        self.deadline_boottime_ms.map(|ms| Duration::from_millis(ms).saturating_sub(now))
    }

    /// Puts it on record below the folder `run`, for as long as the returned value lives, and this process.
    ///
    /// # Errors
    /// When the folder can't be made or written.
    pub fn hold(&self, run: &Path) -> Result<Held, RecordError> {
        let folder = run.join(FOLDER);
        let path = folder.join(format!("{}.json", self.pid));
        let written = fs::create_dir_all(&folder)
            .and_then(|()| serde_json::to_vec(self).map_err(io::Error::other))
            .and_then(|bytes| Held::create(&path, &bytes));
        written.map_err(|e| RecordError { path, message: e.to_string() })
    }
}

/// The stresses that run now, by their records below the folder `run`, the oldest first. What can't be read or
/// trusted counts for nothing: it is only shown.
pub fn read(run: &Path) -> Vec<Running> {
    let Ok(entries) = fs::read_dir(run.join(FOLDER)) else { return Vec::new() };
    let records =
        entries.flatten().map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    let mut all: Vec<Running> = records
        .take(MOST_RUNS)
        .filter_map(|path| serde_json::from_slice(&Held::read(&path, MAX_BYTES).ok()??).ok())
        .collect();
    all.sort_by(|a, b| (&a.started, a.pid).cmp(&(&b.started, b.pid)));
    all
}

#[cfg(test)]
mod tests {
    use super::super::curve::Curve;
    use super::super::plan::{Of, Priority};
    use super::*;

    fn running() -> Running {
        let secs = Some(Duration::from_secs(60));
        let aim = Aim::Target(Curve::constant(0.7));
        Running::of(
            &Plan {
                workers: 2,
                secs,
                aim,
                explicit: true,
                exact: false,
                priority: Priority::Idle,
                of: Of::Host,
            },
            "ec2-user".into(),
        )
    }

    #[test]
    fn a_run_is_on_record_while_it_lasts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), []);
        let held = running().hold(dir.path()).unwrap();
        let all = read(dir.path());
        assert_eq!((all[0].target_pct, all[0].load_pct, all[0].who.as_str()), (Some(70.0), None, "ec2-user"));
        let left = all[0].remaining(since_boot()).unwrap();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60));
        drop(held);
        assert_eq!(read(dir.path()), []);
    }

    #[test]
    fn garbage_and_dead_records_count_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("1.json"), serde_json::to_vec(&running()).unwrap()).unwrap();
        let _held = Held::create(&folder.join("2.json"), b"{\"pid\":").unwrap();
        assert_eq!(read(dir.path()), []);
    }

    #[test]
    fn a_run_without_a_deadline_has_no_remaining_time() {
        assert_eq!(Running { deadline_boottime_ms: None, ..running() }.remaining(Duration::ZERO), None);
        assert_eq!(running().remaining(Duration::from_secs(1 << 40)), Some(Duration::ZERO));
    }
}
