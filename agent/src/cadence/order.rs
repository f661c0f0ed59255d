//! Probes of a log that nginx holds back (`access_log … buffer=… flush=…`): each worker fills a buffer of its own, so
//! lines come late, and those of one worker before older ones of another. Pure; bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Beat;
use crate::nginx::conf::Held;

/// Far more than come while a buffer fills.
const MAX_WAITING: usize = 2048;
/// Lines are stamped in whole seconds.
const RESOLUTION_MS: i64 = 1000;

/// Beats in the order of their times, as far as that can be known.
#[derive(Debug, Clone)]
pub struct Order {
    held: Held,
    waiting: BTreeMap<(i64, u64), Beat>,
    count: u64,
}

impl Order {
    /// For a log that is `held` back.
    pub fn new(held: Held) -> Self {
        Self { held, waiting: BTreeMap::new(), count: 0 }
    }

    /// How lines are held back.
    pub fn held(&self) -> Held {
        self.held
    }

    /// Takes a beat; returns those before which none can come any more.
    pub fn push(&mut self, beat: Beat) -> Vec<Beat> {
        self.count += 1;
        self.waiting.insert((beat.at_ms, self.count), beat);
        let newest = self.waiting.last_key_value().map_or(i64::MIN, |((at_ms, _), _)| *at_ms);
        let mut ripe = self.ripe(newest);
        while self.waiting.len() > MAX_WAITING {
            ripe.extend(self.waiting.pop_first().map(|(_, beat)| beat));
        }
        ripe
    }

    /// The same by `now_ms`, a time at which the log was read to its end or a stamp in it: what was written until then
    /// is there, but for what may still be held back.
    pub fn ripe(&mut self, now_ms: i64) -> Vec<Beat> {
        let Some(whole_to) = self.whole_to(now_ms) else { return Vec::new() };
        let later = self.waiting.split_off(&(whole_to, 0));
        std::mem::replace(&mut self.waiting, later).into_values().collect()
    }

    /// Up to when the log is whole at `now_ms`; `None` where nobody knows how long lines are held back.
    pub fn whole_to(&self, now_ms: i64) -> Option<i64> {
        match self.held {
            Held::No => Some(i64::MAX),
            Held::Until(flush) => Some(now_ms - millis(flush) - RESOLUTION_MS),
            Held::Unbounded => None,
        }
    }

    /// All that wait, in order.
    pub fn drain(&mut self) -> Vec<Beat> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cadence::Cadence;

    fn beat(at_s: i64) -> Beat {
        let node = "10.0.0.1".parse().unwrap();
        Beat { node, key: 0, at_ms: at_s * 1000, resolution_ms: 1000, ok: true }
    }

    #[test]
    fn lines_of_two_workers_come_in_order_and_none_counts_as_missed() {
        let mut order = Order::new(Held::Until(Duration::from_secs(30)));
        let mut cadence = Cadence::new(Some(5000), None);
        let mut seen = Vec::new();
        // Every half minute one worker writes what it had, then the other.
        for half_minute in 0..4 {
            for worker in [0, 5] {
                for at in (0..30).step_by(10).map(|n| half_minute * 30 + n + worker) {
                    for ripe in order.push(beat(at)) {
                        seen.push(ripe.at_ms);
                        cadence.observe(ripe);
                    }
                }
            }
        }
        assert!(seen.is_sorted() && seen.len() > 12, "{seen:?}");
        for ripe in order.ripe(1_000_000) {
            cadence.observe(ripe);
        }
        let report = &cadence.report(116_000)[0];
        assert_eq!((report.probes, report.missed, report.on_time), (24, 0, true));
    }

    #[test]
    fn what_waits_is_bounded_also_where_nobody_knows_for_how_long() {
        let mut order = Order::new(Held::Unbounded);
        let ripe: usize = (0..10_000).map(|n| order.push(beat(n)).len()).sum();
        assert_eq!((ripe, order.drain().len()), (10_000 - MAX_WAITING, MAX_WAITING));
        assert_eq!(order.ripe(i64::MAX), []);
    }

    #[test]
    fn a_log_that_is_written_at_once_is_passed_on_at_once() {
        assert_eq!(Order::new(Held::No).push(beat(5)), [beat(5)]);
    }
}
