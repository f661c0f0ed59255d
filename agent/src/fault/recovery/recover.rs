//! The end of a fault, the same for everybody who may come to it: the command, the keeper, Ctrl-C, `agent recover`,
//! the next start of any verb. Whoever holds the lock ends it; the others find it ended.

use std::time::{Duration, Instant};

use crate::config::Paths;
use crate::fault::error::FaultError;
use crate::fault::event::{Event, Step, Tell, Told, Why};
use crate::fault::failpoint::failpoint;
use crate::fault::history;
use crate::fault::lease::arm as lease;
use crate::fault::lease::record::{Mode, Record};
use crate::fault::lease::timer;
use crate::fault::modes::packets;
use crate::fault::plan::preflight;
use crate::fault::plan::unit;
use crate::fault::recovery::environment;
use crate::fault::recovery::restore::restore;
use crate::nginx::answer::Answer;
use crate::sys::clock;
use crate::sys::file::{self, Lock};
use crate::sys::proc::Identity;

/// Longer than a whole recovery takes: then the one who holds the lock isn't recovering any more.
const OTHERS: Duration = Duration::from_secs(30);

/// What became of the fault.
#[derive(Debug, Clone)]
pub enum Ended {
    /// There was none, or another has ended it.
    Already,
    /// It was ended here, verified.
    Here {
        /// The fault.
        record: Box<Record>,
        /// From the beginning of the end to the first answer.
        first_ok_after_ms: u64,
    },
}

/// The lock that whoever changes the state of a fault must hold; its file says who does.
pub(in crate::fault) fn lock(paths: &Paths, limit: Duration) -> Result<Option<Lock>, FaultError> {
    let path = paths.run.join("fault.lock");
    let taken = Lock::take_within(&path, limit).map_err(|source| FaultError::File { path, source })?;
    if let (Some(lock), Ok(us)) = (&taken, Identity::ours()) {
        // A full disk is no reason not to recover.
        let _ = lock.note(&serde_json::to_string(&us).unwrap_or_default());
    }
    Ok(taken)
}

/// Who holds the lock.
pub(in crate::fault) fn lock_holder(paths: &Paths) -> Option<Identity> {
    let path = paths.run.join("fault.lock");
    let text = file::read_trusted(&path, 256).ok().flatten()?;
    serde_json::from_slice(&text).ok().filter(|holder: &Identity| Lock::is_held_by(&path, holder.pid))
}

/// Ends the fault on record now, whatever its deadline.
///
/// # Errors
/// When it can't be known whether there is one, or nginx wasn't seen to answer again: it is then still on record.
pub fn recover_now(paths: &Paths, tell: Tell<'_>) -> Result<Ended, FaultError> {
    preflight::permitted(paths)?;
    file::sweep(&paths.state);
    let Some(lock) = lock(paths, OTHERS)? else { return Err(FaultError::Busy(OTHERS)) };
    end(paths, &lock, None, Why::Asked, tell)
}

/// What every verb does first when root runs it: ends a fault that is past its deadline, and arms the lease anew for
/// one that isn't and whose keeper is gone. Costs one look at a file when there is none.
///
/// # Errors
/// As [`recover_now`]; also when the lease can't be armed.
pub fn reconcile(paths: &Paths, tell: Tell<'_>) -> Result<Ended, FaultError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Ended::Already);
    }
    file::sweep(&paths.state);
    if Record::read(&paths.state)?.is_none() {
        return Ok(Ended::Already);
    }
    preflight::permitted(paths)?;
    // Whoever holds the lock is at it.
    let Some(lock) = lock(paths, Duration::ZERO)? else { return Ok(Ended::Already) };
    let Some(record) = Record::read(&paths.state)? else { return Ok(Ended::Already) };
    let boot = boot_id(paths)?;
    if record.time_left(clock::since_boot(), &boot).is_none() {
        let why = if record.boot_id == boot { Why::Deadline } else { Why::Reboot };
        return end(paths, &lock, Some(&record), why, tell);
    }
    let held = lease::is_held(paths)?;
    if !held && matches!(record.mode, Mode::Hang | Mode::Error) {
        // The kernel let go of nginx when the keeper died; and nobody answers in its place.
        return end(paths, &lock, Some(&record), Why::Released, tell);
    }
    if !held {
        // Reaped when it ends, as we may live longer than it.
        let keeper = lease::arm(paths, &record)?;
        std::thread::spawn(move || keeper.wait());
    }
    Ok(Ended::Already)
}

