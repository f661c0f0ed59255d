//! The fault on record: written by root before anything is touched, read by whoever must end or honour it.
//! World-readable, root-owned, replaced as a whole; past its deadline it counts for nothing but recovery.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys::file;

/// A record is a few hundred bytes; what is larger isn't ours.
const MAX_BYTES: u64 = 64 << 10;

/// How nginx is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// nginx is stopped gracefully.
    Stop,
    /// nginx is killed, master and workers.
    Crash,
    /// Only `/health` says 503.
    Unhealthy,
    /// `/health` answers late.
    Slow,
}

/// A fault and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was done.
    pub mode: Mode,
    /// The boot in which the deadline counts; a reboot ends every fault.
    pub boot_id: String,
    /// The end, as milliseconds of `CLOCK_BOOTTIME`.
    pub deadline_boottime_ms: u64,
    /// `slow`: how late `/health` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

/// Why the record can't be known. Never to be taken for "no fault".
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file can't be read or trusted.
    #[error("cannot read the fault record {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file isn't a record.
    #[error("the fault record {} cannot be understood: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

impl Record {
    /// The record's file in the state folder.
    pub fn path(state: &Path) -> PathBuf {
        state.join("fault.json")
    }

    /// The fault on record, past its deadline or not; `None` where there is no file.
    ///
    /// # Errors
    /// When there is one that can't be read, trusted or understood.
    pub fn read(state: &Path) -> Result<Option<Self>, RecordError> {
        let path = Self::path(state);
        let bytes = file::read_trusted(&path, MAX_BYTES)
            .map_err(|source| RecordError::Read { path: path.clone(), source })?;
        bytes
            .map(|b| serde_json::from_slice(&b).map_err(|source| RecordError::Parse { path, source }))
            .transpose()
    }

    /// How long the fault still lasts at `now` (since boot) in the boot `boot_id`; `None` when it is over.
    pub fn remaining(&self, now: Duration, boot_id: &str) -> Option<Duration> {
        let left = Duration::from_millis(self.deadline_boottime_ms).checked_sub(now)?;
        (self.boot_id == boot_id && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record { mode: Mode::Slow, boot_id: "b".into(), deadline_boottime_ms: 5000, delay_ms: Some(10) }
    }

    #[test]
    fn a_fault_ends_at_its_deadline_and_with_a_reboot() {
        let at = |s, boot: &str| record().remaining(Duration::from_secs(s), boot);
        assert_eq!(at(4, "b"), Some(Duration::from_secs(1)));
        assert_eq!(at(5, "b"), None);
        assert_eq!(at(9, "b"), None);
        assert_eq!(at(1, "another"), None);
    }

    #[test]
    fn a_record_that_is_no_record_is_an_error_and_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Record::read(dir.path()).unwrap().is_none());
        let path = Record::path(dir.path());
        file::replace(&path, &serde_json::to_vec(&record()).unwrap(), 0o644).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record()));
        file::replace(&path, b"{\"mode\":", 0o644).unwrap();
        assert!(matches!(Record::read(dir.path()), Err(RecordError::Parse { .. })));
        file::replace(&path, b"{}", 0o666).unwrap();
        assert!(matches!(Record::read(dir.path()), Err(RecordError::Read { .. })));
    }
}
