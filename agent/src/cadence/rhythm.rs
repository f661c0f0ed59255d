//! One rhythm: probes that are so many intervals apart. Pure: the time is an argument.

use super::arrival::Window;
use super::bounds::Bounds;
use super::expected::Expected;
use super::spread::Spread;

/// A rhythm, as far as it was seen.
#[derive(Debug, Clone)]
pub(super) struct Rhythm {
    bounds: Bounds,
    /// Probes that are on it.
    pub(super) probes: u64,
    /// Intervals between neighbours that were measured.
    pub(super) intervals: u64,
    /// Probes that came too early or too late.
    pub(super) off: u64,
    pub(super) spread: Spread,
    /// Lines may be missing since the last probe: the next interval proves nothing.
    pub(super) excused: bool,
    /// Began with a probe that wasn't on the rhythm of that number: it may be a probe of that one, out of time.
    pub(super) parent: Option<usize>,
    /// Probes since it began anew.
    run: u64,
    /// Times that the node came for so few probes that they are no rhythm.
    short_visits: u64,
}

impl Rhythm {
    pub(super) fn new(expected: Expected, window: Window, parent: Option<usize>) -> Self {
        Self {
            bounds: Bounds::new(expected, window),
            probes: 1,
            intervals: 0,
            off: 0,
            spread: Spread::default(),
            excused: false,
            parent,
            run: 1,
            short_visits: 0,
        }
    }

    pub(super) fn last(&self) -> Window {
        self.bounds.last()
    }

    /// How many probes were missed, at least and at most.
    pub(super) fn missed(&self) -> (u64, u64) {
        self.bounds.missed()
    }

    /// Whether this is a single probe of which nobody knows what it belongs to.
    pub(super) fn is_stray(&self) -> bool {
        self.probes == 1 && self.parent.is_some()
    }

    /// How many beats after the last a probe would be; `None` where it is off the rhythm.
    pub(super) fn fits(&self, window: Window) -> Option<i64> {
        self.bounds.fits(window)
    }

    /// Takes a probe that fits; returns the interval.
    pub(super) fn hit(&mut self, window: Window) -> i64 {
        let interval = window.from_ms - self.last().from_ms;
        let before = self.missed().0;
        let beats = self.bounds.take(window);
        if std::mem::take(&mut self.excused) {
            self.bounds.forgive(self.missed().0.saturating_sub(before));
        } else {
            self.intervals += u64::from(beats == 1);
            self.spread.add(interval);
        }
        self.probes += 1;
        self.run += 1;
        interval
    }

    /// The rhythm goes on in another phase: `first` was out of time, and of `expected` intervals since the last probe
    /// as many passed without one as it is late.
    pub(super) fn shift(&mut self, first: Window, expected: &Expected) {
        let interval = first.from_ms - self.last().from_ms;
        let passed = (first.middle() - self.last().middle()) / expected.interval_ms;
        let excused = std::mem::take(&mut self.excused);
        let missed = if excused { 0 } else { u64::try_from(passed - 1).unwrap_or(0) };
        self.bounds.restart(first, missed);
        if !excused {
            self.off += 1;
            self.spread.add(interval);
        }
        self.probes += 1;
    }

    /// A probe for a beat that had been taken for missed came, out of time.
    pub(super) fn displaced(&mut self) {
        self.bounds.forgive(1);
        self.off += 1;
        self.probes += 1;
    }

    /// Begins anew with a probe that has nothing to do with those before: the node was away.
    pub(super) fn restart(&mut self, window: Window) {
        if self.run <= 2 {
            self.short_visits += 1;
            // A node that has just come and gone at the log's beginning is none.
            self.off += u64::from(self.short_visits > 1);
        }
        self.forget_phase(window);
    }

    /// The same, where the clock or the log is why.
    pub(super) fn forget_phase(&mut self, window: Window) {
        self.bounds.restart(window, 0);
        self.excused = false;
        self.probes += 1;
        self.run = 1;
    }

    /// How many probes should have come since the last one and didn't.
    pub(super) fn overdue(&self, now_ms: i64, expected: &Expected) -> i64 {
        let since = now_ms.saturating_sub(self.last().to_ms).saturating_sub(expected.tolerance_ms);
        (since / expected.longest_ms()).max(0)
    }
}
