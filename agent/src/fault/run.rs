//! A fault from its beginning to its end, for whoever makes one: the command's actor, and what it measured.

use super::actor::Actor;
use super::error::FaultError;
use super::event::{Event, Outcome, Step, Tell, Told, Why};
use super::lease::mark;
use super::machine::{Role, Verdict};
use super::plan::preflight::{Request, permitted};
use crate::config::Paths;

/// Makes a fault, holds it until its deadline or a signal, and ends it; with `detach` returns once its effect was
/// seen and leaves the rest to the keeper.
///
/// # Errors
/// When there is no fault (and nothing was touched), or the one there is could not be ended: the keeper goes on
/// trying then.
pub fn fail(paths: &Paths, request: &Request, detach: bool, tell: Tell<'_>) -> Result<Outcome, FaultError> {
    permitted(paths)?;
    let role = Role::Command { detach };
    let actor = Actor::new(paths, role, &mut *tell).with_request(request).with_waiter()?;
    let mut ending = actor.act();
    let (figures, signal) = (ending.figures.clone(), ending.signal);
    let outcome = |recovered, first_ok_after_ms| Outcome {
        effective: figures.effective,
        recovered,
        held_ms: figures.held_ms,
        effective_ms: figures.effective_ms,
        first_ok_after_ms,
        lost: figures.lost.clone(),
        differences: figures.differences.clone(),
        detached: false,
        signal,
    };
    match ending.verdict {
        Verdict::Detached => Ok(Outcome { detached: true, ..outcome(None, None) }),
        // Nothing was injected: there is nothing to recover.
        Verdict::Signalled => Ok(outcome(None, None)),
        Verdict::Recovered => match ending.injection_error() {
            Some(e) => Err(e),
            None => Ok(outcome(Some(true), figures.first_ok_after_ms)),
        },
        // Another has seen nginx answer, and says how long that took.
        Verdict::Elsewhere => {
            let record = ending.record.take();
            let mark = record.as_ref().and_then(|record| mark::of(paths, &record.id));
            let (first_ok_after_ms, differences) =
                mark.map_or((0, Vec::new()), |mark| (mark.first_ok_after_ms, mark.differences));
            if let Some(record) = &record {
                tell(Told::Event(Event::now(record, Step::Recovering { why: Why::Asked })));
                tell(Told::Event(Event::now(record, Step::Recovered { first_ok_after_ms })));
            }
            Ok(Outcome { differences, ..outcome(Some(true), Some(first_ok_after_ms)) })
        }
        _ => Err(ending.error()),
    }
}
