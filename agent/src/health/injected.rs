//! What the fault record asks `/health` to show. The kernel tells when the file changes (inotify(7)); it is looked at
//! every few seconds all the same, and read only when it changed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::board::Shown;
use crate::fault::Snapshot;
use crate::fault::record::{Fault, Record};
use crate::sys::clock;

/// The folder may have been replaced behind the watch.
const WATCH_AGAIN: Duration = Duration::from_secs(5);

/// Device and inode.
type FolderId = (u64, u64);

/// The record as last read.
#[derive(Debug)]
pub(super) struct Injected {
    state: PathBuf,
    seen: Option<Stamp>,
    record: Option<Record>,
    error: Option<String>,
    boot_id: String,
    watch: Option<(OwnedFd, FolderId)>,
    watched_at: Instant,
}

/// Tells two contents of the file apart without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Injected {
    /// The record in the folder `state`, in the boot that `proc` tells.
    pub(super) fn new(state: &Path, proc: &Path, now: Instant) -> Self {
        let boot_id = clock::boot_id_of(proc).unwrap_or_default();
        let watch = folder_id(state).and_then(|folder| Some((watch(state)?, folder)));
        let state = state.to_owned();
        Self { state, seen: None, record: None, error: None, boot_id, watch, watched_at: now }
    }

    /// What to poll: readable when something in the folder changed.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|(fd, _)| fd.as_fd())
    }

    /// Whether to look though the kernel told nothing: the folder isn't there yet or may be another one by now, or
    /// there are no watches left.
    pub(super) fn wants_a_look(&self, now: Instant) -> bool {
        self.watch.is_none() || now.saturating_duration_since(self.watched_at) > WATCH_AGAIN
    }

    /// Looks at the file; says whether something changed.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        if let Some((watch, _)) = &self.watch {
            while rustix::io::read(watch, &mut [0_u8; 4096]).is_ok_and(|n| n > 0) {}
        }
        if self.wants_a_look(now) {
            self.watched_at = now;
            let folder = folder_id(&self.state);
            if self.watch.as_ref().map(|(_, watched)| *watched) != folder {
                self.watch = folder.and_then(|folder| Some((watch(&self.state)?, folder)));
            }
        }
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

    /// The fault on record, past its deadline or not.
    pub(super) fn snapshot(&self, since_boot: Duration) -> Option<Snapshot> {
        self.record.as_ref().map(|record| Snapshot::of(record, since_boot, &self.boot_id))
    }

    /// Why the record can't be known.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// What `/health` shows, and until when (since boot).
    pub(super) fn shown(&self, since_boot: Duration) -> Option<(Shown, Duration)> {
        let record = self.record.as_ref()?;
        let left = record.remaining(since_boot, &self.boot_id)?;
        let shown = match record.fault {
            Fault::Unhealthy { .. } => Shown::Unhealthy,
            Fault::Slow { delay, .. } => Shown::Slow(delay),
            _ => return None,
        };
        Some((shown, since_boot + left))
    }
}

fn folder_id(folder: &Path) -> Option<FolderId> {
    std::fs::metadata(folder).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn watch(folder: &Path) -> Option<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    let what = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE | WatchFlags::MOVED_FROM;
    inotify::add_watch(&watch, folder, what | WatchFlags::ONLYDIR).ok()?;
    Some(watch)
}
