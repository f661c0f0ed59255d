//! What should happen: bounds for the outage window and for the time until a target is used again, derived from the
//! target group's health check. Pure.
//!
//! A node probes every `I`, on a schedule that the fault knows nothing of: its first probe after the beginning of the
//! fault comes `u` later, with `0 ≤ u < I`. A probe of a target that refuses fails at once, one of a target that hangs
//! fails when its time-out `T` has passed ("The time that it takes for the target to respond does not affect the
//! interval for the next health check request", "Health check settings",
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>). The `F`-th
//! failure in a row takes the target out:
//!
//! - refused: after `u + (F−1)·I`, so within `(F−1)·I … F·I`;
//! - silent: after `u + (F−1)·I + T`, so within `(F−1)·I + T … F·I + T`.
//!
//! Until then clients that are sent to this target get errors: that is the outage of this node, and the outage of the
//! service is the longest of its nodes'. A fault that is over before ends the outage itself. Back in use it takes `H`
//! successes in a row, `(H−1)·I … H·I` after the recovery. A probe that hung when the fault ended is answered then, up to
//! `T` after it was sent: after a silent fault the lower bound is `T` less.
//!
//! The load balancer fails open where too few other targets are healthy (`group`): it goes on sending requests here, and
//! the outage lasts as long as the fault.
//!
//! The address of a zone with too few healthy targets leaves the load balancer's name, where DNS failover is on and other
//! zones are well: clients that look the name up again get no more errors there, and this target is back in use there when
//! the address is.
//!
//! The deregistration delay plays no part: an unhealthy target stays registered, and only deregistration begins it
//! ("Deregistration delay",
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html#deregistration-delay>,
//! 2026-11-27).
//!
//! With anomaly mitigation it may send less and less to a target that errs before any probe says so: the outage is then
//! anything up to the same bound. In slow start a target that is back gets its first request later.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::group::Group;

use crate::fault::Mode;

/// How long after nginx died the daemon's `/health` says so at the latest: the kernel closes its kept connection, and
/// two failed checks a quarter of a second apart make it sure (`[health]`).
const AGENT_SEES_DEATH: Duration = Duration::from_secs(1);
/// The same for an nginx that hangs: two seconds between checks and time-outs of 0.7 s.
const AGENT_SEES_HANG: Duration = Duration::from_secs(3);
/// How long the daemon takes to see that nginx is back, or that the fault record is gone.
const AGENT_SEES_END: Duration = Duration::from_secs(1);

/// How long a target that was given less because of its errors may go without a request once it is well: "the ALB will
/// gradually increase the amount of traffic"; how fast isn't documented
/// (<https://aws.amazon.com/about-aws/whats-new/2023/11/application-load-balancer-availability-target-weights/>).
const WEIGHED_AGAIN: Duration = Duration::from_secs(60);

/// How long an address that leaves or joins a name may be unknown to who looks it up: "the local client DNS cache might contain
/// these IP addresses until the time-to-live (TTL) in the DNS record expires (60 seconds)" ("Target group health",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health.html>, 2026-11-27).
const NAME_LIVES: Duration = Duration::from_secs(60);

/// Whom the target group's health check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// A port of nginx.
    Nginx,
    /// The agent's own port.
    Agent,
}

/// The health check of the target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// `HealthCheckIntervalSeconds`.
    pub interval: Duration,
    /// `HealthCheckTimeoutSeconds`.
    pub timeout: Duration,
    /// `HealthyThresholdCount`.
    pub healthy: u32,
    /// `UnhealthyThresholdCount`.
    pub unhealthy: u32,
    /// Whom it asks.
    pub via: Via,
    /// What else of the target group matters.
    pub group: Group,
}

/// The fault and what else matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// How it fails.
    pub mode: Mode,
    /// How long, at least and at most: when exactly nginx fell silent can only be bounded.
    pub lasts: Range,
    /// `slow`: how late `/health` answers.
    pub delay: Duration,
    /// How long our requests wait for an answer.
    pub deadline: Duration,
    /// Whether it is `/health` that is measured.
    pub of_health: bool,
    /// How many targets are healthy before, this one among them; `None` where it can't be told.
    pub targets: Option<u32>,
    /// Whether another address of the name has targets enough without this one.
    pub elsewhere: bool,
    /// Requests a second to each node.
    pub rps: u32,
}

