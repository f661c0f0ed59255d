//! What of a target group decides, beside its health check, who gets requests. Pure. The rules are those of AWS's pages as
//! they stood on 2026-11-27.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The least healthy targets of a group below which the load balancer fails open.
///
/// "When the healthy targets in a zone fall below the threshold, the load balancer sends traffic to all targets that are
/// available to the load balancer node, including unhealthy targets"; of a count and a percentage "the load balancer takes
/// the action when either threshold is breached"; the percentage is of all registered targets ("Target group health",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health.html>). The attributes are
/// `target_group_health.unhealthy_state_routing.minimum_healthy_targets.count` (1 by default) and `.percentage` (off).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutingMin {
    /// At least so many.
    pub count: u32,
    /// And at least this part of them.
    pub percentage: Option<u32>,
}

impl RoutingMin {
    /// Whether so many healthy targets of so many are too few.
    fn is_breached(&self, healthy: u32, registered: u32) -> bool {
        let share = |pct: u32| u64::from(healthy) * 100 < u64::from(pct) * u64::from(registered);
        healthy < self.count || self.percentage.is_some_and(share)
    }
}

impl Default for RoutingMin {
    fn default() -> Self {
        Self { count: 1, percentage: None }
    }
}

impl FromStr for RoutingMin {
    type Err = String;

    /// `2`, `50%`, or both with a comma between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut found = Self::default();
        let wrong = || format!("{text}: write a number of targets (2), a percentage (50%), or both (2,50%)");
        for part in text.split(',') {
            match part.trim().strip_suffix('%') {
                Some(percentage) => {
                    let percentage = percentage.trim().parse().ok().filter(|pct| (1..=100).contains(pct));
                    found.percentage = Some(percentage.ok_or_else(wrong)?);
                }
                None => found.count = part.trim().parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?,
            }
        }
        Ok(found)
    }
}

impl fmt::Display for RoutingMin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.count, self.percentage) {
            (count, None) => write!(f, "{count}"),
            (1, Some(percentage)) => write!(f, "{percentage}%"),
            (count, Some(percentage)) => write!(f, "{count},{percentage}%"),
        }
    }
}

/// What else of a target group matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group {
    /// Below this the load balancer fails open.
    pub routing_min: RoutingMin,
    /// `target_group_health.dns_failover.minimum_healthy_targets.count` and `.percentage`; `None`: off, the default
    /// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html>).
    pub dns_min: Option<RoutingMin>,
    /// `load_balancing.algorithm.type` is `weighted_random` and `load_balancing.algorithm.anomaly_mitigation` is on.
    pub anomaly_mitigation: bool,
    /// `slow_start.duration_seconds`; zero: off.
    pub slow_start: Duration,
}

impl Group {
    /// Whether requests go to all targets, whatever their health.
    pub fn fails_open(&self, healthy: u32, registered: u32) -> bool {
        self.routing_min.is_breached(healthy, registered)
    }

    /// Whether the address of a zone with so many targets leaves the name: "When the healthy targets in a zone fall below the
    /// threshold, we mark the IP addresses of the load balancer node for the zone as unhealthy in DNS". Where all zones are,
    /// it stays: "if all load balancer zones are considered unhealthy, the load balancer sends traffic to all zones,
    /// including the unhealthy zones" (the page that [`RoutingMin`] names). With cross-zone load balancing on, as it is by
    /// default, every zone counts all targets, so that one that fails takes out all of them or none.
    pub fn leaves_name(&self, healthy: u32, registered: u32) -> bool {
        self.dns_min.is_some_and(|least| least.is_breached(healthy, registered))
    }

    /// Whether a target that errs more than the others gets less. Anomalies are looked for "on HTTP/HTTPS target groups with
    /// at least three healthy targets", and who is anomalous gets less and less until it recovers; how fast isn't documented
    /// ("Automatic target weights",
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html#automatic-target-weights>;
    /// <https://aws.amazon.com/blogs/networking-and-content-delivery/improving-availability-with-application-load-balancer-automatic-target-weights/>).
    pub fn mitigates(&self, targets: Option<u32>) -> bool {
        self.anomaly_mitigation && targets.is_none_or(|targets| targets >= 3)
    }

    /// How long after a target became healthy a node sends it its first request, at most (999 times in 1000): in slow start
    /// "the load balancer linearly increases the number of requests that it can send to a target", so that with `n` targets
    /// and `r` requests a second `r·t²/(2·n·D)` have come after `t` ("Slow start mode",
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html#slow-start-mode>).
    pub fn first_request(&self, targets: u32, rps: u32) -> Duration {
        const SURE: f64 = 6.9; // e^-6.9 is one in a thousand
        let duration = self.slow_start.as_secs_f64();
        let secs = (2.0 * SURE * f64::from(targets.max(1)) * duration / f64::from(rps.max(1))).sqrt();
        Duration::from_secs_f64(secs.min(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimum_is_read_as_people_write_it_and_said_the_same_way() {
        for text in ["1", "2", "50%", "3,60%"] {
            assert_eq!(text.parse::<RoutingMin>().unwrap().to_string(), text);
        }
        for text in ["", "0", "0%", "101%", "x", "-1", "2.5", "%"] {
            assert!(text.parse::<RoutingMin>().is_err(), "{text}");
        }
    }

    #[test]
    fn either_threshold_is_enough() {
        let group = |text: &str| Group { routing_min: text.parse().unwrap(), ..Group::default() };
        assert!(group("1").fails_open(0, 1) && !group("1").fails_open(1, 2));
        assert!(group("2").fails_open(1, 10) && !group("2").fails_open(2, 10));
        assert!(group("50%").fails_open(4, 10) && !group("50%").fails_open(5, 10));
        assert!(group("1,50%").fails_open(4, 10) && group("6,50%").fails_open(5, 10));
    }
}
