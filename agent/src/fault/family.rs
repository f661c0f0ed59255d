//! The processes of the nginx on record: each is verified before it gets a signal.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fault::lease::record::Target;
use crate::nginx::master::{has_workers_or_keeps_title, is_master};
use crate::sys::pidfd::Handle;
use crate::sys::proc::{self, Identity, Stat};

/// How long a process that was killed may take to end.
const ENDED: Duration = Duration::from_secs(3);

/// Opens a process of the target and verifies that it runs the same file.
pub(super) fn verified(target: &Target, id: Identity) -> io::Result<Option<Handle>> {
    Ok(Handle::open(id)?.filter(|_| target.exe.is_run_by(id.pid)))
}

/// Whether the recorded master still runs.
pub(super) fn is_ours(target: &Target) -> bool {
    target.master.is_alive() && target.exe.is_run_by(target.master.pid)
}

/// Ends the processes that descend from the recorded master and survived it: they run the same file, hold one of
/// its sockets, and belong to no master that runs.
pub(super) fn end_orphans(target: &Target) -> io::Result<()> {
    let end = Instant::now() + ENDED;
    loop {
        let orphans = orphans(target)?;
        if orphans.is_empty() {
            return Ok(());
        }
        for orphan in &orphans {
            orphan.signal(Signal::KILL)?;
        }
        if !orphans.iter().all(|o| o.wait_end(end.saturating_duration_since(Instant::now()))) {
            return Err(io::Error::other("workers of the old master do not end"));
        }
    }
}

fn orphans(target: &Target) -> io::Result<Vec<Handle>> {
    if is_ours(target) {
        return Ok(Vec::new());
    }
    // Nobody else's processes are looked into: they may have a million descriptors.
    let is_theirs = |pid: i32| {
        let uid = std::fs::metadata(format!("/proc/{pid}")).map(|m| m.uid());
        target.workers.is_empty()
            || uid.is_ok_and(|uid| uid == target.credentials.uid || target.workers.contains(&uid))
    };
    let suspects = proc::pids().into_iter().filter(|pid| target.exe.is_run_by(*pid) && is_theirs(*pid));
    let suspects: Vec<i32> = suspects.filter(|pid| descends(target, *pid)).collect();
    let mut found = Vec::new();
    for pid in suspects {
        let Ok((id, stat)) = Identity::of(pid).and_then(|id| Ok((id, Stat::of(pid)?))) else { continue };
        // The master of an upgraded binary inherits the sockets as well.
        if has_workers_or_keeps_title(pid) || is_master(stat.parent) || !proc::shares_our_namespaces(pid) {
            continue;
        }
        found.extend(verified(target, id)?.filter(|_| descends(target, pid)));
    }
    Ok(found)
}

fn descends(target: &Target, pid: i32) -> bool {
    !proc::sockets(pid).is_disjoint(&target.sockets)
}
