//! The end of a fault for those who come to it from outside: `agent recover`, and the next start of any verb.

use std::time::Duration;

use crate::config::Paths;
use crate::fault::actor::Actor;
use crate::fault::error::FaultError;
use crate::fault::event::Tell;
use crate::fault::lease::record::{Mode, Record};
use crate::fault::machine::{Role, Verdict};
use crate::fault::plan::preflight;
use crate::nginx::answer::Answer;
use crate::sys::file;

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
        /// What of nginx is otherwise than it was.
        differences: Vec<String>,
    },
}

/// Ends the fault on record now, whatever its deadline.
///
/// # Errors
/// When it can't be known whether there is one, or nginx wasn't seen to answer again: it is then still on record.
pub fn recover_now(paths: &Paths, tell: Tell<'_>) -> Result<Ended, FaultError> {
    preflight::permitted(paths)?;
    file::sweep(&paths.state);
    ended(paths, Role::Recover, tell)
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
    ended(paths, Role::Verb, tell)
}

fn ended(paths: &Paths, role: Role, tell: Tell<'_>) -> Result<Ended, FaultError> {
    let mut ending = Actor::new(paths, role, tell).act();
    ending.reap();
    match (ending.verdict, ending.record.take()) {
        (Verdict::Recovered, Some(record)) => Ok(Ended::Here {
            record: Box::new(record),
            first_ok_after_ms: ending.figures.first_ok_after_ms.unwrap_or_default(),
            differences: std::mem::take(&mut ending.figures.differences),
        }),
        (Verdict::Nothing | Verdict::Elsewhere | Verdict::Taken | Verdict::Recovered, _) => {
            ending.keeper_error().map_or(Ok(Ended::Already), Err)
        }
        _ => Err(ending.error()),
    }
}

/// Waits until `/health` isn't what the fault made of it; not for long, as it may fail for a reason of its own.
pub(in crate::fault) fn health_again(record: &Record) {
    let Some((health, path)) = record.endpoint().filter(|_| !record.mode().touches_nginx()) else { return };
    let over = |answer| match record.mode() {
        Mode::Slow => answer != Answer::Silent,
        _ => matches!(answer, Answer::Status(200) | Answer::Refused),
    };
    health.ask_until(path, Duration::from_secs(3), over);
}
