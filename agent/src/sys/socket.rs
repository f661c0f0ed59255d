//! TCP_DEFER_ACCEPT: neither nix nor rustix wraps it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Lets the kernel hold back new connections of a listening socket until their first bytes are there, for about
/// `wait` (whole seconds, rounded up to the times at which it repeats its SYN-ACK), tcp(7).
///
/// # Errors
/// When the kernel has no such option.
pub fn defer_accept(socket: &impl AsFd, wait: Duration) -> io::Result<()> {
    let seconds = libc::c_int::try_from(wait.as_secs()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is borrowed over the call and the pointer and length are those of a live integer.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
