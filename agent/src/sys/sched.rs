//! How a thread is scheduled (sched(7)): neither nix nor rustix wraps `sched_setscheduler`.
#![allow(unsafe_code)]

use std::io;

/// How the calling thread is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// `SCHED_RR` at priority 1: before every normal thread, after every other real-time one.
    RealTime,
    /// `SCHED_OTHER`, like everybody.
    Normal,
    /// `SCHED_IDLE`: after every normal thread of the same scheduling group. Everybody may choose it.
    Idle,
}

/// How the thread `tid` is scheduled, 0 is the calling one; `None` for what this program never sets.
pub fn policy_of(tid: i32) -> Option<Policy> {
    // SAFETY: takes no pointer.
    match unsafe { libc::sched_getscheduler(tid) } & !libc::SCHED_RESET_ON_FORK {
        libc::SCHED_OTHER => Some(Policy::Normal),
        libc::SCHED_IDLE => Some(Policy::Idle),
        libc::SCHED_RR => Some(Policy::RealTime),
        _ => None,
    }
}

/// Sets the policy of the calling thread, and that only; its children start as normal threads.
///
/// # Errors
/// `EPERM` without CAP_SYS_NICE, root, or an `RLIMIT_RTPRIO` that allows it; also where the CPU cgroup has no
/// real-time budget.
pub fn set_current_thread(policy: Policy) -> io::Result<()> {
    set_thread(0, policy)
}

/// Sets the policy of the thread `tid` of ours; 0 is the calling one.
///
/// # Errors
/// As [`set_current_thread`]; also `EPERM` without CAP_SYS_NICE when an idle thread shall become a normal one, and
/// `ESRCH` when there is no such thread.
pub fn set_thread(tid: i32, policy: Policy) -> io::Result<()> {
    let (policy, priority) = match policy {
        Policy::RealTime => (libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1),
        Policy::Normal => (libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0),
        Policy::Idle => (libc::SCHED_IDLE, 0),
    };
    let mut param = std::mem::MaybeUninit::<libc::sched_param>::zeroed();
    // SAFETY: all bytes zero is a valid sched_param, and the pointer lives over the call.
    let failed = unsafe {
        param.assume_init_mut().sched_priority = priority;
        libc::sched_setscheduler(tid, policy, param.as_ptr())
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
