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
}

impl Signals {
    /// Blocks the signals; from now on they only arrive at [`Signals::wait`].
    ///
    /// # Errors
    /// When the system gives no signalfd.
    pub fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        let ignored = ignored()?;
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // A blocked signal would be queued although it is ignored (signal(7)).
            if ignored >> (signal as i32 - 1) & 1 == 0 {
                set.add(signal);
            }
        }
        set.thread_block()?;
        Ok(Self { fd: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
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
