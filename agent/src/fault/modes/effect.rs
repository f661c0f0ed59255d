//! Whether a fault has the effect that was meant: at first, and then as long as it lasts.

use std::time::{Duration, Instant};

use super::packets;
use crate::fault::lease::record::{Fault, Mode, Record};
use crate::nginx::answer::Answer;
use crate::sys::clock::since_boot;
use crate::sys::proc::Stat;

/// How long the effect may take to show: the daemon looks at the record once a second, nginx closes at once.
const EFFECT: Duration = Duration::from_secs(5);
/// No answer for so long is silence, where one takes a millisecond.
const SILENCE: Duration = Duration::from_secs(1);
/// What one look at the effect may take, once it is there.
const LOOK: Duration = Duration::from_millis(250);
/// So shortly before the deadline the kernel takes its rules away itself, and the daemon answers what it kept waiting.
const NEARLY: Duration = Duration::from_millis(600);

/// What was seen of the effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fault) struct Observed {
    /// Whether it is as meant.
    pub(in crate::fault) as_meant: bool,
    /// What was seen, in words.
    pub(in crate::fault) what: String,
    /// What nginx, or `/health`, answered; of packets nothing is seen from here.
    pub(in crate::fault) answer: Answer,
}

/// Looks until the effect shows, or for as long as it may take; `None` when `interrupted` meanwhile.
pub(in crate::fault) fn first(record: &Record, interrupted: &dyn Fn() -> bool) -> Option<Observed> {
    let limit = EFFECT.min(record.deadline().saturating_sub(since_boot()));
    // Of a short fault half is for being seen.
    let silence = match record.fault {
        Fault::Slow { delay, .. } => SILENCE.min(delay / 2),
        _ => SILENCE,
    };
    let silence = silence.min(limit / 2);
    let end = Instant::now() + limit;
    loop {
        let observed = look(record, silence);
        if observed.as_meant || Instant::now() > end {
            return Some(observed);
        }
        if interrupted() {
            return None;
        }
        // No event tells that another program's port has closed.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Looks once, at an effect that was seen before: `Err` says what became of it.
pub(in crate::fault) fn still(record: &Record, at_first: &Observed) -> Result<Answer, String> {
    let left = record.deadline().saturating_sub(since_boot());
    if left < NEARLY {
        return Ok(at_first.answer);
    }
    if record.mode() == Mode::Hang {
        // A connection for each look would fill nginx's backlog.
        return still_held(record).map(|()| Answer::Silent);
    }
    let mut observed = look(record, LOOK);
    if record.mode().touches_packets() && !observed.as_meant {
        // nft may have failed for a reason of its own.
        observed = look(record, LOOK);
    }
    let lost = match record.mode() {
        Mode::Stop | Mode::Crash => observed.answer.is_some(),
        // What fails otherwise than it was meant still fails.
        Mode::Unhealthy | Mode::Slow => matches!(observed.answer, Answer::Status(200)),
        _ => !observed.as_meant || observed.what != at_first.what,
    };
    if !lost {
        return Ok(observed.answer);
    }
    Err(match record.mode() {
        Mode::Stop | Mode::Crash => format!("something else started nginx: it {}", observed.answer),
        Mode::Unhealthy | Mode::Slow => format!("/health {} again", observed.answer),
        _ if observed.as_meant => format!("rules went: {}, before {}", observed.what, at_first.what),
        _ => format!("the rules were flushed by someone ({})", observed.what),
    })
}

fn look(record: &Record, patience: Duration) -> Observed {
    if record.mode().touches_packets() {
        return packets_look();
    }
    let Some((endpoint, path)) = record.endpoint() else {
        return Observed { as_meant: false, what: "nothing to ask".into(), answer: Answer::Silent };
    };
    if record.mode() == Mode::Hang {
        // The kernel says first whether they stand.
        let stands = still_held(record);
        let answer = endpoint.ask(path, patience);
        return Observed { as_meant: stands.is_ok() && answer == Answer::Silent, ..said(answer) };
    }
    let answer = endpoint.ask(path, patience);
    let as_meant = match record.mode() {
        Mode::Unhealthy => answer == Answer::Status(503),
        Mode::Slow => answer == Answer::Silent,
        _ => !answer.is_some(),
    };
    Observed { as_meant, ..said(answer) }
}

fn said(answer: Answer) -> Observed {
    Observed { as_meant: false, what: answer.to_string(), answer }
}

/// Loopback is left alone, so that what other machines see can't be seen from here: the kernel tells which ports are
/// affected.
fn packets_look() -> Observed {
    let (ports, what) = match packets::in_force() {
        Ok(ports) => (ports, format!("{ports} of nginx's addresses, as the kernel says")),
        Err(e) => (0, e.to_string()),
    };
    Observed { as_meant: ports > 0, what, answer: Answer::Silent }
}

fn still_held(record: &Record) -> Result<(), String> {
    let Some(target) = record.target() else { return Ok(()) };
    let pid = target.master.pid;
    match Stat::of(pid) {
        Ok(stat) if stat.start_ticks == target.master.start_ticks && stat.state == 't' => Ok(()),
        Ok(stat) if stat.start_ticks == target.master.start_ticks && !matches!(stat.state, 'Z' | 'X') => {
            Err(format!("nginx {pid} was let go"))
        }
        _ => Err(format!("nginx {pid} was ended by someone")),
    }
}
