//! What the fault record asks `/health` to show. The file is looked at often and read only when it changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::board::Shown;
use crate::fault::record::{Mode, Record};
use crate::sys::clock;

/// The record as last read.
#[derive(Debug)]
pub(super) struct Injected {
    state: PathBuf,
    seen: Option<Stamp>,
    record: Option<Record>,
    error: Option<String>,
    boot_id: String,
}

/// Tells two contents of the file apart without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Injected {
    pub(super) fn new(state: &Path) -> Self {
        let boot_id = clock::boot_id().unwrap_or_default();
        Self { state: state.to_owned(), seen: None, record: None, error: None, boot_id }
    }

    /// Looks at the file; says whether something changed.
    pub(super) fn look(&mut self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let stamp = std::fs::symlink_metadata(Record::path(&self.state))
            .ok()
            .map(|m| Stamp { inode: m.ino(), changed: (m.ctime(), m.ctime_nsec()) });
        if stamp == self.seen {
            return false;
        }
        self.seen = stamp;
        (self.record, self.error) = match Record::read(&self.state) {
            Ok(record) => (record, None),
            Err(e) => {
                tracing::error!("{e}; it asks for nothing as long as it can't be read");
                (None, Some(e.to_string()))
            }
        };
        true
    }

    /// The record and how long it still counts, `None` past its deadline.
    pub(super) fn active(&self, since_boot: Duration) -> Option<(&Record, Duration)> {
        let record = self.record.as_ref()?;
        Some((record, record.remaining(since_boot, &self.boot_id)?))
    }

    /// The record, past its deadline or not.
    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// Why the record can't be known.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// What `/health` shows, and until when (since boot).
    pub(super) fn shown(&self, since_boot: Duration) -> Option<(Shown, Duration)> {
        let (record, left) = self.active(since_boot)?;
        let shown = match record.mode {
            Mode::Unhealthy => Shown::Unhealthy,
            Mode::Slow => Shown::Slow(Duration::from_millis(record.delay_ms?)),
            _ => return None,
        };
        Some((shown, since_boot + left))
    }
}
