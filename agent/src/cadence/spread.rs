//! The intervals of a rhythm: smallest, middle, largest, in bounded memory.

use std::collections::BTreeMap;

/// More different values than a rhythm has; beyond them values are kept less exactly.
const MAX_VALUES: usize = 1024;

/// How often each interval was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Spread {
    counts: BTreeMap<i64, u64>,
    total: u64,
    min: Option<i64>,
    max: Option<i64>,
    quantum: i64,
}

impl Spread {
    /// Adds an interval, in milliseconds.
    pub(super) fn add(&mut self, ms: i64) {
        self.add_many(ms, 1);
        self.min = Some(self.min.map_or(ms, |min| min.min(ms)));
        self.max = Some(self.max.map_or(ms, |max| max.max(ms)));
    }

    fn add_many(&mut self, ms: i64, count: u64) {
        let quantum = self.quantum.max(1);
        *self.counts.entry(ms / quantum * quantum).or_default() += count;
        self.total += count;
        if self.counts.len() > MAX_VALUES {
            self.quantum = quantum * 2;
            self.total = 0;
            for (ms, count) in std::mem::take(&mut self.counts) {
                self.add_many(ms, count);
            }
        }
    }

    /// Adds all intervals of another.
    pub(super) fn merge(&mut self, other: &Self) {
        self.quantum = self.quantum.max(other.quantum);
        other.counts.iter().for_each(|(ms, count)| self.add_many(*ms, *count));
        self.min = [self.min, other.min].into_iter().flatten().min();
        self.max = self.max.max(other.max);
    }

    /// The smallest interval.
    pub(super) fn min(&self) -> Option<i64> {
        self.min
    }

    /// The largest interval.
    pub(super) fn max(&self) -> Option<i64> {
        self.max
    }

    /// The median.
    pub(super) fn p50(&self) -> Option<i64> {
        let middle = self.total.div_ceil(2);
        let mut passed = 0;
        let found = self.counts.iter().find(|(_, count)| {
            passed += **count;
            passed >= middle
        });
        found.map(|(ms, _)| *ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_exact_for_a_rhythm_and_bounded_for_noise() {
        let mut spread = Spread::default();
        assert_eq!((spread.min(), spread.p50(), spread.max()), (None, None, None));
        [5014, 4980, 5001].into_iter().for_each(|ms| spread.add(ms));
        assert_eq!((spread.min(), spread.p50(), spread.max()), (Some(4980), Some(5001), Some(5014)));
        (0..100_000).for_each(|ms| spread.add(ms));
        assert!(spread.counts.len() <= MAX_VALUES);
        assert!((45_000..55_000).contains(&spread.p50().unwrap()));
    }
}
