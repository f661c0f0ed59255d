//! The fault on record, for `status` and metrics.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::lease::record::{Mode, Phase, Record};

/// The fault of this machine, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// What was done.
    pub mode: Mode,
    /// How far it has come.
    pub phase: Phase,
    /// When it was started, RFC 3339.
    pub started: String,
    /// Who started it.
    pub by: String,
    /// How long it still lasts; 0 for one that is overdue and not recovered yet.
    pub remaining_ms: u64,
    /// Whether its deadline has passed: nobody was there to end it, or nginx doesn't come back.
    pub overdue: bool,
    /// The master that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

impl Snapshot {
    /// What `record` says at `now` (since boot) in the boot `boot_id`.
    pub fn of(record: &Record, now: Duration, boot_id: &str) -> Self {
        let left = record.time_left(now, boot_id);
        Self {
            mode: record.mode(),
            phase: record.phase,
            remaining_ms: left.map_or(0, |l| u64::try_from(l.as_millis()).unwrap_or(u64::MAX)),
            overdue: left.is_none(),
            pid: record.target().map(|t| t.master.pid),
            started: record.started.clone(),
            by: record.by.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_past_its_deadline_is_overdue_and_not_gone() {
        let text = r#"{"mode":"unhealthy","boot_id":"b","deadline_boottime_ms":5000,"by":"root"}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        let at = |secs, boot| Snapshot::of(&record, Duration::from_secs(secs), boot);
        assert_eq!((at(2, "b").remaining_ms, at(2, "b").overdue), (3000, false));
        assert_eq!((at(5, "b").remaining_ms, at(5, "b").overdue), (0, true));
        assert!(at(2, "another boot").overdue);
    }
}
