//! The CPU time that the workers of a closed loop may still use, all together.

use std::sync::atomic::{AtomicI64, Ordering};

/// What a worker draws at once, in seconds: small against a frame, so that the workers share evenly.
pub(super) const GRANT: f64 = GRANT_NS as f64 / 1e9;
const GRANT_NS: i64 = 250_000;

/// Filled by the controller, drawn from by the workers.
#[derive(Debug, Default)]
pub(super) struct Pool {
    ns: AtomicI64,
}

impl Pool {
    /// Makes it hold `secs` of CPU time. What nobody drew in its time is gone: who fills it knows what was used.
    pub(super) fn fill(&self, secs: f64) {
        self.ns.store((secs * 1e9) as i64, Ordering::Relaxed);
    }

    /// Takes one [`GRANT`], if there is one.
    pub(super) fn draw(&self) -> bool {
        let drawn = |have: i64| (have >= GRANT_NS).then(|| have - GRANT_NS);
        self.ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, drawn).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_in_can_be_drawn_once() {
        let pool = Pool::default();
        assert!(!pool.draw());
        pool.fill(3.0 * GRANT);
        assert_eq!((0..5).filter(|_| pool.draw()).count(), 3);
    }

    #[test]
    fn what_nobody_drew_is_gone() {
        let pool = Pool::default();
        pool.fill(10.0 * GRANT);
        pool.fill(4.0 * GRANT);
        assert_eq!((0..30).filter(|_| pool.draw()).count(), 4);
    }
}