/// A time, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(from = "Bounds", into = "Bounds")]
#[cfg_attr(test, schemars(with = "Bounds"))]
pub struct Range {
    /// At least.
    pub least: Duration,
    /// At most.
    pub most: Duration,
}

impl Range {
    /// From here to there.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most: most.max(least) }
    }

    /// Whether `value` lies in it, where it may be `below` too short and `above` too long.
    pub fn holds(&self, value: Duration, below: Duration, above: Duration) -> bool {
        value + below >= self.least && value <= self.most + above
    }

    fn plus(self, more: Duration) -> Self {
        Self { least: self.least + more, most: self.most + more }
    }
}

/// [`Range`] as it is written.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Bounds {
    /// At least.
    least_ms: f64,
    /// At most.
    most_ms: f64,
}

impl From<Bounds> for Range {
    fn from(bounds: Bounds) -> Self {
        let time = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
        Self { least: time(bounds.least_ms), most: time(bounds.most_ms) }
    }
}

impl From<Range> for Bounds {
    fn from(range: Range) -> Self {
        let ms = |time: Duration| time.as_micros() as f64 / 1e3;
        Self { least_ms: ms(range.least), most_ms: ms(range.most) }
    }
}

/// The bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Prediction {
    /// Whether clients are to see anything of it.
    pub visible: bool,
    /// Whether the load balancer has enough other healthy targets to stop using this one; `false`: it fails open.
    pub takes_out: bool,
    /// Whether addresses that use this target leave the name meanwhile (DNS failover).
    #[serde(default)]
    pub leaves_name: bool,
    /// From the first to the last client error.
    pub outage: Range,
    /// From the beginning of the fault until a node takes the target out; `None` when no probe sees the fault.
    pub detection: Option<Range>,
    /// From the recovery until every node uses the target again.
    pub readmission: Range,
}

/// The bounds for a fault and a health check.
pub fn predict(check: &Check, failure: &Failure) -> Prediction {
    let detection = detection(check, failure);
    let visible = is_visible(failure);
    let takes_out = takes_out(check, failure);
    let leaves_name = detection.is_some() && leaves_name(check, failure);
    let lasts = failure.lasts;
    // Who asks a silent target shortly before it recovers is answered in time.
    let patient = if is_silent(failure.mode) { failure.deadline } else { Duration::ZERO };
    let throughout = Range::new(lasts.least.saturating_sub(patient), lasts.most);
    let outage = match detection {
        _ if !visible => Range::default(),
        Some(detection) if takes_out => {
            let most = detection.most.min(throughout.most);
            let least = detection.least.min(throughout.least);
            Range::new(if check.group.mitigates(failure.targets) { Duration::ZERO } else { least }, most)
        }
        // Who looks the name up again goes elsewhere.
        Some(detection) if leaves_name => {
            let most = (detection.most + NAME_LIVES).min(throughout.most);
            Range::new(detection.least.min(throughout.least), most)
        }
        _ => throughout,
    };
    let mut readmission = readmission(check, failure, detection.filter(|_| takes_out || leaves_name));
    if leaves_name {
        readmission.most += NAME_LIVES;
        // What goes on sending requests here is never without it.
        readmission.least = if takes_out { readmission.least } else { Duration::ZERO };
    }
    Prediction { visible, takes_out, leaves_name, outage, detection, readmission }
}

/// Whether addresses that use this target leave the name.
fn leaves_name(check: &Check, failure: &Failure) -> bool {
    let too_few = |targets: u32| check.group.leaves_name(targets.saturating_sub(1), targets);
    failure.elsewhere && failure.targets.is_some_and(too_few)
}

/// Whether enough other targets are healthy; where it can't be told, they are taken to be.
fn takes_out(check: &Check, failure: &Failure) -> bool {
    failure.targets.is_none_or(|targets| !check.group.fails_open(targets.saturating_sub(1), targets))
}

/// Whether a target that fails so gives no answer at all.
pub fn is_silent(mode: Mode) -> bool {
    matches!(mode, Mode::Hang | Mode::Drop | Mode::Slow)
}

fn is_visible(failure: &Failure) -> bool {
    match failure.mode {
        Mode::Unhealthy => failure.of_health,
        Mode::Slow => failure.of_health && failure.delay > failure.deadline,
        _ => true,
    }
}

