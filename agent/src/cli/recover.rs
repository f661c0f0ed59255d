//! `agent recover`: ends the fault of this machine, and what every other verb does about one that is overdue.

use crate::cli::fail_events::{Recovered, RecoveredHere};
use crate::cli::output::Output;
use crate::cli::told::{failure, print};
use crate::cli::{Common, Exit, Failure, Settings};
use crate::fault::event::Told;
use crate::fault::{self, Ended};

/// End a fault now, and see nginx answer
///
/// Brings nginx back whatever state the fault left it in: continues what was stopped, ends workers that lost their
/// master, starts nginx as it was started before, and waits until it answers. Safe to run at any time and as often
/// as you like. Exit code 0: nginx answers as it was, or there was no fault. 1: nginx does not answer, and the fault
/// stays on record and is tried again; or nginx is not what it was, and what is otherwise is listed. 3: it cannot be told whether there is a fault.
#[derive(Debug, clap::Args)]
pub(super) struct Recover {}

impl Recover {
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        let mut out = Output::unwaiting(common.json);
        let (paths, mut warnings) = Settings::paths(common);
        if warnings.is_empty()
            && let Err(wrong) = Settings::load(common, Vec::new())
        {
            warnings.push(format!("{wrong}; only [paths] is needed to recover"));
        }
        warnings.iter().for_each(|text| out.note(&format!("agent: {text}")));
        let ended = fault::recover_now(&paths, &mut |told| print(&mut out, &told));
        match ended.map_err(failure)? {
            Ended::Already => {
                out.event(&Recovered { fault: None, recovered: true, end: None });
                out.text("no fault is active");
            }
            Ended::Here { record, first_ok_after_ms, differences } => {
                let end = Some(RecoveredHere { first_ok_after_ms, differences: &differences });
                let fault = Some(record.mode());
                out.event(&Recovered { fault, recovered: true, end });
                if !differences.is_empty() {
                    return Ok(Exit::No);
                }
            }
        }
        Ok(Exit::Done)
    }
}

/// Ends a fault that is past its deadline, or arms its lease anew; any verb that root runs does this first. What goes
/// wrong is told and stops nothing.
pub(super) fn overdue(common: &Common) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Wrong settings are the verb's to complain about.
    let (paths, _) = Settings::paths(common);
    let mut lines = Vec::new();
    let mut tell = |told| match told {
        Told::Event(event) => lines.push(format!("agent: a fault is overdue: {}", describe(&event))),
        Told::Warning(text) => lines.push(format!("agent: {text}")),
        Told::Holding { .. } => {}
    };
    if let Err(e) = fault::reconcile(&paths, &mut tell) {
        lines.push(format!("agent: {e}"));
    }
    // Only now: whoever reads stderr must not delay the end of a fault.
    let mut out = Output::new(false);
    lines.iter().for_each(|line| out.note(line));
}

fn describe(event: &fault::event::Event) -> String {
    let step = serde_json::to_value(&event.step).unwrap_or_default();
    format!("{} {}", event.mode.name(), step["event"].as_str().unwrap_or_default())
}