pub(in crate::fault) fn boot_id(paths: &Paths) -> Result<String, FaultError> {
    clock::boot_id().map_err(|source| FaultError::Folder { path: paths.state.clone(), source })
}

/// Ends the fault on record; where it is `known` which one is meant, only that one, and also when its record can't be
/// read any more.
pub(in crate::fault) fn end(
    paths: &Paths,
    _lock: &Lock,
    known: Option<&Record>,
    why: Why,
    tell: Tell<'_>,
) -> Result<Ended, FaultError> {
    let record = match (Record::read(&paths.state), known) {
        (Ok(None), _) => return Ok(Ended::Already),
        (Ok(Some(record)), Some(known)) if record.id != known.id => return Ok(Ended::Already),
        (Ok(Some(record)), _) => record,
        (Err(e), Some(known)) => {
            tell(Told::Warning(format!("{e}; the fault ends as it was written down")));
            known.clone()
        }
        (Err(e), None) => return Err(e.into()),
    };
    let start = Instant::now();
    let rebooted = record.boot_id != boot_id(paths)?;
    let why = if rebooted { Why::Reboot } else { why };
    tell(Told::Event(Event::now(&record, Step::Recovering { why })));
    failpoint("recover.begun");
    let restored = match record.target.clone().map(|t| if rebooted { t.of_another_boot() } else { t }) {
        Some(target) => {
            // A reboot has taken the rules away.
            let packets = record.mode.touches_packets() && !rebooted;
            let removed = if packets { packets::remove().map_err(|e| e.to_string()) } else { Ok(()) };
            failpoint("recover.removed_rules");
            removed
                .and_then(|()| restore(&target, &paths.state, &|pid| lease::is_keeper(paths, &record, pid)))
        }
        None => Ok(()),
    };
    failpoint("recover.restored");
    let note = |event, detail: &str| history::append(&paths.log, &record, event, detail);
    if let Err(reason) = restored {
        let _ = note("not_recovered", &reason);
        return Err(FaultError::NotRecovered(reason));
    }
    // A log that can't be written is no reason to leave a fault on record that is over.
    if let Err(e) = note("recovered", why_text(why)) {
        tell(Told::Warning(format!("{}: {e}", history::path(&paths.log).display())));
    }
    failpoint("recover.noted");
    // First, so that no secret is left behind without a record; nginx runs and needs it no more.
    let path = environment::path(&paths.state);
    environment::forget(&paths.state).map_err(|source| FaultError::File { path, source })?;
    Record::remove(&paths.state)?;
    failpoint("recover.removed");
    health_again(&record);
    let first_ok_after_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    tell(Told::Event(Event::now(&record, Step::Recovered { first_ok_after_ms })));
    lease::release(paths, Identity::ours().ok());
    if unit::is_booted() {
        timer::disarm(&record);
    }
    Ok(Ended::Here { record: Box::new(record), first_ok_after_ms })
}

fn why_text(why: Why) -> &'static str {
    match why {
        Why::Deadline => "deadline",
        Why::Signal => "signal",
        Why::Asked => "asked",
        Why::NoEffect => "no effect",
        Why::Reboot => "reboot",
        Why::Released => "released",
        Why::Undone => "undone",
        Why::Unkept => "unkept",
    }
}

/// Waits until `/health` isn't what the fault made of it; not for long, as it may fail for a reason of its own.
fn health_again(record: &Record) {
    let Some((health, path)) = record.endpoint().filter(|_| !record.mode.touches_nginx()) else { return };
    let over = |answer| match record.mode {
        Mode::Slow => answer != Answer::Silent,
        _ => matches!(answer, Answer::Status(200) | Answer::Refused),
    };
    health.ask_until(path, Duration::from_secs(3), over);
}
