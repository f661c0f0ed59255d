//! What can be set on the load balancer, its target group and its nodes. Names and defaults are AWS's where AWS has
//! them: "Health checks for Application Load Balancer target groups",
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::place;

/// The load balancer as it is to be started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its nodes. An Application Load Balancer has at least two, one in each enabled zone ("Availability Zones for
    /// your Application Load Balancer",
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-subnets.html>).
    pub nodes: Vec<Node>,
    /// How targets are checked.
    pub check: Check,
    /// The target group's other attributes.
    pub group: Group,
    /// How long a connection to a target may take before the client gets 504. 10 s, which nobody can set on AWS
    /// ("Troubleshoot your Application Load Balancers", HTTP 504,
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html>).
    pub connect_timeout: Duration,
    /// How long either side may send nothing, and how long an unused connection to a target is kept. 60 s by default
    /// ("Edit attributes for your Application Load Balancer", connection idle timeout,
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html>).
    pub idle_timeout: Duration,
}

/// Attributes of the target group, as of 2026-11-27.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// `target_group_health.unhealthy_state_routing.minimum_healthy_targets.count`: 1 by default.
    pub routing_min: usize,
    /// The same, `.percentage` of all registered targets: off by default. "If you specify both types of thresholds for an
    /// action (count and percentage), the load balancer takes the action when either threshold is breached" ("Target group
    /// health", <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health.html>).
    pub routing_min_percentage: Option<usize>,
    /// `target_group_health.dns_failover.minimum_healthy_targets.count`: off by default. Only the model in time that counts
    /// has a name that addresses leave.
    pub dns_min: Option<usize>,
    /// `load_balancing.algorithm.anomaly_mitigation`, with `weighted_random`.
    pub anomaly_mitigation: bool,
    /// `slow_start.duration_seconds`: off by default, 30 to 900 s on AWS; here also less.
    pub slow_start: Duration,
    /// `deregistration_delay.timeout_seconds`: 300 s by default. Requests under way may take so long.
    pub deregistration_delay: Duration,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            routing_min: 1,
            routing_min_percentage: None,
            dns_min: None,
            anomaly_mitigation: false,
            slow_start: Duration::ZERO,
            deregistration_delay: Duration::from_secs(300),
        }
    }
}

impl Group {
    /// Whether requests go to all targets, whatever their health.
    pub(super) fn fails_open(&self, healthy: usize, registered: usize) -> bool {
        let share = |pct: usize| healthy * 100 < pct * registered;
        healthy < self.routing_min || self.routing_min_percentage.is_some_and(share)
    }
}

/// One address of the load balancer.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Where clients reach it. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where its probes and requests to targets come from.
    pub source: Ipv4Addr,
    /// When its first probe of a target comes, counted from the registration. AWS documents no relation between the
    /// nodes' schedules; that each has a phase of its own is our model.
    pub phase: Duration,
}

/// The health check of the target group.
#[derive(Debug, Clone)]
pub struct Check {
    /// `HealthCheckPath`: `/` by default.
    pub path: String,
    /// `HealthCheckIntervalSeconds`: 30 s by default, 5 to 300 on AWS; here also less.
    pub interval: Duration,
    /// `HealthCheckTimeoutSeconds`: 5 s by default, 2 to 120 on AWS; here also less, but never above the interval.
    pub timeout: Duration,
    /// `HealthyThresholdCount`: 5 by default, 2 to 10 on AWS.
    pub healthy_threshold: u32,
    /// `UnhealthyThresholdCount`: 2 by default, 2 to 10 on AWS.
    pub unhealthy_threshold: u32,
    /// `Matcher`: 200 by default.
    pub matcher: Matcher,
    /// Each probe comes up to this late, never the schedule. Not documented by AWS: our model, none by default.
    pub jitter: Duration,
}

/// The status codes that pass: "200", "200,202" or "200-299".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher(Vec<RangeInclusive<u16>>);

impl Default for Check {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: Matcher(vec![200..=200]),
            jitter: Duration::ZERO,
        }
    }
}

impl Settings {
    /// Two nodes on loopback addresses of their own, half an interval apart, and AWS's times.
    pub fn new(check: Check) -> Self {
        let node = |phase| {
            let source = place::address();
            Node { listen: SocketAddr::new(source.into(), 0), source, phase }
        };
        Self {
            nodes: vec![node(Duration::ZERO), node(check.interval / 2)],
            check,
            group: Group::default(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }

    /// # Errors
    /// When values make no sense together.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let check = &self.check;
        ensure!(!self.nodes.is_empty(), "a load balancer has nodes");
        ensure!(check.path.starts_with('/'), "the path of a health check starts with /");
        ensure!(!check.interval.is_zero(), "an interval is longer than nothing");
        ensure!(check.timeout + check.jitter <= check.interval, "a probe has ended before the next begins");
        ensure!(check.healthy_threshold > 0 && check.unhealthy_threshold > 0, "thresholds start at 1");
        Ok(())
    }
}

impl Matcher {
    /// Reads AWS's notation: codes and ranges, separated by commas. AWS takes codes from 200 to 499.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let one = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let code = |text: &str| text.trim().parse::<u16>().with_context(|| format!("{text}: no code"));
            let range = code(first)?..=code(last)?;
            if range.is_empty() || *range.start() < 200 || *range.end() > 499 {
                bail!("{part}: codes go from 200 to 499");
            }
            Ok(range)
        };
        text.split(',').map(one).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Whether an answer with this code passes.
    pub fn passes(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matcher_is_a_set_of_codes_and_ranges() {
        let matcher = Matcher::parse("200,202-204,301").unwrap();
        let passing: Vec<u16> = (100..600).filter(|code| matcher.passes(*code)).collect();
        assert_eq!(passing, [200, 202, 203, 204, 301]);
        for wrong in ["", "ok", "200-", "299-200", "199", "200-500", "200,,201"] {
            assert!(Matcher::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_probe_that_may_outlive_its_interval_is_refused() {
        let second = Duration::from_secs(1);
        let settings = Settings::new(Check { interval: second, timeout: 2 * second, ..Check::default() });
        assert!(settings.validate().is_err());
    }
}
