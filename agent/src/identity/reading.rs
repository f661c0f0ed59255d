//! One path of the metadata service: what it last said, and when it is asked again. Pure: the time is handed in.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::PathState;
use super::backoff::Backoff;
use super::imds::Form;
use crate::sys::clock::rfc3339;

/// The longest wait after a failure while something is announced.
const PENDING: Duration = Duration::from_secs(10);
/// The longest wait after a failure of a service that has answered before: an end is announced two minutes ahead.
const KNOWN: Duration = Duration::from_secs(30);
/// A fact that the service doesn't have is asked for again.
const MISSING_FACT: Duration = Duration::from_secs(60);

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It doesn't change while the instance runs.
    Fact,
    /// It may change at any time.
    Notice,
}

/// A failed question.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    /// In words.
    pub why: String,
    /// Nothing answers as a metadata service of version 2.
    pub absent: bool,
}

/// A path and what is known of it.
#[derive(Debug)]
pub(super) struct Reading {
    pub path: &'static str,
    pub form: Form,
    kind: Kind,
    /// `None`: never answered; `Some(None)`: the service has none (404).
    value: Option<Option<String>>,
    answered: Option<Timestamp>,
    failed: Option<Failed>,
    backoff: Backoff,
    /// When it is asked next; a fact that is known isn't any more.
    next: Option<Instant>,
}

impl Reading {
    pub(super) fn new(path: &'static str, kind: Kind, form: Form, now: Instant) -> Self {
        let (value, answered, failed, backoff) = (None, None, None, Backoff::default());
        Self { path, form, kind, value, answered, failed, backoff, next: Some(now) }
    }

    /// Whether it is to be asked.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// When it is asked next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The service said this: a value, or that it has none. Only that changes what is known.
    pub(super) fn answered(&mut self, value: Option<String>, now: Instant, at: Timestamp, refresh: Duration) {
        self.next = match (self.kind, &value) {
            (Kind::Fact, Some(_)) => None,
            (Kind::Fact, None) => Some(now + refresh.max(MISSING_FACT)),
            (Kind::Notice, _) => Some(now + refresh),
        };
        self.value = Some(value);
        self.answered = Some(at);
        self.failed = None;
        self.backoff.reset();
    }

    /// The question had no answer, which withdraws nothing. `known`: the service has answered before; `pending`:
    /// something is announced.
    pub(super) fn failed(&mut self, failed: Failed, now: Instant, known: bool, pending: bool, random: f64) {
        let wait = self.backoff.failed(known || !failed.absent, random);
        let longest = match (pending, known) {
            (true, _) => PENDING,
            (false, true) => KNOWN,
            (false, false) => Duration::MAX,
        };
        self.next = Some(now + wait.min(longest));
        self.failed = Some(failed);
    }

    /// The value as a snapshot shows it.
    pub(super) fn shown(&self) -> &str {
        match &self.value {
            Some(Some(value)) => value,
            Some(None) => "none",
            None => "unknown",
        }
    }

    /// Whether it has ever been answered.
    pub(super) fn is_known(&self) -> bool {
        self.value.is_some()
    }

    /// Why the last question had no answer.
    pub(super) fn failure(&self) -> Option<&Failed> {
        self.failed.as_ref()
    }

    /// For `status`.
    pub(super) fn state(&self) -> PathState {
        PathState {
            path: self.path.to_owned(),
            answered: self.answered.map(rfc3339),
            error: self.failed.as_ref().map(|failed| failed.why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(10);

    fn failure(absent: bool) -> Failed {
        Failed { why: "503".into(), absent }
    }

    #[test]
    fn a_failure_withdraws_nothing_and_a_404_does() {
        let now = Instant::now();
        let mut spot = Reading::new("spot/instance-action", Kind::Notice, Form::Json, now);
        assert_eq!(spot.shown(), "unknown");
        spot.answered(Some("{}".into()), now, Timestamp::UNIX_EPOCH, REFRESH);
        for absent in [false, true, false] {
            spot.failed(failure(absent), now, true, true, 1.0);
            assert_eq!((spot.shown(), spot.failure().is_some()), ("{}", true));
        }
        spot.answered(None, now, Timestamp::UNIX_EPOCH, REFRESH);
        assert_eq!((spot.shown(), spot.failure().is_some()), ("none", false));
    }

    #[test]
    fn something_announced_is_asked_for_at_least_every_ten_seconds() {
        let now = Instant::now();
        let longest = |known, pending| {
            let mut notice = Reading::new("x", Kind::Notice, Form::Json, now);
            (0..20).for_each(|_| notice.failed(failure(true), now, known, pending, 1.0));
            notice.next().unwrap() - now
        };
        assert_eq!(longest(true, true), PENDING);
        assert_eq!(longest(true, false), KNOWN);
        assert_eq!(longest(false, false), Duration::from_secs(300));
    }

    #[test]
    fn a_fact_that_is_known_is_not_asked_for_again() {
        let now = Instant::now();
        let mut fact = Reading::new("instance-id", Kind::Fact, Form::Line, now);
        assert!(fact.is_due(now));
        fact.answered(None, now, Timestamp::UNIX_EPOCH, REFRESH);
        assert_eq!(fact.next(), Some(now + MISSING_FACT));
        fact.answered(Some("i-1".into()), now, Timestamp::UNIX_EPOCH, REFRESH);
        assert!(!fact.is_due(now + Duration::from_secs(86_400)));
    }
}
