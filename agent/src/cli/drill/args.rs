//! Flags that several drills have.

use std::net::IpAddr;
use std::time::Duration;

use hyper::header::HeaderName;

use crate::config::{Span, parse_span};
use crate::drill::analysis::group::{Group, RoutingMin};
use crate::drill::analysis::predict::{Check, Via};
use crate::drill::analysis::report::{Source, Sources};
use crate::probes::{self, Expect};

/// How requests are sent.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
pub(super) struct ClientArgs {
    /// The Host header, and the name on the certificate [default: the URL's]
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
    /// Measure these addresses instead of those that the name has
    #[arg(long, value_name = "IP,…", value_delimiter = ',')]
    pub(super) resolve: Vec<IpAddr>,
    /// The header in which an answer names its instance
    #[arg(long, value_name = "NAME", default_value = "x-instance-id")]
    pub(super) instance_header: HeaderName,
    /// How long a request waits for its answer
    #[arg(long, value_name = "D", default_value = "5s", value_parser = parse_span)]
    pub(super) deadline: Span,
    /// How long everything must be well before; longer where few answers come
    #[arg(long, value_name = "D", default_value = "5s", value_parser = parse_span)]
    pub(super) before: Span,
}

/// The target group's health check and attributes: what the prediction is made of.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Target group")]
pub(in crate::cli) struct CheckArgs {
    /// HealthCheckIntervalSeconds [default: as the probes come, else [probes] expect]
    #[arg(long, value_name = "D", value_parser = parse_span)]
    pub(super) interval: Option<Span>,
    /// HealthCheckTimeoutSeconds [default: 5s, at most the interval]
    #[arg(long, value_name = "D", value_parser = parse_span)]
    pub(super) timeout: Option<Span>,
    /// HealthyThresholdCount [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10))]
    pub(super) healthy: Option<u32>,
    /// UnhealthyThresholdCount [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10))]
    pub(super) unhealthy: Option<u32>,
    /// target_group_health.unhealthy_state_routing: with fewer healthy targets than this the load balancer sends requests
    /// to all of them, and clients lose for as long as the failure lasts [default: 1]
    #[arg(long, value_name = "N|P%")]
    pub(super) routing_min: Option<RoutingMin>,
    /// target_group_health.dns_failover: with fewer healthy targets than this in a zone its address leaves the name
    /// [default: off]
    #[arg(long, value_name = "N|P%")]
    pub(super) dns_failover: Option<RoutingMin>,
    /// The algorithm is weighted_random with anomaly mitigation: errors may end before any probe fails
    #[arg(long)]
    pub(super) anomaly_mitigation: bool,
    /// slow_start.duration_seconds: a target that is back gets its first request later
    #[arg(long, value_name = "D", value_parser = parse_span)]
    pub(super) slow_start: Option<Span>,
    /// Whose port the health check asks [default: nginx's]
    #[arg(long, value_enum)]
    pub(super) checks: Option<Via>,
}

impl CheckArgs {
    /// The health check, and where each value comes from; `measured` is the interval that probes keep.
    pub(in crate::cli) fn check(
        &self,
        measured: Option<Duration>,
        settings: &probes::Settings,
    ) -> (Check, Sources) {
        let given = self.interval.map(|span| (span.0, Source::Given));
        let measured = measured.map(|interval| (interval, Source::Measured));
        let (interval, source) = given.or(measured).unwrap_or_else(|| match settings.expect {
            Expect::Every(span) => (span.0, Source::Assumed),
            // HealthCheckIntervalSeconds, unless set.
            Expect::Auto => (Duration::from_secs(30), Source::Assumed),
        });
        let of = |given: bool| if given { Source::Given } else { Source::Assumed };
        let sources = Sources {
            interval: source,
            timeout: of(self.timeout.is_some()),
            healthy: of(self.healthy.is_some()),
            unhealthy: of(self.unhealthy.is_some()),
            routing_min: of(self.routing_min.is_some()),
        };
        let check = Check {
            interval,
            // HealthCheckTimeoutSeconds, HealthyThresholdCount and UnhealthyThresholdCount, unless set
            // (<https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html>).
            timeout: self.timeout.map_or(Duration::from_secs(5).min(interval), |span| span.0),
            healthy: self.healthy.unwrap_or(5),
            unhealthy: self.unhealthy.unwrap_or(2),
            via: self.checks.unwrap_or(Via::Nginx),
            group: Group {
                routing_min: self.routing_min.unwrap_or_default(),
                dns_min: self.dns_failover,
                anomaly_mitigation: self.anomaly_mitigation,
                slow_start: self.slow_start.map_or(Duration::ZERO, |span| span.0),
            },
        };
        (check, sources)
    }
}
