//! Waits until there may be something new: inotify on the log's folder and on the files that are being followed, and
//! a poll of a second as a net, alone where inotify has no watches left or the file system tells nothing
//! (inotify(7)).

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::Tail;
use super::follower::FileId;
use super::siblings;

/// No look comes sooner after another: a log of thousands of lines a second is read in bites.
const COALESCE: Duration = Duration::from_millis(8);
/// The same where looks are dear, as on a slow or busy machine: they take one part in so many of a CPU, as long as that
/// leaves them no rarer than this. An arrival is told to 50 ms.
const SHARE: u32 = 250;
const RARE: Duration = Duration::from_millis(40);
/// The net.
pub const POLL: Duration = Duration::from_secs(1);

/// An event and the longest name (inotify(7)), and what a read of events takes.
const LARGEST_EVENT: usize = 16 + 255 + 1;
const EVENTS: usize = 4 << 10;
/// As many are looked at, far above what the kernel holds (`/proc/sys/fs/inotify/max_queued_events`).
const MOST_EVENTS: usize = 1 << 17;

/// What is known to have happened while we waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum News {
    /// Nothing was told; there may be anything all the same.
    #[default]
    None,
    /// An event told of something.
    Something,
    /// Files that are followed were written to, and nothing else: no name has changed.
    Writes,
}

/// What has to be watched; a change of it means new watches.
#[derive(Debug, Default, PartialEq, Eq)]
struct Watched {
    folders: Vec<(PathBuf, Option<FileId>)>,
    files: Vec<FileId>,
}

/// Waits for the files of [`Tail`]s to change.
#[derive(Debug)]
pub struct Waiter {
    inotify: Option<OwnedFd>,
    watched: Watched,
    /// The tails' changes when the watches were put.
    changes: Option<u64>,
    /// Every watch could be put.
    complete: bool,
    last: Instant,
    /// When we last said something else than that files were written to.
    asked_for_all: Instant,
    /// Lines come all the time.
    busy: bool,
    /// No look comes sooner after another, by default and now.
    least: Duration,
    coalesce: Duration,
    /// What this thread had taken of a CPU when it last waited.
    used: Duration,
    /// So often all is looked at, whatever the events tell.
    all_every: Duration,
}

impl Default for Waiter {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            inotify: None,
            watched: Watched::default(),
            changes: None,
            complete: false,
            last: now,
            asked_for_all: now,
            busy: false,
            least: COALESCE,
            coalesce: COALESCE,
            used: used(),
            all_every: POLL,
        }
    }
}

impl Waiter {
    /// One that never waits, and relies on events alone.
    #[cfg(test)]
    pub(super) fn eager() -> Self {
        Self { least: Duration::ZERO, coalesce: Duration::ZERO, all_every: Duration::MAX, ..Self::default() }
    }

    /// Waits for at most `limit` (and a second) for a change of the logs, or until one of `others` can be read; says
    /// what happened to the logs, and for each of the others whether it can.
    pub fn wait(&mut self, tails: &[&Tail], others: &[BorrowedFd<'_>], limit: Duration) -> (News, Vec<bool>) {
        let armed = !tails.is_empty() && self.arm(tails);
        self.pace();
        // With new watches something may have happened before they were there.
        let limit = if armed { self.coalesce } else { limit.min(POLL) };
        // Where lines come all the time, waiting for the next one would only be one more time to wake up.
        if std::mem::take(&mut self.busy) {
            self.pause(limit);
        }
        let timeout =
            Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: i64::from(limit.subsec_nanos()) };
        let mut fds: Vec<PollFd<'_>> =
            others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        fds.extend(self.inotify.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        if poll(&mut fds, Some(&timeout)).is_err() {
            std::thread::sleep(self.coalesce); // interrupted, or out of memory: never a reason to spin
        }
        let mut ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let told = ready.len() > others.len() && ready.pop() == Some(true);
        let since = self.last.elapsed();
        self.pause(self.coalesce);
        // Lines that come so soon after a look come all the time.
        self.busy = told && since < self.coalesce * 2;
        self.last = Instant::now();
        (self.news(told && !armed, told), ready)
    }

    /// Finds how far looks must be apart, by what the last ones took.
    fn pace(&mut self) {
        let now = used();
        let took = now.saturating_sub(std::mem::replace(&mut self.used, now));
        if !self.least.is_zero() {
            let wanted = (took * SHARE).clamp(self.least, RARE);
            self.coalesce = (self.coalesce * 7 + wanted) / 8;
        }
    }

    /// Sleeps until a look may come, and for no longer than `limit`.
    fn pause(&self, limit: Duration) {
        if let Some(rest) = self.coalesce.checked_sub(self.last.elapsed()) {
            std::thread::sleep(rest.min(limit));
        }
    }

    /// What the events told.
    fn news(&mut self, trusted: bool, told: bool) -> News {
        if !told {
            self.asked_for_all = self.last;
            return News::None;
        }
        let only_writes = self.drain();
        if only_writes && trusted && self.complete && self.last - self.asked_for_all < self.all_every {
            return News::Writes;
        }
        self.asked_for_all = self.last;
        News::Something
    }

    /// Reads all events; whether each of them told of a write to a file, and of nothing else.
    fn drain(&self) -> bool {
        let Some(fd) = &self.inotify else { return false };
        let mut buffer = [MaybeUninit::<u8>::uninit(); EVENTS];
        let mut events = inotify::Reader::new(fd, &mut buffer);
        let (mut only_writes, mut of_this_read) = (true, 0);
        for _ in 0..MOST_EVENTS {
            // With room for another event, whatever its name, there was none.
            if of_this_read > 0 && events.is_buffer_empty() {
                if of_this_read < EVENTS / LARGEST_EVENT {
                    return only_writes;
                }
                of_this_read = 0;
            }
            match events.next() {
                Ok(event) => only_writes &= event.events() == ReadFlags::MODIFY,
                Err(_) => return only_writes,
            }
            of_this_read += 1;
        }
        false
    }

    /// Puts the watches where they are needed now; whether that changed anything.
    fn arm(&mut self, tails: &[&Tail]) -> bool {
        let changes = tails.iter().map(|tail| tail.changes).sum();
        if self.changes.replace(changes) == Some(changes) {
            return false;
        }
        let id = |path: &PathBuf| std::fs::metadata(path).ok().map(|meta| FileId::of(&meta));
        let mut folders: Vec<PathBuf> =
            tails.iter().flat_map(|tail| siblings::folders(tail.path())).collect();
        folders.sort();
        folders.dedup();
        let wanted = Watched {
            folders: folders.into_iter().map(|path| (path.clone(), id(&path))).collect(),
            files: tails.iter().flat_map(|tail| &tail.generations).map(|g| g.id).collect(),
        };
        if wanted == self.watched {
            return false;
        }
        self.watched = wanted;
        self.inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        self.complete = self.inotify.is_some();
        let Some(fd) = &self.inotify else { return true };
        let names = WatchFlags::CREATE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        for (folder, _) in &self.watched.folders {
            self.complete &= inotify::add_watch(fd, folder.as_path(), names).is_ok();
        }
        for generation in tails.iter().flat_map(|tail| &tail.generations) {
            let by_descriptor = format!("/proc/self/fd/{}", generation.file.as_raw_fd());
            self.complete &= inotify::add_watch(fd, by_descriptor.as_str(), WatchFlags::MODIFY).is_ok();
        }
        true
    }
}

/// What this thread has taken of a CPU (`CLOCK_THREAD_CPUTIME_ID`).
fn used() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}
