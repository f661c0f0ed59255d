//! How much of the requests a target gets at one node: slow start and anomaly mitigation. Pure: time is an argument.

use std::time::Duration;

use super::settings::Group;

/// Anomalies are looked for with at least so many healthy targets ("Automatic target weights", the page that [`Weight`]
/// names, as of 2026-11-27).
const ENOUGH_TARGETS: usize = 3;
/// So many errors in a row make a target anomalous: our model, AWS documents no number.
const ANOMALOUS: u32 = 5;
/// With each further error it gets half of what it got, and never less than this: AWS documents "iteratively" and
/// "negligible"; the steps are our model.
const LEAST: f64 = 0.01;

/// What a node knows of a target beside its health.
///
/// "Edit target group attributes for your Application Load Balancer",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html> (2026-11-27).
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    healthy_since: Duration,
    errors: u32,
    share: f64,
}

impl Default for Weight {
    fn default() -> Self {
        Self { healthy_since: Duration::ZERO, errors: 0, share: 1.0 }
    }
}

impl Weight {
    /// It became healthy: "targets enter slow start mode when they are considered healthy by the target group".
    pub(super) fn healthy(&mut self, now: Duration) {
        *self = Self { healthy_since: now, ..Self::default() };
    }

    /// A request to it ended: HTTP 5xx and connection errors count ("anomaly detection analyzes the HTTP return status codes
    /// and TCP/TLS errors", the announcement of automatic target weights).
    pub(super) fn took(&mut self, ok: bool) {
        if ok {
            (self.errors, self.share) = (0, (self.share * 2.0).min(1.0));
        } else {
            self.errors += 1;
            if self.errors >= ANOMALOUS {
                self.share = (self.share / 2.0).max(LEAST);
            }
        }
    }

    /// Its weight among `healthy` targets. In slow start "the load balancer linearly increases the number of requests that
    /// it can send to a target"; a target that was healthy from the beginning isn't in it.
    pub(super) fn at(&self, group: &Group, now: Duration, healthy: usize) -> f64 {
        let age = now.saturating_sub(self.healthy_since);
        let slow = match self.healthy_since.is_zero() || group.slow_start.is_zero() {
            true => 1.0,
            false => (age.as_secs_f64() / group.slow_start.as_secs_f64()).clamp(1e-6, 1.0),
        };
        let mitigated = group.anomaly_mitigation && healthy >= ENOUGH_TARGETS;
        slow * if mitigated { self.share } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_in_slow_start_gets_more_and_more() {
        let group = Group { slow_start: Duration::from_secs(100), ..Group::default() };
        let mut weight = Weight::default();
        assert!((weight.at(&group, Duration::from_secs(5), 2) - 1.0).abs() < 1e-9);
        weight.healthy(Duration::from_secs(10));
        let at = |secs| weight.at(&group, Duration::from_secs(secs), 2);
        assert!((at(35) - 0.25).abs() < 1e-9 && (at(110) - 1.0).abs() < 1e-9 && (at(999) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_target_that_errs_gets_less_where_that_is_on_and_three_are_healthy() {
        let group = Group { anomaly_mitigation: true, ..Group::default() };
        let mut weight = Weight::default();
        (0..8).for_each(|_| weight.took(false));
        let now = Duration::ZERO;
        assert!(weight.at(&group, now, 3) < 0.1 && (weight.at(&group, now, 2) - 1.0).abs() < 1e-9);
        assert!((weight.at(&Group::default(), now, 3) - 1.0).abs() < 1e-9);
        (0..8).for_each(|_| weight.took(true));
        assert!((weight.at(&group, now, 3) - 1.0).abs() < 1e-9);
    }
}
