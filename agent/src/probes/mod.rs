//! The load balancer's probes, found in nginx's access log, and whether they come in their rhythm: what ties the tail
//! of a log ([`crate::logtail`]), its lines ([`crate::access_log`]) and their rhythm ([`crate::cadence`]) together.
//!
//! - [`follow`]: a log and its probes, read and judged. `seen`: what each probe is to the cadence. `timeline`: what
//!   setting the clock does to them. [`watcher`]: the same in a thread, for the daemon.

pub mod follow;
mod seen;
mod timeline;
pub mod watcher;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use crate::access_log::format::Format;
use crate::access_log::locate::{LocateError, Located, locate};
use crate::config::{Invalid, Span, parse_duration};
use crate::identity;

/// `[probes]`: which probes are expected, and where they are logged.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The access log; without it the usual places and nginx's configuration are searched.
    pub log: Option<PathBuf>,
    /// Its format in nginx's syntax, or the name of one in nginx's configuration.
    pub format: Option<String>,
    /// The target group's interval.
    pub expect: Expect,
    /// The path whose probes are judged; all of them without it.
    pub path: Option<String>,
    /// How far an interval may be off; a fifth of the interval without it.
    pub tolerance: Option<Span>,
    /// The target group's time-out: where the log has no `$request_time`, no answer is taken to have lasted longer. Without
    /// it AWS's default, or what the interval leaves.
    pub timeout: Option<Span>,
    /// Where the load balancer's nodes live (its subnets); any private address without it.
    #[serde(deserialize_with = "nets")]
    pub nodes: Vec<IpNet>,
    /// Whom to ask for the VPC's networks where `nodes` isn't set.
    #[serde(skip)]
    pub metadata: Option<identity::Settings>,
}

/// The longest time-out that AWS allows
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html>).
const MOST_TIMEOUT: Duration = Duration::from_secs(120);

/// What only the own network has: RFC 1918, RFC 6598, link-local, loopback, RFC 4193.
const PRIVATE: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

/// Reads a list, or (as an environment variable has it) one string with commas.
fn nets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        List(Vec<String>),
    }
    let list = match Either::deserialize(deserializer)? {
        Either::Text(text) => text.split(',').map(str::to_owned).collect(),
        Either::List(list) => list,
    };
    let net = |text: &String| {
        let text = text.trim();
        let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        parsed.map_err(|_| de::Error::custom(format!("\"{text}\" is no network such as 10.0.0.0/16")))
    };
    list.iter().filter(|text| !text.trim().is_empty()).map(net).collect()
}

impl Settings {
    /// Finds the log to read; `conf` is nginx's main configuration file, where it isn't in a usual place.
    ///
    /// # Errors
    /// When none is named and none exists, or its format can't be used.
    pub fn locate(&self, conf: Option<&Path>) -> Result<Located, LocateError> {
        locate(self.log.as_deref(), self.format.as_deref(), conf)
    }

    /// Where the load balancer's nodes are: as set, else private addresses and the networks of this instance's VPC,
    /// whatever they look like. Asks the metadata service on EC2, for at most a second and a half.
    pub fn networks(&self) -> Vec<IpNet> {
        if !self.nodes.is_empty() {
            return self.nodes.clone();
        }
        let private = PRIVATE.iter().filter_map(|net| net.parse().ok());
        private.chain(self.metadata.as_ref().map(identity::vpc_networks).unwrap_or_default()).collect()
    }

    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.timeout.is_some_and(|timeout| timeout.0.is_zero() || timeout.0 > MOST_TIMEOUT) {
            return Err(Invalid::new("probes.timeout", "a health check's time-out is 2 to 120 seconds"));
        }
        let Expect::Every(interval) = self.expect else { return Ok(()) };
        if interval.0 < Duration::from_millis(100) || interval.0 > Duration::from_secs(3600) {
            return Err(Invalid::new("probes.expect", "an interval is between 100ms and 1h (or auto)"));
        }
        if self.tolerance.is_some_and(|t| t.0 * 2 > interval.0) {
            return Err(Invalid::new("probes.tolerance", "more than half the interval confirms anything"));
        }
        if let Some(text) = self.format.as_ref().filter(|f| f.contains('$')) {
            Format::compile(text).map_err(|e| Invalid::new("probes.format", e.to_string()))?;
        }
        Ok(())
    }
}

/// The interval that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// This one.
    Every(Span),
    /// Whichever the probes have.
    Auto,
}

impl Default for Expect {
    /// The shortest that a target group can have, and what this group is set to.
    fn default() -> Self {
        Self::Every(Span::millis(5000))
    }
}

impl std::str::FromStr for Expect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            text => parse_duration(text).map(|d| Self::Every(Span(d))).map_err(|e| format!("{e} (or auto)")),
        }
    }
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Seconds(f64),
        }
        let text = match Either::deserialize(deserializer)? {
            Either::Text(text) => text,
            Either::Seconds(seconds) => seconds.to_string(),
        };
        text.parse().map_err(de::Error::custom)
    }
}
