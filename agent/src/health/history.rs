//! Why `/health` says what it says, and what it said before. Pure: the caller tells the time.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sys::clock::rfc3339;

/// So many changes are remembered.
const MOST: usize = 50;

/// What `/health` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// 200.
    Pass,
    /// 503.
    Fail,
}

impl Verdict {
    /// Of a boolean.
    pub fn of(pass: bool) -> Self {
        if pass { Self::Pass } else { Self::Fail }
    }

    /// The status of the answer.
    pub fn code(self) -> u16 {
        match self {
            Self::Pass => 200,
            Self::Fail => 503,
        }
    }
}

/// What makes `/health` say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A check, of nginx for example.
    Check,
    /// A simulated failure.
    Fault,
    /// AWS has announced that the instance goes.
    Notice,
    /// The agent is ending.
    Drain,
    /// The checks have not been made for too long.
    Stale,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "check",
            Self::Fault => "fault",
            Self::Notice => "notice",
            Self::Drain => "drain",
            Self::Stale => "stale",
        })
    }
}

/// A change of the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Change {
    /// When, RFC 3339.
    pub at: String,
    /// What it said before; nothing for the first verdict.
    pub from: Option<Verdict>,
    /// What it says since.
    pub to: Verdict,
    /// What made it change. Where it passes again: what had failed.
    pub cause: Cause,
    /// What was found, for people.
    pub detail: String,
    /// For how long it had said what it said before.
    pub held_ms: Option<u64>,
}

/// Why a verdict is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    pub cause: Cause,
    pub detail: String,
}

/// The verdict so far and its changes, the latest one last.
#[derive(Debug, Default)]
pub(super) struct History {
    last: Option<(Verdict, Cause, Duration)>,
    changes: VecDeque<Change>,
    /// How often it turned to 200 and to 503.
    turned: (u64, u64),
}

impl History {
    /// Takes the verdict of a moment: `now` since boot, `at` by the clock. Says what changed.
    pub(super) fn observe(
        &mut self,
        pass: bool,
        reason: &Reason,
        now: Duration,
        at: Timestamp,
    ) -> Option<&Change> {
        let to = Verdict::of(pass);
        if let Some((verdict, cause, _)) = &mut self.last
            && *verdict == to
        {
            if !pass {
                *cause = reason.cause;
            }
            return None;
        }
        let before = self.last.replace((to, reason.cause, now));
        let change = Change {
            at: rfc3339(at),
            from: before.map(|(verdict, ..)| verdict),
            to,
            // What is over is what it was about.
            cause: before.filter(|_| pass).map_or(reason.cause, |(_, cause, _)| cause),
            detail: reason.detail.clone(),
            held_ms: before.map(|(.., since)| now.saturating_sub(since).as_millis() as u64),
        };
        match to {
            Verdict::Pass => self.turned.0 += 1,
            Verdict::Fail => self.turned.1 += 1,
        }
        if self.changes.len() == MOST {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        self.changes.back()
    }

    pub(super) fn changes(&self) -> Vec<Change> {
        self.changes.iter().cloned().collect()
    }

    /// How often it turned to 200 and to 503.
    pub(super) fn turned(&self) -> (u64, u64) {
        self.turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(cause: Cause, detail: &str) -> Reason {
        Reason { cause, detail: detail.to_owned() }
    }

    #[test]
    fn each_change_names_what_it_was_for_how_long_and_why() {
        let mut history = History::default();
        let at =
            |secs| (Duration::from_secs(secs), Timestamp::from_second(1_700_000_000 + secs as i64).unwrap());
        let mut observe = |secs, pass, cause, detail| {
            let (now, clock) = at(secs);
            history.observe(pass, &reason(cause, detail), now, clock).cloned()
        };
        let first = observe(0, true, Cause::Check, "nginx answered 200").unwrap();
        assert_eq!((first.from, first.to, first.held_ms), (None, Verdict::Pass, None));
        assert_eq!(observe(5, true, Cause::Check, "nginx answered 200"), None);
        let fault = observe(10, false, Cause::Fault, "unhealthy by ann").unwrap();
        assert_eq!(
            (fault.from, fault.cause, fault.held_ms),
            (Some(Verdict::Pass), Cause::Fault, Some(10_000))
        );
        // The cause that was there last is the one that is over.
        assert_eq!(observe(11, false, Cause::Check, "nginx refused"), None);
        let well = observe(12, true, Cause::Check, "nginx answered 200").unwrap();
        assert_eq!((well.cause, well.to, well.held_ms), (Cause::Check, Verdict::Pass, Some(2000)));
        assert_eq!(history.turned(), (2, 1));
    }

    #[test]
    fn the_last_fifty_are_kept() {
        let mut history = History::default();
        for second in 0..120 {
            let now = Duration::from_secs(second);
            history.observe(second % 2 == 0, &reason(Cause::Check, "x"), now, Timestamp::UNIX_EPOCH);
        }
        assert_eq!((history.changes().len(), history.turned()), (MOST, (60, 60)));
    }
}
