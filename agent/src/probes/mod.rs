//! The load balancer's probes, found in nginx's access log, and whether they come in their rhythm.
//!
//! - [`locate`]: which log, in which format. [`format`]: a `log_format` compiled, a line read by it.
//! - [`tail`]: every line once, whatever happens to the log. [`recent`]: where the last few minutes begin.
//! - [`scan`]: blocks of lines become probes and a measure of the other traffic.
//! - [`cadence`]: rhythms of nodes and their streams; [`verdict`]: confirmed or not, and why. Both pure.
//! - `order`: probes that nginx held back, put in order.
//! - [`follow`]: tail, scanner and rhythm together. [`watcher`]: all of it in a thread, for the daemon.

pub mod cadence;
pub mod follow;
pub mod format;
pub mod locate;
mod order;
pub mod recent;
pub mod scan;
pub mod tail;
pub mod verdict;
pub mod watcher;

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use crate::config::{Invalid, Span, parse_duration};

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
    /// How far an interval may be off; a fifth of the interval without it.
    pub tolerance: Option<Span>,
    /// Where the load balancer's nodes live (its subnets); any private address without it.
    #[serde(deserialize_with = "nets")]
    pub nodes: Vec<IpNet>,
}

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
    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Expect::Every(interval) = self.expect else { return Ok(()) };
        if interval.0 < Duration::from_millis(100) || interval.0 > Duration::from_secs(3600) {
            return Err(Invalid::new("probes.expect", "an interval is between 100ms and 1h (or auto)"));
        }
        if self.tolerance.is_some_and(|t| t.0 * 2 > interval.0) {
            return Err(Invalid::new("probes.tolerance", "more than half the interval confirms anything"));
        }
        if let Some(text) = self.format.as_ref().filter(|f| f.contains('$')) {
            format::Format::compile(text).map_err(|e| Invalid::new("probes.format", e.to_string()))?;
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
