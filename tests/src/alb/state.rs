//! When a target becomes healthy and unhealthy, as one node sees it: pure, a result goes in and a change comes out.

use std::fmt;

use super::settings::Check;

/// A target's state, in the words of "Target health status",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html#target-health-states>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Registered; the initial checks are under way.
    Initial,
    /// Gets requests.
    Healthy,
    /// Gets none while another is healthy.
    Unhealthy,
    /// Deregistered; only requests under way are finished.
    Draining,
}

/// Why a target isn't healthy: "Health check reason codes",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html#target-health-reason-codes>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not enough checks yet.
    InitialHealthChecking,
    /// A code outside the matcher.
    ResponseCodeMismatch(u16),
    /// No answer in time.
    Timeout,
    /// No connection, or a malformed answer.
    FailedHealthChecks,
    /// Taken out by [`Alb::deregister`](super::Alb::deregister).
    DeregistrationInProgress,
}

/// What one probe brought: the status code, or why there is none.
pub type Outcome = Result<u16, Trouble>;

/// Why a probe got no status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The time-out passed.
    Timeout,
    /// Refused, reset, closed or malformed.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
        })
    }
}

impl fmt::Display for Reason {
    /// AWS's code, and the status in brackets where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InitialHealthChecking => f.write_str("Elb.InitialHealthChecking"),
            Self::ResponseCodeMismatch(code) => write!(f, "Target.ResponseCodeMismatch [{code}]"),
            Self::Timeout => f.write_str("Target.Timeout"),
            Self::FailedHealthChecks => f.write_str("Target.FailedHealthChecks"),
            Self::DeregistrationInProgress => f.write_str("Target.DeregistrationInProgress"),
        }
    }
}

/// A state and, where it isn't [`State::Healthy`], the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The state.
    pub state: State,
    /// What brought it there.
    pub reason: Option<Reason>,
}

impl Health {
    pub(super) const REGISTERED: Self =
        Self { state: State::Initial, reason: Some(Reason::InitialHealthChecking) };
    pub(super) const DEREGISTERED: Self =
        Self { state: State::Draining, reason: Some(Reason::DeregistrationInProgress) };
}

/// Counts one node's results for one target.
#[derive(Debug)]
pub(super) struct Tracker {
    state: State,
    /// Results in a row that speak against the state.
    against: u32,
}

impl Tracker {
    pub(super) fn new() -> Self {
        Self { state: State::Initial, against: 0 }
    }

    /// Takes a result in; gives the health when the state changed.
    ///
    /// "After your target is registered, it must pass one health check to be considered healthy"; thereafter it takes
    /// `UnhealthyThresholdCount` failures in a row to take it out and `HealthyThresholdCount` successes in a row to
    /// bring it back (the page above). That a target which never passed becomes unhealthy after as many failures is
    /// our model: the page says only that it is `initial` while the initial checks run.
    pub(super) fn take(&mut self, check: &Check, outcome: Outcome) -> Option<Health> {
        let reason = failure(check, outcome);
        let (opposite, needed) = match (self.state, reason) {
            (State::Initial, None) => (State::Healthy, 1),
            (State::Initial | State::Healthy, Some(_)) => (State::Unhealthy, check.unhealthy_threshold),
            (State::Unhealthy, None) => (State::Healthy, check.healthy_threshold),
            (State::Healthy, None) | (State::Unhealthy, Some(_)) | (State::Draining, _) => {
                self.against = 0;
                return None;
            }
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        *self = Self { state: opposite, against: 0 };
        Some(Health { state: opposite, reason })
    }
}

/// Why a result fails the check, if it does.
pub(super) fn failure(check: &Check, outcome: Outcome) -> Option<Reason> {
    match outcome {
        Ok(code) if check.matcher.passes(code) => None,
        Ok(code) => Some(Reason::ResponseCodeMismatch(code)),
        Err(Trouble::Timeout) => Some(Reason::Timeout),
        Err(Trouble::Failed) => Some(Reason::FailedHealthChecks),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Matcher;
    use super::*;

    const OK: Outcome = Ok(200);
    const BAD: Outcome = Err(Trouble::Failed);

    /// The states after each result, with thresholds of 3 successes and 2 failures.
    fn states(outcomes: &[Outcome]) -> Vec<State> {
        let check = Check { healthy_threshold: 3, unhealthy_threshold: 2, ..Check::default() };
        let mut tracker = Tracker::new();
        let after = |outcome: &Outcome| {
            tracker.take(&check, *outcome);
            tracker.state
        };
        outcomes.iter().map(after).collect()
    }

    #[test]
    fn the_first_success_makes_a_new_target_healthy_even_after_a_failure() {
        assert_eq!(states(&[OK]), [State::Healthy]);
        assert_eq!(states(&[BAD, OK]), [State::Initial, State::Healthy]);
    }

    #[test]
    fn a_new_target_that_only_fails_becomes_unhealthy_and_then_needs_the_healthy_threshold() {
        use State::{Healthy, Initial, Unhealthy};
        assert_eq!(states(&[BAD, BAD, OK, OK, OK]), [Initial, Unhealthy, Unhealthy, Unhealthy, Healthy]);
    }

    #[test]
    fn only_results_in_a_row_count() {
        use State::{Healthy, Unhealthy};
        assert_eq!(states(&[OK, BAD, OK, BAD, OK]), [Healthy; 5]);
        let out = states(&[OK, BAD, BAD, OK, OK, BAD, OK, OK, OK]);
        assert_eq!(
            out[1..],
            [Healthy, Unhealthy, Unhealthy, Unhealthy, Unhealthy, Unhealthy, Unhealthy, Healthy]
        );
    }

    #[test]
    fn a_change_is_told_once_with_its_reason() {
        let check = Check { matcher: Matcher::parse("200-299").unwrap(), ..Check::default() };
        let mut tracker = Tracker::new();
        assert_eq!(tracker.take(&check, Ok(204)), Some(Health { state: State::Healthy, reason: None }));
        assert_eq!(tracker.take(&check, Ok(503)), None);
        let reason = Some(Reason::ResponseCodeMismatch(503));
        assert_eq!(tracker.take(&check, Ok(503)), Some(Health { state: State::Unhealthy, reason }));
        assert_eq!(tracker.take(&check, Err(Trouble::Timeout)), None);
    }
}
