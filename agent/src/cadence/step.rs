//! A rhythm whose phase changed for good, by less than single probes tell: where all probes before a moment were even,
//! all after it are, and between them lies a step. What a few slow answers do looks otherwise.

use super::arrival::Window;
use super::expected::Expected;

/// Probes on each side of the step, and how many of them may be slow answers.
pub(super) const SIDE: usize = 15;
const OUTLIERS: usize = 4;
/// Probes on one side that are next to the step, and farthest from it.
const HALF: usize = 7;
/// Neighbours of the step of which two must show it.
const NEAR: usize = 3;
/// How even the others are: load balancers jitter by up to 200 ms each way.
const EVEN_MS: i64 = 500;

/// Whether between the halves of these probes (twice [`SIDE`] of them) the phase made a step of more than the
/// tolerance, as far as their stamps tell. None of them is missing.
pub(super) fn is_step(windows: impl ExactSizeIterator<Item = Window> + Clone, expected: &Expected) -> bool {
    if windows.len() != 2 * SIDE {
        return false;
    }
    let enough = expected.tolerance_ms * 4 / 5;
    let definite = |(first, a): (i64, Window), (second, b): (i64, Window)| {
        let beats = second - first;
        let late = b.from_ms - a.to_ms - beats * expected.longest_ms();
        let early = beats * expected.shortest_ms() - (b.to_ms - a.from_ms);
        late >= enough || early >= enough
    };
    let counted = (0..).zip(windows);
    let near = |skip: usize| counted.clone().skip(skip).take(NEAR);
    if !near(SIDE - NEAR).any(|a| near(SIDE).any(|b| definite(a, b))) {
        return false;
    }
    let Some((_, first)) = counted.clone().next() else { return false };
    let phase =
        |(beats, window): (i64, Window)| window.middle() - first.middle() - beats * expected.interval_ms;
    let before = Side::new(counted.clone().take(SIDE).map(phase));
    let after = Side::new(counted.clone().skip(SIDE).map(phase));
    if !jumps(counted.map(phase), expected.tolerance_ms) {
        return false;
    }
    let resolution_ms = first.resolution_ms();
    let least = expected.tolerance_ms + if resolution_ms >= 1000 { resolution_ms - 100 } else { 0 };
    if (after.middle() - before.middle()).abs() < least {
        return false;
    }
    let parted =
        |(low, high): (i64, i64), (low_after, high_after): (i64, i64)| low_after > high || high_after < low;
    // Fifteen and fifteen answers of whatever length fall apart like this once in 155 million times.
    let all_parted = parted(before.all(), after.all());
    let even = |(low, high): (i64, i64)| high - low < EVEN_MS + resolution_ms;
    let (most, most_after) = (before.most(), after.most());
    all_parted || even(most) && even(most_after) && parted(most, most_after)
}

/// Whether the phase moves from one probe to the next, and by more than it moves on each side of that: where jitter adds
/// up, it goes astray slowly.
fn jumps(phases: impl Iterator<Item = i64>, tolerance_ms: i64) -> bool {
    let mut all = [0; 2 * SIDE];
    all.iter_mut().zip(phases).for_each(|(to, phase)| *to = phase);
    let middle = |from: usize| {
        let mut some = [0; HALF];
        some.copy_from_slice(&all[from..from + HALF]);
        some.sort_unstable();
        some[HALF / 2]
    };
    let (first, near) = (middle(0), middle(SIDE - HALF));
    let (near_after, last) = (middle(SIDE), middle(2 * SIDE - HALF));
    let moves = (near - first).abs().max((last - near_after).abs());
    (near_after - near).abs() >= tolerance_ms + moves.min(tolerance_ms / 2)
}

/// The phases of the probes on one side, milliseconds.
struct Side([i64; SIDE]);

impl Side {
    fn new(phases: impl Iterator<Item = i64>) -> Self {
        let mut side = [0; SIDE];
        side.iter_mut().zip(phases).for_each(|(to, phase)| *to = phase);
        side.sort_unstable();
        Self(side)
    }

    fn middle(&self) -> i64 {
        self.0[SIDE / 2]
    }

    fn all(&self) -> (i64, i64) {
        (self.0[0], self.0[SIDE - 1])
    }

    /// Where most of them are, nearest to each other.
    fn most(&self) -> (i64, i64) {
        let span = |kept: &[i64]| kept.last().zip(kept.first()).map(|(high, low)| (*low, *high));
        let all = self.0.windows(SIDE - OUTLIERS).filter_map(span);
        all.min_by_key(|(low, high)| high - low).unwrap_or(self.all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_late(resolution_ms: i64, by_ms: i64, slow: impl Fn(i64) -> i64) -> bool {
        let at = |n: i64| n * 5003 + n * 37 % 60 + if n >= 15 { by_ms } else { 0 } + slow(n);
        let stamped = |n: i64| Window::stamped(at(n) / resolution_ms * resolution_ms, resolution_ms);
        let windows: Vec<Window> = (0..30).map(stamped).collect();
        is_step(windows.iter().copied(), &Expected::new(5000, None))
    }

    #[test]
    fn late_for_good_is_a_step_and_slow_answers_are_none() {
        assert!(is_late(1, 1500, |_| 0) && is_late(1000, 2200, |_| 0) && is_late(1, -1700, |_| 0));
        assert!(is_late(1, 1500, |n| if n % 8 == 3 { 1400 } else { 0 }));
        assert!(!is_late(1, 0, |_| 0) && !is_late(1, 600, |_| 0));
        assert!(!is_late(1, 0, |n| if (13..18).contains(&n) { 1800 } else { 0 }), "five slow ones");
        assert!(!is_late(1000, 0, |n| n * 7919 % 2000), "all of them uneven");
        assert!(!is_late(1, 0, |n| n * 120), "gone astray by 120 ms a probe");
    }
}
