//! What a fault tells, in words and as events, and the exit codes of its errors: the same for every verb that makes or
//! ends one.

use std::io::IsTerminal;

use crate::cli::output::Output;
use crate::cli::{Exit, Failure};
use crate::fault::FaultError;
use crate::fault::event::{Event, Step, Told, Why};
use crate::fault::record::RecordError;

/// Prints what a fault tells.
pub(super) fn print(out: &mut Output, told: &Told) {
    match told {
        Told::Event(event) => {
            clear_countdown(out);
            out.event(event);
            out.text(&sentence(event));
        }
        Told::Warning(text) => {
            clear_countdown(out);
            out.note(&format!("agent: {text}"));
        }
        Told::Holding { left, observed } if std::io::stderr().is_terminal() => {
            out.progress(format!("\r\x1b[K{left:4} s left, {observed}; Ctrl-C ends it now"));
        }
        Told::Holding { .. } => {}
    }
}

fn clear_countdown(out: &mut Output) {
    if std::io::stderr().is_terminal() {
        out.progress("\r\x1b[K".to_owned());
    }
}

pub(super) fn sentence(event: &Event) -> String {
    let mode = event.mode.name();
    let what = match &event.step {
        Step::Armed { pid, duration_ms, lease_pid, .. } => {
            let on = pid.map_or(String::new(), |pid| format!(" on nginx {pid}"));
            format!("armed      {mode}{on} for {} s; keeper {lease_pid} ends it", *duration_ms as f64 / 1e3)
        }
        Step::Injected => format!("injected   {mode}"),
        Step::Effective { observed } => format!("effective  {observed}"),
        Step::Lost { effective_ms, what } => {
            format!("lost       after {:.1} s: {what}", *effective_ms as f64 / 1e3)
        }
        Step::Recovering { why } => format!("recovering {}", because(*why)),
        Step::Recovered { first_ok_after_ms } => format!("recovered  after {first_ok_after_ms} ms"),
    };
    format!("{}  {what}", event.at)
}

fn because(why: Why) -> &'static str {
    match why {
        Why::Deadline => "the time is over",
        Why::Signal => "a signal asked for it",
        Why::Asked => "`agent recover` asked for it",
        Why::NoEffect => "it had no effect",
        Why::Released => "its keeper was killed, and nginx runs on",
        Why::Reboot => "the machine was started again",
        Why::Undone => "nginx answers: something else has started it again",
        Why::Lost => "its effect went before its time",
        Why::Unkept => "its keeper is gone, and no other one can be had",
    }
}

/// An error of the room with its exit code.
pub(super) fn failure(error: FaultError) -> Failure {
    let exit = match &error {
        e if e.is_refusal() => Exit::Refused,
        FaultError::NotRecovered(_) | FaultError::GoingDown | FaultError::Inject { .. } => Exit::No,
        FaultError::Record(RecordError::Read { .. } | RecordError::Parse { .. }) => {
            let hint = "see whether nginx answers, start it if it does not, and only then remove that file";
            return Failure::new(Exit::CannotTell, anyhow::Error::new(error).context(hint));
        }
        _ => Exit::CannotTell,
    };
    Failure::new(exit, error)
}
