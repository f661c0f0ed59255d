//! `hang`: every process of nginx stands in a ptrace stop. The keeper is the tracer.

use std::io;
use std::time::Duration;

use crate::fault::failpoint::failpoint;
use crate::fault::lease::record::Target;
use crate::sys::proc::{self, Identity};
use crate::sys::trace::Held;

/// How long after the deadline the kernel ends a keeper that hasn't let go.
const GRACE: Duration = Duration::from_millis(500);

/// Holds the master first, so that it starts no more workers, and then all that it has started.
pub(in crate::fault) fn hold(target: &Target, deadline: Duration) -> io::Result<Held> {
    let mut held = Held::until(deadline + GRACE)?;
    if !target.exe.is_run_by(target.master.pid) || !held.hold(target.master)? {
        return Err(io::Error::other(format!("nginx {} has ended meanwhile", target.master.pid)));
    }
    failpoint("hold.master");
    loop {
        let children = proc::children(target.master.pid).into_iter();
        let same = children.filter(|pid| target.exe.is_run_by(*pid));
        let mut new = false;
        for id in same.filter_map(|pid| Identity::of(pid).ok()) {
            new |= held.hold(id)?;
        }
        if !new {
            return Ok(held);
        }
    }
}

/// Why this machine can't hold processes, if it can't.
pub(in crate::fault) fn missing() -> Option<String> {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if scope.trim() == "3" {
        return Some("ptrace is switched off until the next boot (kernel.yama.ptrace_scope = 3)".into());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let effective = effective.and_then(|c| u64::from_str_radix(c.trim(), 16).ok()).unwrap_or(0);
    // CAP_SYS_PTRACE is number 19 (linux/capability.h).
    (effective >> 19 & 1 == 0).then(|| "the capability CAP_SYS_PTRACE is missing here".into())
}
