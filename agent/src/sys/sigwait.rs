//! The signals that end a verb, waited for together with a deadline.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

/// SIGINT, SIGTERM and SIGHUP, blocked in this thread and in those that it starts later. A signal that the parent
/// chose to ignore (nohup(1), a shell's background job) stays ignored.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    set: SigSet,
}

impl Signals {
    /// Blocks the signals; from now on they only arrive at [`Signals::wait`].
    ///
    /// # Errors
    /// When the system gives no signalfd.
    pub fn block() -> io::Result<Self> {
        Self::block_also(&[])
    }

    /// The same, and `also` arrive there, which don't end anything.
    ///
    /// # Errors
    /// As [`Signals::block`].
    pub fn block_also(also: &[Signal]) -> io::Result<Self> {
        let mut set = SigSet::empty();
        let ignored = ignored()?;
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // A blocked signal would be queued although it is ignored (signal(7)).
            if ignored >> (signal as i32 - 1) & 1 == 0 {
                set.add(signal);
            }
        }
        set.extend(also.iter().copied());
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, set })
    }

    /// Lets the signals do what they usually do: for what is only written from now on, to a terminal that may be stopped.
    pub fn release(&self) {
        let _ = self.set.thread_unblock();
    }

    /// Waits for a signal until `other` can be read or has no writer any more; `None` when that came first.
    ///
    /// # Errors
    /// When the signalfd can't be read.
    pub fn wait_beside(&self, other: BorrowedFd<'_>) -> io::Result<Option<i32>> {
        loop {
            let mut fds =
                [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN), PollFd::new(other, PollFlags::POLLIN)];
            match ppoll(&mut fds, None, None) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
                Ok(_) => {}
            }
            let signal = self.fd.read_signal()?.map(|info| info.ssi_signo.cast_signed());
            if signal.is_some() || fds[1].any().unwrap_or(true) {
                return Ok(signal);
            }
        }
    }

    /// Waits for a signal; `None` when none came within `limit`.
    ///
    /// # Errors
    /// When the signalfd can't be read.
    pub fn wait(&self, limit: Duration) -> io::Result<Option<i32>> {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, Some(TimeSpec::from_duration(limit)), None) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => Ok(None),
            Ok(_) => Ok(self.fd.read_signal()?.map(|info| info.ssi_signo.cast_signed())),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Signals {
    /// Readable once a signal has arrived; for waiting for other things besides.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The signals that this process ignores, a bit each from SIGHUP on (proc_pid_status(5)).
pub(super) fn ignored() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::Error::other("/proc/self/status has no SigIgn"))
}
