//! What is expected of a rhythm.

/// AWS's default for the time-out of a health check, and more than it lets anybody set for intervals of 5 s
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html>).
const TIME_OUT_MS: i64 = 5000;
/// How much a load balancer's period may be off the setting: some 14 ms a probe were measured, at any interval.
const DRIFT_MS: i64 = 20;

/// How far a probe may be from its beat, either way.
const JITTER_MS: i64 = 200;

/// An interval, and how far one may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The target group's interval, milliseconds.
    pub interval_ms: i64,
    /// How far an interval may be off, milliseconds.
    pub tolerance_ms: i64,
    /// The health check's time-out, milliseconds: no answer takes longer.
    timeout_ms: i64,
}

impl Expected {
    /// An interval, and how far it may be off: a fifth of it where not said.
    pub fn new(interval_ms: i64, tolerance_ms: Option<i64>) -> Self {
        let interval_ms = interval_ms.max(1);
        let tolerance_ms = tolerance_ms.unwrap_or(interval_ms / 5).max(1);
        Self { interval_ms, tolerance_ms, timeout_ms: TIME_OUT_MS }
    }

    /// The same with the time-out that the target group is set to.
    #[must_use]
    pub fn with_timeout(self, timeout_ms: Option<i64>) -> Self {
        Self { timeout_ms: timeout_ms.unwrap_or(TIME_OUT_MS), ..self }
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
    /// probe can't hide in it. At intervals of 5 s that leaves some 1.6 to 3 s of the 4 s that a time-out can be set to.
    pub fn longest_answer_ms(&self, resolution_ms: i64) -> i64 {
        // Two stamps, and the jitter of two probes, can make two intervals look shorter.
        let unsure_ms = resolution_ms + (self.interval_ms / 5).max(resolution_ms + 2 * JITTER_MS);
        let room = self.interval_ms - self.tolerance_ms - unsure_ms;
        room.clamp(0, self.timeout_ms.max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_no_longer_than_the_time_out_and_hides_no_missing_probe() {
        let longest = |interval_ms, timeout_ms, resolution_ms| {
            Expected::new(interval_ms, None).with_timeout(timeout_ms).longest_answer_ms(resolution_ms)
        };
        assert_eq!(longest(5000, None, 1), 2999);
        assert_eq!(longest(5000, None, 1000), 1600);
        assert_eq!(longest(5000, Some(2000), 1), 2000);
        assert_eq!(longest(5000, Some(4000), 1), 2999, "a missing probe would hide in it");
        assert_eq!(longest(30_000, None, 1000), 5000, "the default");
        assert_eq!(longest(30_000, Some(10_000), 1000), 10_000);
    }
}
