//! One rhythm: the probes of one node for one target group. Pure: the time is an argument.

use super::Law;
use super::spread::Spread;

/// The period starts as the expected interval, as if so many probes had kept it.
const PRIOR: f64 = 4.0;
/// How much a load balancer's period may differ from the setting before we have measured it.
const DRIFT: f64 = 0.004;

/// How a probe fits a rhythm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fit {
    /// Into a slot, so many after the last one, off by so much.
    Slot(u64, f64),
    /// The next slot isn't due yet.
    Early,
    /// The next slot has passed, and it falls in no other.
    Late,
}

/// A rhythm.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    /// What tells its probes from others', where the log says so: path and Host.
    pub(super) key: u64,
    pub(super) probes: u64,
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    pub(super) missed: u64,
    /// Probes that came too early or too late for their slot.
    pub(super) off: u64,
    pub(super) spread: Spread,
    /// The stamps' resolution, the coarsest so far.
    pub(super) resolution_ms: i64,
    /// Lines may be missing since the last probe: the next interval proves nothing.
    pub(super) excused: bool,
    /// Opened by a probe that was early for that other stream; see [`super::node`].
    pub(super) early_for: Option<usize>,
    run_start_ms: i64,
    run_slots: u64,
}

impl Stream {
    pub(super) fn new(key: u64, at_ms: i64, resolution_ms: i64) -> Self {
        Self {
            key,
            probes: 1,
            first_ms: at_ms,
            last_ms: at_ms,
            missed: 0,
            off: 0,
            spread: Spread::default(),
            resolution_ms,
            excused: false,
            early_for: None,
            run_start_ms: at_ms,
            run_slots: 0,
        }
    }

    /// The fitted period: load balancers drift, so that nominal intervals don't add up.
    pub(super) fn period(&self, law: &Law) -> f64 {
        let measured = (self.last_ms - self.run_start_ms) as f64;
        (law.interval_ms as f64 * PRIOR + measured) / (PRIOR + self.run_slots as f64)
    }

    /// The mean interval of the unbroken run, and over how many slots.
    fn mean(&self) -> Option<(f64, f64)> {
        let slots = self.run_slots as f64;
        (self.run_slots > 0).then(|| ((self.last_ms - self.run_start_ms) as f64 / slots, slots))
    }

    /// How far a probe may be off its slot, `slots` after the last.
    fn leeway(&self, law: &Law, slots: f64) -> f64 {
        let drift = (slots - 1.0) * law.interval_ms as f64 * DRIFT * PRIOR / (PRIOR + self.run_slots as f64);
        law.tolerance(self.resolution_ms) as f64 + drift
    }

    pub(super) fn fit(&self, at_ms: i64, law: &Law) -> Fit {
        let since = (at_ms - self.last_ms) as f64;
        let period = self.period(law);
        // Rounded to the nearest, one at least.
        let slots = ((since / period + 0.5) as u64).max(1) as f64;
        let residual = (since - slots * period).abs();
        if residual <= self.leeway(law, slots).min(period / 2.0) {
            Fit::Slot(slots as u64, residual)
        } else if since < period {
            Fit::Early
        } else {
            Fit::Late
        }
    }

    /// Takes a probe `slots` after the last. Returns the interval.
    pub(super) fn hit(&mut self, at_ms: i64, slots: u64, resolution_ms: i64) -> i64 {
        let interval = self.advance(at_ms, resolution_ms);
        self.run_slots += slots;
        if !std::mem::take(&mut self.excused) {
            self.missed += slots - 1;
            self.spread.add(interval);
        } else if slots == 1 {
            self.spread.add(interval);
        }
        interval
    }

    /// Takes a probe that is in no slot: the rhythm starts again from it.
    pub(super) fn stray(&mut self, at_ms: i64, resolution_ms: i64, law: &Law) -> i64 {
        let passed = ((at_ms - self.last_ms) as f64 / self.period(law)).floor().max(1.0) as u64;
        let interval = self.advance(at_ms, resolution_ms);
        if !std::mem::take(&mut self.excused) {
            self.missed += passed - 1;
            self.off += 1;
            self.spread.add(interval);
        }
        (self.run_start_ms, self.run_slots) = (at_ms, 0);
        interval
    }

    /// Takes a probe that has nothing to do with those before: the node was away, or the clock was set.
    pub(super) fn restart(&mut self, at_ms: i64, resolution_ms: i64) {
        self.advance(at_ms, resolution_ms);
        self.excused = false;
        (self.run_start_ms, self.run_slots) = (at_ms, 0);
    }

    fn advance(&mut self, at_ms: i64, resolution_ms: i64) -> i64 {
        let interval = at_ms - self.last_ms;
        self.probes += 1;
        self.last_ms = at_ms;
        self.resolution_ms = self.resolution_ms.max(resolution_ms);
        interval
    }

    /// How many probes should have come since the last one and didn't.
    pub(super) fn overdue(&self, now_ms: i64, law: &Law) -> u64 {
        let since = (now_ms - self.last_ms) as f64 - self.leeway(law, 1.0);
        (since / self.period(law)).floor().max(0.0) as u64
    }

    /// Whether every probe so far kept the rhythm. One interval may be off by the tolerance, their mean by a quarter
    /// of it, and by what the first and last of them can be off.
    pub(super) fn kept(&self, law: &Law) -> bool {
        let tolerance = law.tolerance(self.resolution_ms) as f64;
        let true_to = |(mean, slots): (f64, f64)| {
            (mean - law.interval_ms as f64).abs() <= law.tolerance_ms as f64 / 4.0 + tolerance / slots
        };
        let within = |ms: i64| (ms - law.interval_ms).abs() as f64 <= tolerance;
        self.missed == 0
            && self.off == 0
            && self.spread.min().is_none_or(within)
            && self.spread.max().is_none_or(within)
            && self.mean().is_none_or(true_to)
    }

    /// What the tentative stream `other` saw belongs to this one: its first probe was early for us.
    pub(super) fn absorb(&mut self, other: &Self, law: &Law) {
        self.stray(other.first_ms, other.resolution_ms, law);
    }
}
