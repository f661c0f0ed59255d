//! Whether times are a rhythm: is there a start of each probe, within what its stamp allows, so that any two of them
//! are as far apart as so many intervals? That is a system of difference constraints. Two starts i < j must differ by
//! at least (j − i) · shortest − tolerance and at most (j − i) · longest + tolerance, and each lies in its own window;
//! as these bounds add up to weaker ones, it has a solution exactly where each pair alone has one. So two numbers, the
//! tightest earlier bounds, are all that has to be remembered of any number of probes.
//!
//! Which probe is which beat isn't always sure: each way to count is a guess of its own, and lives as long as it fits.

use super::arrival::Window;
use super::expected::Expected;

/// More ways to count than stamps of whole seconds leave.
const MAX_GUESSES: usize = 6;
/// So many beats after the last probe, or more, the phase is taken from the measured period alone.
const LONG: i64 = 4;
/// The tolerance, in jitters of one probe: 200 ms each way at intervals of 5 s.
const JITTER: i64 = 5;
/// Stamps no coarser than this tell single intervals.
const EXACT_MS: i64 = 1000;

/// One way to count the beats so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Guess {
    /// The last probe's beat.
    beat: i64,
    /// The latest of all earliest starts, each less its beats' shortest time.
    earliest: i64,
    /// The earliest of all latest starts, each less its beats' longest time.
    latest: i64,
    missed: u64,
    /// Missed besides, at most.
    perhaps: u64,
}

/// The rhythms that fit one run of probes.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    expected: Expected,
    guesses: Vec<Guess>,
    /// Where the next ones are put together.
    spare: Vec<Guess>,
    /// The first probe of the run, in which no beat was counted in two ways for long.
    origin: (Window, i64),
    first: Window,
    last: Window,
    /// The smallest and the largest interval of neighbours, for the jitter.
    spread: Option<(i64, i64)>,
}

impl Bounds {
    pub(super) fn new(expected: Expected, window: Window) -> Self {
        let mut bounds = Self {
            expected,
            guesses: Vec::with_capacity(2),
            spare: Vec::new(),
            origin: (window, 0),
            first: window,
            last: window,
            spread: None,
        };
        bounds.begin(window, 0, 0);
        bounds
    }

    fn begin(&mut self, window: Window, missed: u64, perhaps: u64) {
        self.guesses.clear();
        let guess = Guess { beat: 0, earliest: window.from_ms, latest: window.to_ms, missed, perhaps };
        self.guesses.push(guess);
        (self.first, self.last, self.spread) = (window, window, None);
        self.origin = (window, 0);
    }

    /// Which beats after the last a probe can be, by one guess: none where none fits.
    fn beats(&self, guess: &Guess, window: Window) -> (i64, i64) {
        let Expected { tolerance_ms, .. } = self.expected;
        let at_least = ceil(window.from_ms - guess.latest - tolerance_ms, self.expected.longest_ms());
        let at_most = (window.to_ms - guess.earliest + tolerance_ms).div_euclid(self.expected.shortest_ms());
        ((at_least - guess.beat).max(1), at_most - guess.beat)
    }

    /// How many beats after the last probe this one is, at least; `None` where it is on none.
    pub(super) fn fits(&self, window: Window) -> Option<i64> {
        let least = self.guesses.iter().map(|guess| self.beats(guess, window));
        let least = least.filter(|(least, most)| least <= most).map(|(least, _)| least).min();
        let Some(least) = least else { return self.wanders(window).then_some(1) };
        if least < LONG { Some(least) } else { self.after_long(window).map(|(least, _)| least) }
    }

    /// Whether it is an interval after the last, and no more off since the beginning than so many intervals may be: where
    /// a load balancer times each probe from the one before, jitter adds up, as a random walk does by the root of its
    /// steps.
    fn wanders(&self, window: Window) -> bool {
        let tolerance_ms = self.expected.tolerance_ms;
        let within = |since: Window, beats: i64, slack_ms: i64| {
            window.from_ms - since.to_ms <= beats * self.expected.longest_ms() + slack_ms
                && window.to_ms - since.from_ms >= beats * self.expected.shortest_ms() - slack_ms
        };
        let (origin, beats) = self.origin;
        let beats = beats + self.guesses.first().map_or(0, |guess| guess.beat) + 1;
        let walked_ms = tolerance_ms / JITTER * beats.isqrt();
        window.resolution_ms() <= EXACT_MS
            && within(self.last, 1, tolerance_ms)
            && within(origin, beats, tolerance_ms + walked_ms)
    }

    /// The same after a long silence, by the period that was measured before it.
    fn after_long(&self, window: Window) -> Option<(i64, i64)> {
        let beats = self.guesses.first().map_or(0, |guess| guess.beat);
        let (shortest, longest) = (self.expected.shortest_ms(), self.expected.longest_ms());
        let tolerance = self.expected.tolerance_ms;
        let jitter = self.spread.map_or(tolerance, |(least, most)| (most - least).min(tolerance));
        let (mut least_period, mut most_period) = (shortest, longest);
        if beats > 0 {
            let measured = ((self.last.from_ms - self.first.to_ms - jitter).div_euclid(beats)).max(shortest);
            let at_most = ceil(self.last.to_ms - self.first.from_ms + jitter, beats).min(longest);
            if measured <= at_most {
                (least_period, most_period) = (measured, at_most);
            }
        }
        let range = |slack: i64| {
            let least = ceil(window.from_ms - self.last.to_ms - slack, most_period).max(1);
            let most = (window.to_ms - self.last.from_ms + slack).div_euclid(least_period);
            (least <= most).then_some((least, most))
        };
        range(jitter).or_else(|| range(tolerance))
    }

