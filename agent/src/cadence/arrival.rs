//! When a probe came, as far as its line tells. A stamp is no point in time but a stretch of it: `$time_local` says
//! that an answer ended within a second, `$msec` within a millisecond. What the load balancer paces is when a probe
//! *begins*; how long it is answered has no part in its interval
//! (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>).

use std::net::IpAddr;

/// A stretch of time, milliseconds since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Not before this.
    pub from_ms: i64,
    /// Not after this.
    pub to_ms: i64,
}

impl Window {
    /// What a stamp of this resolution says: it happened at `at_ms` or so much later.
    pub fn stamped(at_ms: i64, resolution_ms: i64) -> Self {
        Self { from_ms: at_ms, to_ms: at_ms + (resolution_ms - 1).max(0) }
    }

    /// In how many milliseconds it may have happened.
    pub fn resolution_ms(&self) -> i64 {
        self.to_ms - self.from_ms + 1
    }

    pub(super) fn middle(&self) -> i64 {
        self.from_ms + (self.to_ms - self.from_ms) / 2
    }

    /// Moved by so many milliseconds.
    #[must_use]
    pub fn shifted(self, by_ms: i64) -> Self {
        Self { from_ms: self.from_ms + by_ms, to_ms: self.to_ms + by_ms }
    }
}

/// A probe, as far as rhythm is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeArrival {
    /// The load balancer's address.
    pub node: IpAddr,
    /// What tells the probes of one target group from another's: path and Host, as a number.
    pub stream: u64,
    /// When its answer ended.
    pub ended: Window,
    /// How long it was answered, milliseconds, where that is known.
    pub took_ms: Option<i64>,
    /// The answer's status code, where that is known.
    pub status: Option<u16>,
}

impl ProbeArrival {
    /// When it began, where no answer of unknown length takes longer than this.
    pub fn began(&self, longest_answer_ms: i64) -> Window {
        match self.took_ms {
            Some(took) => self.ended.shifted(-took),
            None => Window { from_ms: self.ended.from_ms - longest_answer_ms, to_ms: self.ended.to_ms },
        }
    }

    /// Answered with 2xx, as far as is known.
    pub(super) fn is_ok(&self) -> bool {
        self.status.is_none_or(|status| (200..300).contains(&status))
    }
}
