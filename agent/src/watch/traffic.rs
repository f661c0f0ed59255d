//! Requests a second by the access log, apart from probes.

use std::collections::VecDeque;

/// Over how many seconds the rate is taken.
const WINDOW: i64 = 30;
/// Less than this says nothing.
const ENOUGH: i64 = 5;
/// The agent's own checks of nginx come every two seconds, where nginx logs them.
const OWN: f64 = 0.6;

/// Lines of the access log over the last half minute.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// When, and how many lines were no probes until then.
    seen: VecDeque<(i64, u64)>,
}

impl Traffic {
    /// Takes what was counted until now: lines, and how many of them are probes.
    pub fn take(&mut self, now: i64, lines: u64, probes: u64) {
        let others = lines.saturating_sub(probes);
        // The daemon has begun anew, or the clock was set back.
        if self.seen.back().is_some_and(|(at, before)| *before > others || *at > now) {
            self.seen.clear();
        }
        self.seen.push_back((now, others));
        while self.seen.get(1).is_some_and(|(at, _)| now - at >= WINDOW) {
            self.seen.pop_front();
        }
    }

    /// Requests a second that are no probes; `None` until it can be told, and where it may be the agent's own checks alone.
    pub fn others_a_second(&self, now: i64) -> Option<f64> {
        let ((from, first), (_, last)) = (self.seen.front()?, self.seen.back()?);
        let secs = now - from;
        (secs >= ENOUGH).then(|| (last - first) as f64 / secs as f64).filter(|rate| *rate > OWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_no_traffic_and_a_daemon_that_begins_anew_is_no_flood() {
        let mut traffic = Traffic::default();
        for second in 0..100_i64 {
            let probes = second as u64 / 5;
            traffic.take(second, second as u64 * 3 + probes, probes);
        }
        assert_eq!(traffic.others_a_second(99), Some(3.0));
        assert!(traffic.seen.len() <= 32);
        traffic.take(100, 5, 0);
        assert_eq!(traffic.others_a_second(100), None);
        traffic.take(110, 5, 0);
        assert_eq!(traffic.others_a_second(110), None);
        traffic.take(120, 45, 0);
        assert_eq!(traffic.others_a_second(120), Some(2.0));
    }
}