    /// Takes a probe that fits; how many beats after the last it is, at least.
    pub(super) fn take(&mut self, window: Window) -> i64 {
        let least = self.guesses.iter().map(|guess| self.beats(guess, window));
        let Some(least) = least.filter(|(least, most)| least <= most).map(|(least, _)| least).min() else {
            let (missed, most) = self.missed();
            let origin =
                (self.origin.0, self.origin.1 + self.guesses.first().map_or(0, |guess| guess.beat) + 1);
            self.begin(window, missed, most - missed);
            self.origin = origin;
            return 1;
        };
        if least >= LONG {
            let (least, most) = self.after_long(window).unwrap_or((least, least));
            let (missed, at_most) = self.missed();
            let more = u64::try_from(most - least).unwrap_or(0);
            let skipped = u64::try_from(least - 1).unwrap_or(0);
            self.begin(window, missed + skipped, at_most - missed + more);
            return least;
        }
        let mut next = std::mem::take(&mut self.spare);
        next.clear();
        for guess in &self.guesses {
            let (least, most) = self.beats(guess, window);
            for beats in least..=most.min(least + 2) {
                let beat = guess.beat + beats;
                let taken = Guess {
                    beat,
                    earliest: guess.earliest.max(window.from_ms - beat * self.expected.shortest_ms()),
                    latest: guess.latest.min(window.to_ms - beat * self.expected.longest_ms()),
                    missed: guess.missed + u64::try_from(beats - 1).unwrap_or(0),
                    perhaps: guess.perhaps,
                };
                let covered = |other: &Guess| {
                    other.missed <= taken.missed
                        && other.beat == taken.beat
                        && other.earliest <= taken.earliest
                        && other.latest >= taken.latest
                };
                if !next.iter().any(covered) {
                    next.push(taken);
                }
            }
        }
        if next.len() > 1 {
            next.sort_by_key(|guess| guess.missed);
            next.truncate(MAX_GUESSES);
        }
        if !next.is_empty() {
            std::mem::swap(&mut self.guesses, &mut next);
        }
        self.spare = next;
        if least == 1 {
            let interval = window.from_ms - self.last.from_ms;
            let (low, high) = self.spread.unwrap_or((interval, interval));
            self.spread = Some((low.min(interval), high.max(interval)));
        }
        self.last = window;
        least
    }

    /// Begins anew from this probe; what was missed stays, with `more`.
    pub(super) fn restart(&mut self, window: Window, more: u64) {
        let (missed, most) = self.missed();
        self.begin(window, missed + more, most - missed);
    }

    /// How many were missed, at least and at most.
    pub(super) fn missed(&self) -> (u64, u64) {
        let least = self.guesses.iter().map(|guess| guess.missed).min().unwrap_or(0);
        let most = self.guesses.iter().map(|guess| guess.missed + guess.perhaps).max().unwrap_or(0);
        (least, most)
    }

    /// Forgives what a gap in the log swallowed.
    pub(super) fn forgive(&mut self, missed: u64) {
        for guess in &mut self.guesses {
            guess.missed = guess.missed.saturating_sub(missed);
        }
    }

    pub(super) fn last(&self) -> Window {
        self.last
    }
}

/// The quotient, rounded up.
fn ceil(of: i64, by: i64) -> i64 {
    -(-of).div_euclid(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(resolution_ms: i64, times: &[i64]) -> Option<(u64, u64)> {
        let at = |ms: i64| Window::stamped(ms, resolution_ms);
        let mut bounds = Bounds::new(Expected::new(5000, None), at(times[0]));
        for time in &times[1..] {
            bounds.fits(at(*time))?;
            bounds.take(at(*time));
        }
        Some(bounds.missed())
    }

    #[test]
    fn whole_seconds_allow_what_milliseconds_don_t() {
        assert_eq!(seen(1000, &[21_000, 25_000, 31_000, 36_000]), Some((0, 0)));
        assert_eq!(seen(1, &[0, 5000, 11_200]), None);
        assert_eq!(seen(1000, &[0, 5000, 11_000]), Some((0, 0)));
    }

    #[test]
    fn a_gap_of_two_intervals_is_one_missing() {
        assert_eq!(seen(1, &[0, 5000, 15_000, 20_000]), Some((1, 1)));
        assert_eq!(seen(1000, &[0, 5000, 15_000, 20_000]), Some((1, 1)));
        assert_eq!(seen(3400, &[0, 5000, 15_000, 20_000]), Some((1, 1)));
    }

    #[test]
    fn no_single_interval_but_all_of_them_together_are_too_long() {
        let six: Vec<i64> = (0..9).map(|n| n * 5900).collect();
        assert_eq!(seen(1000, &six), None);
    }
}