/// From the beginning of the fault to the end of the `F`-th failed probe.
fn detection(check: &Check, failure: &Failure) -> Option<Range> {
    let refused = Range::new(check.interval * (check.unhealthy - 1), check.interval * check.unhealthy);
    let silent = refused.plus(check.timeout);
    let later = |seen: Duration| Range { most: refused.most + seen, ..refused };
    match (failure.mode, check.via) {
        (Mode::Unhealthy, _) => Some(refused),
        (Mode::Slow, _) => (failure.delay > check.timeout).then_some(silent),
        (Mode::Stop | Mode::Crash | Mode::Reject | Mode::Error, Via::Nginx) => Some(refused),
        (Mode::Hang | Mode::Drop, Via::Nginx) => Some(silent),
        (Mode::Stop | Mode::Crash, Via::Agent) => Some(later(AGENT_SEES_DEATH)),
        (Mode::Hang, Via::Agent) => Some(later(AGENT_SEES_HANG)),
        // They leave loopback and the agent's port alone.
        (Mode::Drop | Mode::Reject | Mode::Error, Via::Agent) => None,
    }
}

fn readmission(check: &Check, failure: &Failure, detection: Option<Range>) -> Range {
    let Some(detection) = detection else { return Range::default() };
    let lasts = failure.lasts;
    let mitigated = is_visible(failure) && check.group.mitigates(failure.targets);
    let weighed = if mitigated { WEIGHED_AGAIN } else { Duration::ZERO };
    if lasts.most < detection.least {
        // Never out of use.
        return Range::new(Duration::ZERO, weighed);
    }
    let late = match (failure.mode, check.via) {
        (Mode::Unhealthy | Mode::Slow, _) | (_, Via::Agent) => AGENT_SEES_END,
        _ => Duration::ZERO,
    };
    let first_request = check.group.first_request(failure.targets.unwrap_or(2), failure.rps);
    let most = check.interval * check.healthy + late + first_request + weighed;
    let early = if is_silent(failure.mode) { check.timeout } else { Duration::ZERO };
    // A fault that ends while some nodes have noticed and others haven't: those never stopped using the target.
    let everywhere = lasts.least >= detection.most;
    let least = (check.interval * (check.healthy - 1)).saturating_sub(early);
    Range::new(if everywhere && !mitigated { least } else { Duration::ZERO }, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn check(via: Via) -> Check {
        let group = Group::default();
        Check { interval: secs(5), timeout: secs(2), healthy: 5, unhealthy: 2, via, group }
    }

    fn failure(mode: Mode, lasts: u64) -> Failure {
        Failure {
            mode,
            lasts: Range::new(secs(lasts), secs(lasts)),
            delay: secs(10),
            deadline: secs(5),
            of_health: false,
            targets: Some(2),
            elsewhere: false,
            rps: 20,
        }
    }

    fn bounds(range: Range) -> (u64, u64) {
        (range.least.as_secs(), range.most.as_secs())
    }

    #[test]
    fn a_refusing_target_is_out_within_its_threshold_of_intervals() {
        let found = predict(&check(Via::Nginx), &failure(Mode::Stop, 60));
        assert_eq!((bounds(found.outage), bounds(found.readmission)), ((5, 10), (20, 25)));
    }

    #[test]
    fn a_silent_target_takes_a_timeout_longer() {
        let found = predict(&check(Via::Nginx), &failure(Mode::Hang, 60));
        assert_eq!((bounds(found.outage), bounds(found.readmission)), ((7, 12), (18, 25)));
    }

    #[test]
    fn a_fault_that_is_over_before_it_is_noticed_is_the_outage() {
        let found = predict(&check(Via::Nginx), &failure(Mode::Crash, 3));
        assert_eq!((bounds(found.outage), bounds(found.readmission)), ((3, 3), (0, 0)));
        let between = predict(&check(Via::Nginx), &failure(Mode::Crash, 7));
        assert_eq!((bounds(between.outage), bounds(between.readmission)), ((5, 7), (0, 25)));
    }

    #[test]
    fn without_another_target_the_outage_is_the_whole_fault() {
        let alone = Failure { targets: Some(1), ..failure(Mode::Stop, 60) };
        assert_eq!(bounds(predict(&check(Via::Nginx), &alone).outage), (60, 60));
    }

    #[test]
    fn below_the_groups_minimum_the_outage_is_the_whole_fault() {
        let of = |minimum: &str, targets| {
            let group = Group { routing_min: minimum.parse().unwrap(), ..Group::default() };
            let check = Check { group, ..check(Via::Nginx) };
            predict(&check, &Failure { targets, ..failure(Mode::Stop, 60) })
        };
        for (minimum, targets) in [("2", 2), ("3", 3), ("60%", 2), ("100%", 10), ("67%", 3)] {
            let found = of(minimum, Some(targets));
            assert!(!found.takes_out && bounds(found.outage) == (60, 60), "{minimum} of {targets}");
            assert_eq!(bounds(found.readmission), (0, 0));
        }
        for (minimum, targets) in
            [("1", Some(2)), ("2", Some(3)), ("50%", Some(2)), ("66%", Some(3)), ("9", None)]
        {
            let found = of(minimum, targets);
            assert!(found.takes_out && bounds(found.outage) == (5, 10), "{minimum} of {targets:?}");
        }
    }

    #[test]
    fn anomaly_mitigation_may_end_an_outage_earlier_and_needs_three_targets() {
        let group = Group { anomaly_mitigation: true, ..Group::default() };
        let check = Check { group, ..check(Via::Nginx) };
        let of = |targets| bounds(predict(&check, &Failure { targets, ..failure(Mode::Stop, 60) }).outage);
        assert_eq!((of(Some(3)), of(None), of(Some(2))), ((0, 10), (0, 10), (5, 10)));
    }

    #[test]
    fn an_address_that_leaves_the_name_ends_the_outage_there_and_is_back_with_it() {
        let of = |minimum: &str, targets, elsewhere| {
            let group = Group { dns_min: Some(minimum.parse().unwrap()), ..Group::default() };
            let check = Check { group, ..check(Via::Nginx) };
            predict(&check, &Failure { targets: Some(targets), elsewhere, ..failure(Mode::Stop, 300) })
        };
        // The only target of its zone: open until the address is gone.
        let alone = of("1", 1, true);
        assert!(alone.leaves_name && !alone.takes_out);
        assert_eq!((bounds(alone.outage), bounds(alone.readmission)), ((5, 70), (0, 85)));
        // Another one goes on there, and the zone is too small all the same.
        let half = of("60%", 2, true);
        assert_eq!((bounds(half.outage), bounds(half.readmission)), ((5, 10), (20, 85)));
        // Where every address has the same targets none leaves, and none does while there are enough.
        assert_eq!(bounds(of("1", 1, false).outage), (300, 300));
        assert!(!of("50%", 2, true).leaves_name);
    }

    #[test]
    fn in_slow_start_the_first_request_comes_later() {
        let group = Group { slow_start: secs(300), ..Group::default() };
        let check = Check { group, ..check(Via::Nginx) };
        let found = predict(&check, &failure(Mode::Stop, 60)).readmission;
        assert_eq!(found.least, secs(20));
        assert!(found.most > secs(35) && found.most < secs(60), "{found:?}");
    }

    #[test]
    fn what_only_the_probes_see_costs_clients_nothing() {
        for mode in [Mode::Unhealthy, Mode::Slow] {
            let found = predict(&check(Via::Agent), &failure(mode, 60));
            assert!(!found.visible && bounds(found.outage) == (0, 0) && found.detection.is_some());
        }
        let asked = Failure { of_health: true, ..failure(Mode::Unhealthy, 60) };
        assert_eq!(bounds(predict(&check(Via::Agent), &asked).outage), (5, 10));
        let quick = Failure { delay: secs(1), ..failure(Mode::Slow, 60) };
        assert_eq!(predict(&check(Via::Nginx), &quick).detection, None);
    }

    #[test]
    fn a_fault_that_the_probed_port_does_not_see_lasts_to_its_end() {
        let found = predict(&check(Via::Agent), &failure(Mode::Error, 60));
        assert_eq!(
            (found.detection, bounds(found.outage), bounds(found.readmission)),
            (None, (60, 60), (0, 0))
        );
        assert_eq!(bounds(predict(&check(Via::Agent), &failure(Mode::Hang, 60)).outage), (5, 13));
    }
}
