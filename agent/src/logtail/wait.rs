//! Waits until there may be something new: inotify on the log's folder and on the files that are being followed, and
//! a poll of a second as a net, alone where inotify has no watches left or the file system tells nothing
//! (inotify(7)).

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::Tail;
use super::follower::FileId;
use super::siblings;

/// No look comes sooner after another: a log of thousands of lines a second is read in bites.
const COALESCE: Duration = Duration::from_millis(8);
/// The net.
pub const POLL: Duration = Duration::from_secs(1);

/// An event and the longest name (inotify(7)).
const LARGEST_EVENT: usize = 16 + 255 + 1;

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
    last: Instant,
}

impl Default for Waiter {
    fn default() -> Self {
        Self { inotify: None, watched: Watched::default(), changes: None, last: Instant::now() }
    }
}

impl Waiter {
    /// Waits for at most `limit` (and a second) for a change of the logs, or until one of `others` can be read; says
    /// for each of them whether it can.
    pub fn wait(&mut self, tails: &[&Tail], others: &[BorrowedFd<'_>], limit: Duration) -> Vec<bool> {
        let news = !tails.is_empty() && self.arm(tails);
        // With new watches something may have happened before they were there.
        let limit = if news { COALESCE } else { limit.min(POLL) };
        let timeout =
            Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: i64::from(limit.subsec_nanos()) };
        let mut fds: Vec<PollFd<'_>> =
            others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        fds.extend(self.inotify.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        if poll(&mut fds, Some(&timeout)).is_err() {
            std::thread::sleep(COALESCE); // interrupted, or out of memory: never a reason to spin
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if let Some(rest) = COALESCE.checked_sub(self.last.elapsed()) {
            std::thread::sleep(rest);
        }
        self.last = Instant::now();
        if ready.get(others.len()) == Some(&true) {
            self.drain();
        }
        ready.get(..others.len()).unwrap_or_default().to_vec()
    }

    /// Throws the events away: that there was one is all we want to know.
    fn drain(&self) {
        let Some(fd) = &self.inotify else { return };
        let mut buffer = [MaybeUninit::<u8>::uninit(); 16 << 10];
        for _ in 0..64 {
            // With room for another event, whatever its name, there was none.
            match rustix::io::read(fd, &mut buffer) {
                Ok((_, rest)) if rest.len() < LARGEST_EVENT => {}
                _ => return,
            }
        }
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
        let Some(fd) = &self.inotify else { return true };
        let names = WatchFlags::CREATE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        for (folder, _) in &self.watched.folders {
            let _ = inotify::add_watch(fd, folder.as_path(), names);
        }
        for generation in tails.iter().flat_map(|tail| &tail.generations) {
            let by_descriptor = format!("/proc/self/fd/{}", generation.file.as_raw_fd());
            let _ = inotify::add_watch(fd, by_descriptor.as_str(), WatchFlags::MODIFY);
        }
        true
    }
}
