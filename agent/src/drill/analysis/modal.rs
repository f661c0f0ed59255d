//! The interval that most probes of one node keep, whatever is missing between some of them. Pure.

/// Load balancers jitter by some 30 ms; whatever is further apart than this, or than a twentieth, isn't the same interval.
const EVEN_MS: i64 = 150;
/// So many intervals must agree.
const ENOUGH: usize = 2;

/// When probes came, and how exactly that is known.
#[derive(Debug, Clone, Default)]
pub struct Stamps {
    at_ms: Vec<i64>,
    resolution_ms: i64,
}

impl Stamps {
    /// Takes a probe in.
    pub fn take(&mut self, at_ms: i64, resolution_ms: i64) {
        self.at_ms.push(at_ms);
        self.resolution_ms = self.resolution_ms.max(resolution_ms);
    }

    /// The interval that most agree on, in milliseconds: the mean of those that do. A drill, a restart or a rotated log may
    /// have left holes in between: an interval across a hole agrees with no other.
    pub fn modal_ms(&self) -> Option<i64> {
        let mut at = self.at_ms.clone();
        at.sort_unstable();
        let mut gaps: Vec<i64> = at.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0).collect();
        gaps.sort_unstable();
        let near = |centre: i64| {
            let off = EVEN_MS.max(self.resolution_ms).max(centre / 20);
            gaps.iter().filter(move |gap| (**gap - centre).abs() <= off)
        };
        // The first of the best: the shortest interval.
        let (count, centre) = gaps.iter().fold((0, 0), |best: (usize, i64), gap| {
            let count = near(*gap).count();
            if count > best.0 { (count, *gap) } else { best }
        });
        if count < ENOUGH {
            return None;
        }
        Some(near(centre).sum::<i64>() / i64::try_from(count).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modal(at_ms: impl IntoIterator<Item = i64>, resolution_ms: i64) -> Option<i64> {
        let mut stamps = Stamps::default();
        at_ms.into_iter().for_each(|at| stamps.take(at, resolution_ms));
        stamps.modal_ms()
    }

    #[test]
    fn the_rhythm_is_found_whatever_is_missing_in_between() {
        for interval in [1000_i64, 5000, 10_000, 30_000] {
            for hole in [0, 1, 3, 7, 60] {
                let before = (0..4).map(|n| n * interval);
                let after = (4..8).map(|n| (n + hole) * interval + 7);
                let found = modal(before.chain(after), 1).unwrap();
                assert!((found - interval).abs() < 10, "{interval}, {hole} missing: {found}");
            }
        }
    }

    #[test]
    fn every_second_one_missing_for_a_while_is_no_other_rhythm() {
        let some = [0, 1, 2, 3, 5, 7, 8, 9, 11, 12].map(|n| n * 5000);
        assert_eq!(modal(some, 1), Some(5000));
    }

    #[test]
    fn whole_seconds_are_enough() {
        let five = [20, 25, 31, 35, 40, 46, 50, 55].map(|second: i64| second * 1000);
        assert_eq!(modal(five, 1000), Some(5000));
    }

    #[test]
    fn too_few_say_nothing() {
        assert_eq!(modal([], 1), None);
        assert_eq!(modal([0, 5000], 1), None);
        assert_eq!(modal([0, 5000, 60_000], 1), None);
    }
}
