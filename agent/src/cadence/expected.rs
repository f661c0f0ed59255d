//! What is expected of a rhythm.

/// AWS's default for the time-out of a health check, and more than it lets anybody set for intervals of 5 s
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html>).
const TIME_OUT_MS: i64 = 5000;
/// How much a load balancer's period may be off the setting: some 14 ms a probe were measured, at any interval.
const DRIFT_MS: i64 = 20;

/// An interval, and how far one may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The target group's interval, milliseconds.
    pub interval_ms: i64,
    /// How far an interval may be off, milliseconds.
    pub tolerance_ms: i64,
}

impl Expected {
    /// An interval, and how far it may be off: a fifth of it where not said.
    pub fn new(interval_ms: i64, tolerance_ms: Option<i64>) -> Self {
        let interval_ms = interval_ms.max(1);
        Self { interval_ms, tolerance_ms: tolerance_ms.unwrap_or(interval_ms / 5).max(1) }
    }

    /// How long a silence is one.
    pub fn silence_ms(&self) -> i64 {
        self.interval_ms * super::GONE
    }

    /// How much the mean interval may be off.
    pub(super) fn drift_ms(&self) -> i64 {
        (self.interval_ms / 100).max(DRIFT_MS).min(self.tolerance_ms / 4)
    }

    pub(super) fn shortest_ms(&self) -> i64 {
        (self.interval_ms - self.drift_ms()).max(1)
    }

    pub(super) fn longest_ms(&self) -> i64 {
        self.interval_ms + self.drift_ms()
    }

    /// How long an answer may have taken whose length isn't known: up to the time-out, and so little that a missing
    /// probe can't hide in it.
    pub fn longest_answer_ms(&self, resolution_ms: i64) -> i64 {
        let room = self.interval_ms - self.tolerance_ms - resolution_ms - self.interval_ms / 5;
        room.clamp(0, TIME_OUT_MS)
    }
}
