//! How long to wait after a failure: twice as long each time, with jitter so that a fleet doesn't ask in step.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
/// Where nothing answers at all, it is most likely not EC2: from the same start it soon becomes minutes.
const FIRST_ABSENT: Duration = Duration::from_secs(4);
const FASTER_ABSENT: u32 = 15;
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure, of a service that is there or not; `random` in 0..=1 picks the wait from the upper half of
    /// what has been reached.
    pub(super) fn failed(&mut self, is_there: bool, random: f64) -> Duration {
        let (first, times) = if is_there { (FIRST, 2_u32) } else { (FIRST_ABSENT, FASTER_ABSENT) };
        let reached = first.saturating_mul(times.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        reached.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

/// A number in 0..1 that nobody can predict well enough to matter; `RandomState` is seeded by the system.
pub(super) fn random() -> f64 {
    let bits = std::hash::RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..12).map(|_| backoff.failed(true, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        backoff.reset();
        let absent: Vec<u64> = (0..4).map(|_| backoff.failed(false, 1.0).as_secs()).collect();
        assert_eq!(absent, [4, 60, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.failed(true, 0.0), Duration::from_millis(500));
    }

    #[test]
    fn the_jitter_stays_within_its_half() {
        assert!((0..1000).map(|_| random()).all(|r| (0.0..1.0).contains(&r)));
    }
}
