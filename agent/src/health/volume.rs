//! Can this target still write? A server whose volume is frozen, read-only or full goes on answering from memory what it
//! can, and loses the rest. A small write, synced, every three seconds tells; in a thread that may hang with it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::libc::{EINVAL, O_CLOEXEC, O_DIRECT, O_DSYNC, O_NOFOLLOW};
use nix::sys::prctl::set_timerslack;
use serde::Deserialize;
use tokio::sync::watch;

use super::report::Status;
use crate::config::spoken;
use crate::sys::{clock, descriptors};

/// From the start of one write to the next. With [`STALL`], what is frozen is told within 4.8 s.
const EVERY: Duration = Duration::from_secs(3);
/// The same while writes fail.
const RETRY: Duration = Duration::from_secs(1);
/// A write that takes so long has failed. Shorter stalls are a volume's everyday.
const STALL: Duration = Duration::from_millis(1800);
/// What is written: in its place, so that a full volume has room for it, and past the page cache (`O_DIRECT`, open(2)),
/// which makes it the cheapest write that reaches the volume. That takes a block at the address of one.
#[repr(align(4096))]
struct Block([u8; 4096]);
static BLOCK: Block = Block([b'\n'; 4096]);
/// With less space for users (`f_bavail`, statvfs(3)) it is full: the next log line may still find a block, no file does.
const ROOM: u64 = 1 << 20;
/// No write is under way.
const IDLE: u64 = 0;

/// What a volume that can't be written to means (`[health] volume`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Nobody looks.
    Off,
    /// It is told; the target stays healthy.
    Warn,
    /// `/health` fails after `health.fall` failures.
    Fail,
}

/// What is known of the last write.
#[derive(Debug, Clone)]
struct Written {
    /// When it began, since boot.
    began: Duration,
    took: Duration,
    /// Failures in a row up to this one.
    failures: u32,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Outcome {
    Done,
    Failed(String),
    /// It says nothing of the volume: the folder isn't ours to write to.
    Untold(String),
}

/// The volume of the state folder, as it is written to by a thread that ends with this.
#[derive(Debug)]
pub(super) struct Volume {
    policy: Policy,
    fall: u32,
    folder: PathBuf,
    /// When the write that is under way began, in ms since boot.
    began: Arc<AtomicU64>,
    last: watch::Receiver<Option<Written>>,
    _stop: Sender<()>,
}

impl Volume {
    /// Begins to write in `folder`; nothing where nobody wants to know.
    pub(super) fn start(policy: Policy, fall: u32, folder: PathBuf) -> io::Result<Option<Self>> {
        if policy == Policy::Off {
            return Ok(None);
        }
        let began = Arc::new(AtomicU64::new(IDLE));
        let ((publish, last), (stop, stopped)) = (watch::channel(None), channel());
        let writer = Writer { folder: folder.clone(), began: began.clone(), publish };
        std::thread::Builder::new().name("volume".into()).stack_size(64 << 10).spawn(move || {
            let _ = set_timerslack(50_000_000);
            // A thread that hangs outlives the process. The listeners must not: their clients would wait.
            descriptors::leave();
            writer.run(&stopped);
        })?;
        Ok(Some(Self { policy, fall, folder, began, last, _stop: stop }))
    }

    /// What is known at `now`, since boot; nothing before the first write has ended or stalled.
    pub(super) fn check(&self, now: Duration) -> Option<(Status, String)> {
        let last = self.last.borrow();
        let before = last.as_ref().map_or(0, |last| last.failures);
        if let Some(stalled) = self.under_way(now).filter(|stalled| *stalled >= STALL) {
            let more = (stalled - STALL).as_secs() / EVERY.as_secs();
            let failures = before + 1 + u32::try_from(more).unwrap_or(u32::MAX);
            let detail = format!("a write to {} hangs since {}", self.folder.display(), spoken(stalled));
            return Some((self.failed(failures), detail));
        }
        let last = last.as_ref()?;
        let ms = last.took.as_secs_f64() * 1000.0;
        Some(match &last.outcome {
            Outcome::Done => (Status::Pass, format!("a write took {ms:.1} ms")),
            Outcome::Failed(why) => (self.failed(last.failures), format!("{}: {why}", self.folder.display())),
            Outcome::Untold(why) => (Status::Unknown, format!("{}: {why}", self.folder.display())),
        })
    }

    fn failed(&self, failures: u32) -> Status {
        if self.policy == Policy::Fail && failures >= self.fall { Status::Fail } else { Status::Warn }
    }

    /// When, since boot, it may be known that a write stalls.
    pub(super) fn due(&self, now: Duration) -> Duration {
        match self.under_way(now) {
            Some(stalled) if stalled < STALL => now + (STALL - stalled),
            Some(_) => now + RETRY,
            None => self.last.borrow().as_ref().map_or(now, |last| last.began + EVERY) + STALL,
        }
    }

