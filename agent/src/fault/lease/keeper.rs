//! The life of a keeper, and of its stand-in that a timer starts: wait, and end the fault.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::process::Signal;

use crate::config::Paths;
use crate::fault::error::FaultError;
use crate::fault::event::{Told, Why};
use crate::fault::lease::arm::{BEGIN, BEGUN, READY, keepers_lock};
use crate::fault::lease::record::{Mode, Record};
use crate::fault::modes::answerer::answer_with;
use crate::fault::modes::hold::hold;
use crate::fault::recovery::recover::{boot_id, end, lock, lock_holder};
use crate::sys::clock::since_boot;
use crate::sys::file::Lock;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{Identity, Stat};
use crate::sys::trace::Held;
use crate::sys::wait::{Waiter, Woken};

/// How long the command that started the fault is given to end it before the keeper does.
const COURTESY: Duration = Duration::from_millis(300);
/// How long the lock is waited for: longer than the longest recovery.
const OTHERS: Duration = Duration::from_secs(30);

/// The keeper's whole life: holds the lease of the fault `id`, says so, waits, and ends it. A recovery that isn't
/// verified is tried again until it is. SIGTERM ends the fault early: the keeper isn't to die with it on record.
///
/// # Errors
/// When there is nothing to keep, or the kernel doesn't let it wait.
pub fn keep(paths: &Paths, id: &str) -> Result<(), FaultError> {
    let waiter = Waiter::new().map_err(FaultError::Wait)?;
    let path = keepers_lock(paths);
    let failed = |source| FaultError::File { path: path.clone(), source };
    let keepers = Lock::take_within(&path, Duration::from_secs(2)).map_err(failed)?;
    let Some(keepers) = keepers else { return Err(FaultError::Busy(Duration::from_secs(2))) };
    let us = Identity::ours().map_err(FaultError::Wait)?;
    keepers.note(&serde_json::to_string(&us).unwrap_or_default()).map_err(failed)?;
    let Some(record) = Record::read(&paths.state)?.filter(|r| r.id == id) else { return Ok(()) };
    say(READY).map_err(FaultError::Wait)?;
    let mut held = match record.mode {
        Mode::Hang | Mode::Error => begin_when_told(&waiter, &record).map_err(FaultError::Wait)?,
        _ => None,
    };
    say_no_more().map_err(FaultError::Wait)?;

    let mut instant = record.deadline();
    let mut wait = Duration::from_millis(250);
    let mut courtesy = true;
    loop {
        let woken = waiter.until(instant, None).map_err(FaultError::Wait)?;
        match Record::read(&paths.state) {
            Ok(Some(r)) if r.id == id => {}
            Ok(_) => return Ok(()),
            // Unreadable is not gone: it is looked at again.
            Err(_) => {}
        }
        drop(held.take());
        if woken == Woken::Time && courtesy && record.holder.is_some_and(|h| h.is_alive()) {
            courtesy = false;
            instant = since_boot() + COURTESY;
            continue;
        }
        let why = if woken == Woken::Time { Why::Deadline } else { Why::Asked };
        match attempt(paths, &record, why) {
            Ok(()) => return Ok(()),
            Err(_) => {
                instant = since_boot() + wait;
                wait = (2 * wait).min(Duration::from_secs(30));
            }
        }
    }
}

/// What the timer does: ends the fault `id`, if it is still on record, as often as it takes.
///
/// # Errors
/// When the kernel doesn't let it wait.
pub fn end_due(paths: &Paths, id: &str) -> Result<(), FaultError> {
    let waiter = Waiter::new().map_err(FaultError::Wait)?;
    let mut wait = Duration::from_millis(250);
    let mut instant = Duration::ZERO;
    loop {
        match Record::read(&paths.state) {
            Ok(Some(record)) if record.id == id => {
                waiter.until(instant.max(record.deadline()), None).map_err(FaultError::Wait)?;
                if attempt(paths, &record, Why::Deadline).is_ok() {
                    return Ok(());
                }
            }
            Ok(_) => return Ok(()),
            Err(_) => drop(waiter.until(instant, None).map_err(FaultError::Wait)?),
        }
        instant = since_boot() + wait;
        wait = (2 * wait).min(Duration::from_secs(30));
    }
}

fn attempt(paths: &Paths, record: &Record, why: Why) -> Result<(), FaultError> {
    let lock = lock_in_spite_of(paths)?;
    let why = if record.boot_id == boot_id(paths)? { why } else { Why::Reboot };
    end(paths, &lock, Some(record), why, &mut |_: Told| {}).map(drop)
}

/// Takes the lock. A command that was stopped (Ctrl-Z, a debugger) while holding it would keep the fault alive, so
/// it is ended; so is one that holds it for longer than any recovery lasts.
fn lock_in_spite_of(paths: &Paths) -> Result<Lock, FaultError> {
    let end = since_boot() + OTHERS;
    loop {
        if let Some(lock) = lock(paths, Duration::from_millis(100))? {
            return Ok(lock);
        }
        let Some(holder) = lock_holder(paths) else { continue };
        let stopped = Stat::of(holder.pid).is_ok_and(|s| matches!(s.state, 'T' | 't'));
        if (stopped || since_boot() > end)
            && let Ok(Some(process)) = Handle::open(holder)
        {
            let _ = process.signal(Signal::KILL);
        }
    }
}

/// Waits until it is told to begin with its part, and does. Nobody tells a keeper that was started later: its fault
/// is over, as the kernel let go of nginx, or refuses connections, since the first one died.
fn begin_when_told(waiter: &Waiter, record: &Record) -> io::Result<Option<Held>> {
    let stdin = io::stdin();
    let Some(target) = &record.target else { return Ok(None) };
    match waiter.until(record.deadline(), Some(stdin.as_fd()))? {
        Woken::Ready => {}
        Woken::Time => return Ok(None),
        // Nothing is injected yet: the command sees us go, and ends what isn't a fault yet.
        Woken::Signal(_) => return Err(io::ErrorKind::Interrupted.into()),
    }
    let mut told = [0; 16];
    let n = rustix::io::read(&stdin, &mut told)?;
    if told.get(..n) != Some(BEGIN) {
        return Ok(None);
    }
    let begun = match record.mode {
        Mode::Hang => hold(target, record.deadline()).map(|held| (Some(held), 0)),
        _ => answer_with(record.status.unwrap_or(503)).map(|port| (None, port)),
    };
    match begun {
        Ok((held, port)) => say(format!("{BEGUN}{port}\n").as_bytes()).map(|()| held),
        Err(e) => say(format!("{e}\n").as_bytes()).map(|()| None),
    }
}

/// Says something to the command that started us; nobody need be there to hear it.
fn say(text: &[u8]) -> io::Result<()> {
    match rustix::io::write(io::stdout().as_fd(), text) {
        Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Lets go of the pipe to the command that started us.
fn say_no_more() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
