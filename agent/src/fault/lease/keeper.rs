//! The life of a keeper, and of its stand-in that a timer starts: wait, and end the fault.

use crate::config::Paths;
use crate::fault::actor::Actor;
use crate::fault::error::FaultError;
use crate::fault::event::Told;
use crate::fault::machine::{Role, Verdict};

/// The keeper's whole life: holds the lease of the fault `id`, says so, waits, and ends it. A recovery that isn't
/// verified is tried again until it is. SIGTERM ends the fault early: the keeper isn't to die with it on record.
///
/// # Errors
/// When there is another keeper, or the kernel doesn't let it wait.
pub fn keep(paths: &Paths, id: &str) -> Result<(), FaultError> {
    live(paths, id, Role::Keeper)
}

/// What the timer does: ends the fault `id`, if it is still on record, as often as it takes.
///
/// # Errors
/// When the kernel doesn't let it wait.
pub fn end_due(paths: &Paths, id: &str) -> Result<(), FaultError> {
    live(paths, id, Role::Timer)
}

fn live(paths: &Paths, id: &str, role: Role) -> Result<(), FaultError> {
    let mut nobody = |_: Told| {};
    let ending = Actor::new(paths, role, &mut nobody).with_id(id).with_waiter()?.act();
    match ending.verdict {
        Verdict::Busy | Verdict::CannotTell => Err(ending.error()),
        _ => Ok(()),
    }
}
