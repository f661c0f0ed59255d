//! Is this target fit for traffic? Samplers ask in the background; what they find becomes a finished answer on the
//! [`Board`], and a probe only reads that.

mod asker;
mod board;
mod history;
mod host;
mod hysteresis;
mod injected;
mod outcome;
mod report;
mod sampler;
mod volume;

pub use board::{Answer, Board, Decision};
pub use history::{Cause, Change, Verdict};
pub use host::HostSample;
pub use report::{Check, Report, Status};
pub use sampler::{Inputs, start};
pub use volume::Policy;

use serde::Deserialize;

use crate::config::{Invalid, Span};

/// Marks our own check. nginx passes it on where it proxies to this agent, which then answers without looking at
/// the verdict: that would be the verdict asking itself.
pub const CHECK_HEADER: &str = "x-asg-agent-check";

/// Tells this daemon's checks from another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// One that others don't know.
    pub fn draw() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Self(format!("{:016x}", std::hash::RandomState::new().build_hasher().finish()))
    }

    /// Its text, for a header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[health]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// From the start of one check of nginx to the next while all is well. Where nginx keeps no connection open for
    /// us it is asked at least every second.
    pub interval: Span,
    /// How long nginx may take to answer a check.
    pub timeout: Span,
    /// From the start of one check to the next while nginx doesn't answer.
    pub retry: Span,
    /// So many checks in a row must fail until the target is unhealthy.
    pub fall: u32,
    /// So many must pass in a row until it is healthy again, asked in quick succession (35 ms) from the first one on.
    /// With 10, a server that fails two of three requests isn't taken for a healthy one.
    pub rise: u32,
    /// Without a fresh result for so long, `/health` fails whatever the last one said.
    pub stale: Span,
    /// Used space of the root file system from which `status` warns, in percent.
    pub disk_warn_pct: f64,
    /// Used memory from which `status` warns, in percent.
    pub memory_warn_pct: f64,
    /// What it means that the volume of the state folder can't be written to (frozen, read-only, full, or slower than
    /// 1.8 s a write): `off` looks not at all, `warn` tells it, and with `fail` `/health` fails after `fall` failures.
    pub volume: Policy,
}

impl Default for Settings {
    /// A dead nginx is found within `(fall − 1) · retry` of the kernel closing the kept connection, or within 1.25 s
    /// where none is kept; a hung one within `interval + (fall − 1) · retry + timeout`, 2.95 s.
    /// One that is back is healthy within `retry + (rise − 1) · 35 ms` and the time of so many answers.
    fn default() -> Self {
        Self {
            interval: Span::millis(2000),
            timeout: Span::millis(700),
            retry: Span::millis(250),
            fall: 2,
            rise: 10,
            stale: Span::millis(4000),
            disk_warn_pct: 95.0,
            memory_warn_pct: 95.0,
            volume: Policy::Warn,
        }
    }
}

impl Settings {
    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), Invalid> {
        let least = Span::millis(10);
        for (key, value) in [("interval", self.interval), ("timeout", self.timeout), ("retry", self.retry)] {
            if value < least {
                return Err(Invalid::new(&format!("health.{key}"), "must be at least 10ms"));
            }
        }
        for (key, value) in [("fall", self.fall), ("rise", self.rise)] {
            if !(1..=100).contains(&value) {
                return Err(Invalid::new(&format!("health.{key}"), "must be from 1 to 100"));
            }
        }
        let longest = self.interval.0 + self.timeout.0;
        if self.stale.0 <= longest {
            let least = Span(longest);
            return Err(Invalid::new(
                "health.stale",
                format!("must be over interval and timeout together ({least})"),
            ));
        }
        for (key, value) in [("disk_warn_pct", self.disk_warn_pct), ("memory_warn_pct", self.memory_warn_pct)]
        {
            if !(0.0..=100.0).contains(&value) {
                return Err(Invalid::new(&format!("health.{key}"), "must be from 0 to 100"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_settings_are_refused_by_name() {
        let key = |settings: Settings| settings.validate().unwrap_err().key;
        assert!(Settings::default().validate().is_ok());
        assert_eq!(key(Settings { interval: Span::millis(0), ..Settings::default() }), "health.interval");
        assert_eq!(key(Settings { fall: 0, ..Settings::default() }), "health.fall");
        assert_eq!(key(Settings { stale: Span::millis(1700), ..Settings::default() }), "health.stale");
        assert_eq!(key(Settings { disk_warn_pct: 101.0, ..Settings::default() }), "health.disk_warn_pct");
    }
}
