//! TCP_DEFER_ACCEPT and IPV6_TRANSPARENT, which neither nix nor rustix wraps, and waiting for a listening socket.
#![allow(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for connections on `listener` without accepting them; needs a runtime.
///
/// # Errors
/// When it can't be registered with the runtime.
pub fn wait_for(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: a TcpListener owns its descriptor: it is open as long as the AsyncFd owns the listener, and as_raw_fd
    // always returns the same one.
    unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }.map_err(|e| e.into_parts().1)
}

/// Lets the kernel hold back new connections of a listening socket until their first bytes are there, for about
/// `wait` (whole seconds, rounded up to the times at which it repeats its SYN-ACK), tcp(7).
///
/// # Errors
/// When the kernel has no such option.
pub fn defer_accept(socket: &impl AsFd, wait: Duration) -> io::Result<()> {
    let seconds = libc::c_int::try_from(wait.as_secs()).unwrap_or(libc::c_int::MAX);
    set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Lets a listening socket take connections that were meant for another port (the kernel's
/// `Documentation/networking/tproxy.rst`), of IPv6 and, where it is a dual-stack one, of IPv4.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN.
pub fn set_transparent(socket: &impl AsFd) -> io::Result<()> {
    let v6 = set(socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, 1);
    set(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1).or(v6)
}

fn set(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed over the call and the pointer and length are those of a live integer.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
