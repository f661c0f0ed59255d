//! A process held by a file descriptor (pidfd_open(2), Linux 5.3): a signal sent through it can't reach another one
//! that got the same pid.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::proc::Identity;

/// A verified process.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    /// Who it is.
    pub id: Identity,
}

impl Handle {
    /// Opens the process and verifies afterwards that it is the one meant; `None` when that one is gone.
    ///
    /// # Errors
    /// When the kernel has no pidfds, or we are out of file descriptors.
    pub fn open(id: Identity) -> io::Result<Option<Self>> {
        let positive = (id.pid > 0).then_some(id.pid); // never a group
        let Some(pid) = positive.and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) if id.is_alive() => Ok(Some(Self { fd, id })),
            Ok(_) | Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Sends a signal; a process that has ended meanwhile is no error.
    ///
    /// # Errors
    /// When it isn't permitted. Process 1 gets none: the machine, or the container, ends with it.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.id.pid == 1 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "process 1 is never signalled"));
        }
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits until it has ended (its sockets are closed then); says whether it has within `limit`.
    pub fn wait_end(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = rustix::time::Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_recycled_pid_is_never_opened() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = Identity::of(child.id().cast_signed()).unwrap();
        assert!(Handle::open(Identity { start_ticks: id.start_ticks + 1, ..id }).unwrap().is_none());
        let handle = Handle::open(id).unwrap().unwrap();
        assert!(!handle.wait_end(Duration::ZERO));
        handle.signal(Signal::KILL).unwrap();
        assert!(handle.wait_end(Duration::from_secs(10)));
        child.wait().unwrap();
        handle.signal(Signal::KILL).unwrap();
        assert!(Handle::open(id).unwrap().is_none());
    }

    #[test]
    fn neither_init_nor_a_group_is_ever_opened() {
        for pid in [1, 0, -1] {
            assert!(Handle::open(Identity { pid, start_ticks: 0 }).unwrap().is_none());
        }
    }
}
