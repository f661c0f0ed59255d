//! Making nginx fail: every signal goes through a pidfd whose process was verified after it was opened.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fault::failpoint::failpoint;
use crate::fault::family::{end_orphans, verified};
use crate::fault::lease::record::{Mode, Record, Target};
use crate::fault::modes::packets;
use crate::fault::plan::unit;
use crate::sys::clock;
use crate::sys::listening::Listening;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{self, Identity};

/// As long as Debian's and systemd's own `stop` wait before they insist (start-stop-daemon's QUIT/5/TERM/5).
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a unit may take to stop listening; a default stop of systemd takes up to 90 s (TimeoutStopSec=).
const UNIT: Duration = Duration::from_secs(20);
/// How often it is looked whether nginx still listens.
const LOOK: Duration = Duration::from_millis(5);

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fault) enum Injected {
    /// It is in force: nginx listens no more, is dead, held, or cut off.
    Yes,
    /// A signal came before that.
    Interrupted,
}

/// Injects the fault on record, on the `master` that was opened and verified; in `error` the keeper answers at `port`.
/// `unhealthy` and `slow` are in force by their record alone, and in `hang` the keeper holds nginx already.
pub(in crate::fault) fn inject(
    record: &Record,
    master: Option<&Handle>,
    port: u16,
    interrupted: &mut dyn FnMut() -> bool,
) -> io::Result<Injected> {
    let (Some(target), Some(master)) = (record.target(), master) else { return Ok(Injected::Yes) };
    match record.mode() {
        Mode::Stop => stop(target, master, record.deadline(), interrupted),
        Mode::Crash => crash(target, master).map(|()| Injected::Yes),
        Mode::Drop | Mode::Reject | Mode::Error => redirect(record, target, port).map(|()| Injected::Yes),
        Mode::Hang | Mode::Unhealthy | Mode::Slow => Ok(Injected::Yes),
    }
}

fn redirect(record: &Record, target: &Target, port: u16) -> io::Result<()> {
    let left = record.deadline().saturating_sub(clock::since_boot());
    let udp = packets::reachable(&target.listening.udp);
    packets::apply(record.mode(), &target.listens, &udp, left, port)?;
    failpoint("inject.signalled");
    Ok(())
}

/// Gracefully: it stops listening at once and goes on answering what it has begun. In force when nobody listens any more;
/// what is still answered is left to it (see [`insist`]). One that doesn't even stop listening is told more clearly.
fn stop(
    target: &Target,
    master: &Handle,
    deadline: Duration,
    interrupted: &mut dyn FnMut() -> bool,
) -> io::Result<Injected> {
    if let Some(unit) = &target.unit {
        unit::stop(unit)?;
        failpoint("inject.signalled");
        let limit = UNIT.min(deadline.saturating_sub(clock::since_boot()));
        return match silent_within(target, master, limit, interrupted) {
            Some(Injected::Yes) => Ok(Injected::Yes),
            Some(Injected::Interrupted) => Ok(Injected::Interrupted),
            None => Err(io::Error::other(format!("{unit} still listens after {} s", limit.as_secs()))),
        };
    }
    for signal in [Signal::QUIT, Signal::TERM, Signal::KILL] {
        master.signal(signal)?;
        failpoint("inject.signalled");
        let left = deadline.saturating_sub(clock::since_boot());
        match silent_within(target, master, PATIENCE.min(left), interrupted) {
            // Told to end and not ended yet, it could answer once more and then be gone: so it is ended now.
            Some(Injected::Interrupted) => {
                master.signal(Signal::TERM)?;
                if !master.wait_end(Duration::from_millis(500)) {
                    master.signal(Signal::KILL)?;
                }
                return Ok(Injected::Interrupted);
            }
            Some(Injected::Yes) => return Ok(Injected::Yes),
            None if left.is_zero() => break,
            None => {}
        }
    }
    end_orphans(target).map(|()| Injected::Yes)
}

/// Waits until nobody holds a listening socket of the target's, as the kernel says; `None` when that takes longer.
fn silent_within(
    target: &Target,
    master: &Handle,
    limit: Duration,
    interrupted: &mut dyn FnMut() -> bool,
) -> Option<Injected> {
    let end = Instant::now() + limit;
    loop {
        if Listening::of_sockets(&target.sockets).is_empty() {
            return Some(Injected::Yes);
        }
        if interrupted() {
            return Some(Injected::Interrupted);
        }
        if Instant::now() >= end {
            return None;
        }
        master.wait_end(LOOK);
    }
}

/// During a `stop`: a master that goes on answering what it had begun is told to end more clearly, as `service nginx stop`
/// does (QUIT, after 5 s TERM, after 10 s KILL). systemd does so itself.
pub(in crate::fault) fn insist(record: &Record, injected: Option<Instant>) {
    let (Some(target), Some(since)) = (record.target(), injected) else { return };
    if record.mode() != Mode::Stop || target.unit.is_some() || since.elapsed() < PATIENCE {
        return;
    }
    let signal = if since.elapsed() < 2 * PATIENCE { Signal::TERM } else { Signal::KILL };
    if let Ok(Some(master)) = verified(target, target.master) {
        let _ = master.signal(signal);
    } else if since.elapsed() < 3 * PATIENCE {
        let _ = end_orphans(target);
    }
}

/// The master first, or it would start new workers; then the workers, who would go on serving without it.
fn crash(target: &Target, master: &Handle) -> io::Result<()> {
    let children = proc::children(target.master.pid).into_iter().filter_map(|pid| Identity::of(pid).ok());
    let workers: Vec<Handle> =
        children.filter_map(|id| verified(target, id).transpose()).collect::<io::Result<_>>()?;
    master.signal(Signal::KILL)?;
    master.wait_end(PATIENCE);
    failpoint("inject.signalled");
    for worker in &workers {
        worker.signal(Signal::KILL)?;
    }
    // And those that it started while we were looking.
    end_orphans(target)
}