    fn under_way(&self, now: Duration) -> Option<Duration> {
        let began = self.began.load(Ordering::Acquire);
        (began != IDLE).then(|| now.saturating_sub(Duration::from_millis(began)))
    }
}

struct Writer {
    folder: PathBuf,
    began: Arc<AtomicU64>,
    publish: watch::Sender<Option<Written>>,
}

impl Writer {
    fn run(&self, stopped: &std::sync::mpsc::Receiver<()>) {
        let mut failures = 0_u32;
        loop {
            let began = clock::since_boot();
            self.began.store(u64::try_from(began.as_millis()).unwrap_or(1).max(1), Ordering::Release);
            let outcome = write(&self.folder);
            let took = clock::since_boot().saturating_sub(began);
            let outcome = match outcome {
                Outcome::Done if took >= STALL => Outcome::Failed(format!("a write took {}", spoken(took))),
                outcome => outcome,
            };
            failures = if matches!(outcome, Outcome::Failed(_)) { failures.saturating_add(1) } else { 0 };
            self.publish.send_replace(Some(Written { began, took, failures, outcome }));
            self.began.store(IDLE, Ordering::Release);
            let every = if failures > 0 { RETRY } else { EVERY };
            if stopped.recv_timeout(every.saturating_sub(took)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}

/// Opened each time: a file that is open for writing would keep an administrator from making the volume read-only.
fn write(folder: &Path) -> Outcome {
    let open = |new: bool| {
        let flags = O_NOFOLLOW | O_CLOEXEC | O_DSYNC;
        let open = |flags| {
            let mut options = OpenOptions::new();
            options.write(true).create_new(new).mode(0o600).custom_flags(flags).open(folder.join("volume"))
        };
        // Not every file system knows how to pass the cache by.
        open(flags | O_DIRECT)
            .or_else(|e| if e.raw_os_error() == Some(EINVAL) { open(flags) } else { Err(e) })
    };
    let written = || -> io::Result<()> {
        let file = match open(false) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?;
                open(true)?
            }
            file => file?,
        };
        file.write_all_at(&BLOCK.0, 0)
    };
    let room = || rustix::fs::statvfs(folder).map_or(true, |stat| stat.f_bavail * stat.f_frsize >= ROOM);
    match written() {
        Ok(()) if room() => Outcome::Done,
        Ok(()) => Outcome::Failed("less than 1 MiB is left".into()),
        Err(e) if says_nothing(&e) => Outcome::Untold(format!("cannot look: {e}")),
        Err(e) => Outcome::Failed(format!("cannot write: {e}")),
    }
}

/// Errors of permissions and places, which a healthy volume has as well.
fn says_nothing(error: &io::Error) -> bool {
    use nix::libc::{EACCES, EISDIR, ELOOP, ENOENT, ENOTDIR, EPERM};
    error.raw_os_error().is_some_and(|code| [EACCES, EISDIR, ELOOP, ENOENT, ENOTDIR, EPERM].contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(policy: Policy, last: Option<Written>, began: Duration) -> Volume {
        let began = Arc::new(AtomicU64::new(u64::try_from(began.as_millis()).unwrap()));
        let (_, last) = watch::channel(last);
        Volume { policy, fall: 2, folder: "/state".into(), began, last, _stop: channel().0 }
    }

    fn written(failures: u32, outcome: Outcome) -> Option<Written> {
        Some(Written { began: Duration::from_secs(100), took: Duration::from_millis(3), failures, outcome })
    }

    fn status(volume: &Volume, secs: f64) -> Option<Status> {
        volume.check(Duration::from_secs_f64(secs)).map(|(status, _)| status)
    }

    #[test]
    fn a_write_that_hangs_is_a_failure_after_1_8_s_and_another_every_3_s() {
        let hangs = |policy| volume(policy, written(0, Outcome::Done), Duration::from_secs(103));
        assert_eq!(status(&hangs(Policy::Warn), 104.7), Some(Status::Pass));
        assert_eq!(status(&hangs(Policy::Warn), 104.8), Some(Status::Warn));
        assert_eq!(status(&hangs(Policy::Warn), 200.0), Some(Status::Warn));
        assert_eq!(status(&hangs(Policy::Fail), 104.8), Some(Status::Warn));
        assert_eq!(status(&hangs(Policy::Fail), 107.8), Some(Status::Fail));
        let (_, detail) = hangs(Policy::Fail).check(Duration::from_secs(108)).unwrap();
        assert_eq!(detail, "a write to /state hangs since 5 s");
    }

    #[test]
    fn a_write_that_fails_counts_and_one_that_succeeds_ends_it() {
        let failed =
            |n| volume(Policy::Fail, written(n, Outcome::Failed("cannot write".into())), Duration::ZERO);
        assert_eq!(status(&failed(1), 101.0), Some(Status::Warn));
        assert_eq!(status(&failed(2), 101.0), Some(Status::Fail));
        let well = volume(Policy::Fail, written(0, Outcome::Done), Duration::ZERO);
        assert_eq!(well.check(Duration::from_secs(101)), Some((Status::Pass, "a write took 3.0 ms".into())));
        let untold = volume(Policy::Fail, written(0, Outcome::Untold("no".into())), Duration::ZERO);
        assert_eq!(status(&untold, 101.0), Some(Status::Unknown));
        assert_eq!(status(&volume(Policy::Fail, None, Duration::ZERO), 101.0), None);
    }

    #[test]
    fn it_is_looked_at_when_a_stall_could_be_known() {
        let secs = Duration::from_secs_f64;
        assert_eq!(volume(Policy::Warn, None, secs(103.0)).due(secs(104.0)), secs(104.8));
        assert_eq!(
            volume(Policy::Warn, written(0, Outcome::Done), Duration::ZERO).due(secs(101.0)),
            secs(104.8)
        );
    }

    #[test]
    fn a_folder_is_written_to_and_one_that_is_none_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("serve");
        assert!(matches!(write(&folder), Outcome::Done) && matches!(write(&folder), Outcome::Done));
        assert_eq!(std::fs::read(folder.join("volume")).unwrap(), BLOCK.0);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(write(&dir.path().join("file")), Outcome::Untold(_)));
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("volume")).unwrap();
        assert!(matches!(write(dir.path()), Outcome::Untold(_)), "no link is followed");
    }
}
