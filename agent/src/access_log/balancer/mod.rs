//! The load balancer's own side: the health-check logs that Application Load Balancers deliver to S3, a gzip file a node
//! every five minutes
//! (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-health-check-logs.html>, and for
//! the fields of CloudWatch's delivery the CDK's `CfnLoadBalancerAlbHealthCheckLogsRecordFields`; both as of 2026-11-27).
//!
//! `read`: files and lines. `join`: each check beside the request in the target's own log.

mod join;
mod read;

pub use join::{Arrived, Joined, Row, join};
pub use read::{BalancerError, Checks, read};

use std::net::IpAddr;

use serde::Serialize;

/// One health check, as the load balancer logged it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// The node that sent it: its address in the file's name. An internet-facing load balancer's is its public one.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub balancer_node: Option<IpAddr>,
    /// When it was sent, milliseconds since 1970.
    pub sent_ms: i64,
    /// How long it took to its end, milliseconds.
    pub latency_ms: Option<i64>,
    /// The target, `IP:port`.
    pub target: String,
    /// The target group.
    pub target_group: String,
    /// Whether it passed: PASS, not FAIL.
    pub passed: bool,
    /// The status code that the load balancer got; `-` without one.
    pub status_code: String,
    /// Why it failed, in AWS's word; `-` where it passed.
    pub reason_code: String,
}
