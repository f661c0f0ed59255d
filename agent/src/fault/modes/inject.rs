//! Making nginx fail: every signal goes through a pidfd whose process was verified after it was opened.

use std::io;
use std::time::Duration;

use rustix::process::Signal;

use crate::fault::error::FaultError;
use crate::fault::failpoint::failpoint;
use crate::fault::lease::record::{Mode, Record, Target};
use crate::fault::modes::packets;
use crate::fault::plan::unit;
use crate::fault::recovery::restore::end_orphans;
use crate::sys::clock;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{self, Identity};

/// As long as Debian's and systemd's own `stop` wait before they insist (start-stop-daemon's QUIT/5/TERM/5).
const PATIENCE: Duration = Duration::from_secs(5);

/// Injects the fault on record; in `error` the keeper answers at `port`. `unhealthy` and `slow` are in force by their
/// record alone.
pub(in crate::fault) fn inject(record: &Record, port: u16) -> Result<(), FaultError> {
    let Some(target) = &record.target else { return Ok(()) };
    let failed = |source| FaultError::Inject {
        what: format!("{} nginx {}", record.mode.name(), target.master.pid),
        source,
    };
    if record.deadline() <= clock::since_boot() {
        // Arming took longer than the fault was to last; the keeper may be at the end of it already.
        return Err(failed(io::Error::new(io::ErrorKind::TimedOut, "its time was over before it began")));
    }
    match record.mode {
        Mode::Stop => stop(target, record.deadline()).map_err(failed),
        Mode::Crash => crash(target).map_err(failed),
        Mode::Drop | Mode::Reject | Mode::Error => redirect(record, target, port).map_err(failed),
        // The keeper holds nginx, and was told so by the caller.
        Mode::Hang | Mode::Unhealthy | Mode::Slow => Ok(()),
    }
}

fn redirect(record: &Record, target: &Target, port: u16) -> io::Result<()> {
    failpoint("inject.opened");
    let left = record.deadline().saturating_sub(clock::since_boot());
    packets::apply(record.mode, &target.listens, left, port)?;
    failpoint("inject.signalled");
    Ok(())
}

/// Opens a process of the target and verifies that it runs the same file.
pub(in crate::fault) fn verified(target: &Target, id: Identity) -> io::Result<Option<Handle>> {
    Ok(Handle::open(id)?.filter(|_| target.exe.is_run_by(id.pid)))
}

/// The master, verified.
pub(in crate::fault) fn master(target: &Target) -> io::Result<Handle> {
    verified(target, target.master)?.ok_or_else(|| io::Error::other("it has ended meanwhile"))
}

/// Gracefully: it stops listening at once and answers what it has begun. Not for ever, as `stop` doesn't either, and
/// not past the deadline: recovery knows what to do with a master that is still ending.
fn stop(target: &Target, deadline: Duration) -> io::Result<()> {
    let master = master(target)?;
    failpoint("inject.opened");
    if let Some(unit) = &target.unit {
        unit::stop(unit, deadline.saturating_sub(clock::since_boot()))?;
        failpoint("inject.signalled");
        return Ok(());
    }
    for signal in [Signal::QUIT, Signal::TERM, Signal::KILL] {
        master.signal(signal)?;
        failpoint("inject.signalled");
        let left = deadline.saturating_sub(clock::since_boot());
        if master.wait_end(PATIENCE.min(left)) || left.is_zero() {
            break;
        }
    }
    end_orphans(target)
}

/// The master first, or it would start new workers; then the workers, who would go on serving without it.
fn crash(target: &Target) -> io::Result<()> {
    let master = master(target)?;
    let children = proc::children(target.master.pid).into_iter().filter_map(|pid| Identity::of(pid).ok());
    let workers: Vec<Handle> =
        children.filter_map(|id| verified(target, id).transpose()).collect::<io::Result<_>>()?;
    failpoint("inject.opened");
    master.signal(Signal::KILL)?;
    master.wait_end(PATIENCE);
    failpoint("inject.signalled");
    for worker in &workers {
        worker.signal(Signal::KILL)?;
    }
    // And those that it started while we were looking.
    end_orphans(target)
}
