//! The lock that whoever changes the state of a fault must hold; its file says who does.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::config::Paths;
use crate::fault::error::FaultError;
use crate::sys::clock::since_boot;
use crate::sys::file::{self, Lock};
use crate::sys::pidfd::Handle;
use crate::sys::proc::{Identity, Stat};

/// Longer than the longest recovery: then the one who holds the lock isn't recovering any more.
pub(in crate::fault) const LONGEST: Duration = Duration::from_secs(30);
/// How often a lock that is held is looked at again.
const AGAIN: Duration = Duration::from_millis(50);

/// Where it lies.
pub(in crate::fault) fn path(paths: &Paths) -> PathBuf {
    paths.run.join("fault.lock")
}

/// Takes the lock if it is free within `limit`.
pub(in crate::fault) fn take(paths: &Paths, limit: Duration) -> Result<Option<Lock>, FaultError> {
    let path = path(paths);
    let folder = file::ensure_folder(&paths.run);
    let taken = folder
        .and_then(|()| Lock::take_within(&path, limit))
        .map_err(|why| FaultError::File { path, why })?;
    if let (Some(lock), Ok(us)) = (&taken, Identity::ours()) {
        // A full disk is no reason not to recover.
        let _ = lock.note(&serde_json::to_string(&us).unwrap_or_default());
    }
    Ok(taken)
}

/// Who holds the lock.
pub(in crate::fault) fn holder(paths: &Paths) -> Option<Identity> {
    let path = path(paths);
    let text = file::read_trusted(&path, 256).ok().flatten()?;
    serde_json::from_slice(&text).ok().filter(|holder: &Identity| Lock::is_held_by(&path, holder.pid))
}

/// Takes the lock in spite of a holder that was stopped (a debugger, SIGSTOP), or that holds it for longer than any
/// recovery lasts: it would keep the fault alive, so it is ended. `None` when even that doesn't help.
pub(in crate::fault) fn insist(paths: &Paths) -> Result<Option<Lock>, FaultError> {
    let end = since_boot() + LONGEST;
    loop {
        if let Some(lock) = take(paths, AGAIN)? {
            return Ok(Some(lock));
        }
        let late = since_boot() > end;
        let Some(holder) = holder(paths).filter(|holder| Identity::ours().is_ok_and(|us| us != *holder))
        else {
            if late {
                return Ok(None);
            }
            continue;
        };
        let stopped = Stat::of(holder.pid).is_ok_and(|s| matches!(s.state, 'T' | 't'));
        if (stopped || late)
            && let Ok(Some(process)) = Handle::open(holder)
        {
            let _ = process.signal(Signal::KILL);
            process.wait_end(Duration::from_secs(1));
        }
        if since_boot() > end + Duration::from_secs(5) {
            return Ok(None);
        }
    }
}
