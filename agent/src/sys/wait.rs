//! Waiting for an instant of `CLOCK_BOOTTIME` (it goes on while the machine is suspended, unlike the clock of
//! poll(2)), for signals and for processes, all at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Those that ask us to end; each is waited for and none ends us by itself.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// Those of job control, which would stop us in the middle of something that has to go on.
const STOPPING: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTOU, Signal::SIGTTIN];

/// What ended the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The instant has come.
    Time,
    /// This signal came.
    Signal(i32),
    /// The file descriptor became readable; a process's when it ended.
    Ready,
}

/// Waits with the signals of the terminal blocked, in this thread and those started from it; processes that std
/// starts get an empty mask again.
#[derive(Debug)]
pub struct Waiter {
    signals: SignalFd,
    timer: OwnedFd,
}

impl Waiter {
    /// Blocks the signals, for the rest of this process's life.
    ///
    /// # Errors
    /// When the kernel gives no file descriptor.
    pub fn new() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        // What the parent chose to ignore (nohup(1)) stays ignored: blocked, it would be queued (signal(7)).
        let ignored = super::sigwait::ignored()?;
        let heeded = |s: &&Signal| ignored >> (**s as i32 - 1) & 1 == 0;
        ENDING.iter().filter(heeded).for_each(|s| mask.add(*s));
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        STOPPING.iter().for_each(|s| mask.add(*s));
        mask.thread_block()?;
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { signals, timer })
    }

    /// The signal that came since the last look, if any.
    pub fn pending(&self) -> Option<i32> {
        let info = self.signals.read_signal().ok().flatten()?;
        i32::try_from(info.ssi_signo).ok()
    }

    /// Waits until `instant` (since boot), a signal, or `other` is readable; whichever comes first.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn until(&self, instant: Duration, other: Option<BorrowedFd<'_>>) -> io::Result<Woken> {
        let instant = instant.max(Duration::from_nanos(1)); // zero would disarm the timer
        let it_value = Timespec {
            tv_sec: instant.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: instant.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value })?;
        loop {
            if let Some(signal) = self.pending() {
                return Ok(Woken::Signal(signal));
            }
            let signals = self.signals.as_fd();
            let mut fds = vec![PollFd::new(&signals, PollFlags::IN), PollFd::new(&self.timer, PollFlags::IN)];
            fds.extend(other.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
            match (ready(0), ready(1), ready(2)) {
                (true, ..) => {}
                (_, true, _) => return Ok(Woken::Time),
                (.., true) => return Ok(Woken::Ready),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::since_boot;

    #[test]
    fn time_signals_and_descriptors_each_end_a_wait() {
        // In a thread of its own: the mask is the thread's.
        let waited = std::thread::spawn(|| {
            let waiter = Waiter::new().unwrap();
            assert_eq!(waiter.until(Duration::ZERO, None).unwrap(), Woken::Time);
            let start = since_boot();
            let soon = start + Duration::from_millis(30);
            assert_eq!(waiter.until(soon, None).unwrap(), Woken::Time);
            assert!(since_boot() >= soon);
            let (read, write) = std::io::pipe().unwrap();
            drop(write);
            let late = start + Duration::from_secs(60);
            assert_eq!(waiter.until(late, Some(read.as_fd())).unwrap(), Woken::Ready);
            nix::sys::pthread::pthread_kill(nix::sys::pthread::pthread_self(), Signal::SIGHUP).unwrap();
            assert_eq!(waiter.until(late, None).unwrap(), Woken::Signal(1));
        });
        waited.join().unwrap();
    }
}
