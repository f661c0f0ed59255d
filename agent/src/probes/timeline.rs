//! The wall clock beside one that nobody sets. nginx stamps its lines by the wall clock; where that is set while we
//! follow, the stamps are told in the time in which the clock was before, so that no interval is torn.

use std::time::{Duration, SystemTime};

use crate::cadence::Window;
use crate::sys::clock::since_boot;

/// A smaller difference is the clock being slewed, or our own delay.
const STEP_MS: i64 = 400;

/// Milliseconds since 1970, now.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Where the wall clock stands, and where it would stand had nobody set it.
#[derive(Debug)]
pub(super) struct Timeline {
    /// The wall clock less the boot clock: when we began, before the last step, and now.
    first_ms: i64,
    before_ms: i64,
    offset_ms: i64,
}

impl Timeline {
    pub(super) fn new() -> Self {
        let offset_ms = now_ms() - boot_ms();
        Self { first_ms: offset_ms, before_ms: offset_ms, offset_ms }
    }

    /// To be called before lines are read: notices that the clock was set.
    pub(super) fn tick(&mut self) {
        self.at(now_ms(), boot_ms());
    }

    fn at(&mut self, wall_ms: i64, boot_ms: i64) {
        let offset_ms = wall_ms - boot_ms;
        if (offset_ms - self.offset_ms).abs() >= STEP_MS {
            self.before_ms = self.offset_ms;
            self.offset_ms = offset_ms;
        }
    }

    /// How far the clock was set since we began.
    pub(super) fn shift_ms(&self) -> i64 {
        self.offset_ms - self.first_ms
    }

    /// Now, in the time in which we began.
    pub(super) fn now_ms(&self) -> i64 {
        boot_ms() + self.first_ms
    }

    /// A stamp that was just written, in the time in which we began: written before the last step or after it,
    /// whichever is nearer to now.
    pub(super) fn live(&self, stamp: Window) -> Window {
        self.live_at(stamp, self.now_ms())
    }

    fn live_at(&self, stamp: Window, now_ms: i64) -> Window {
        let told = |offset_ms: i64| stamp.shifted(self.first_ms - offset_ms);
        let age = |window: &Window| (now_ms - window.to_ms).abs();
        let (before, after) = (told(self.before_ms), told(self.offset_ms));
        if age(&before) < age(&after) { before } else { after }
    }
}

fn boot_ms() -> i64 {
    millis(since_boot())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_tears_no_interval() {
        let mut timeline = Timeline { first_ms: 1_000_000, before_ms: 1_000_000, offset_ms: 1_000_000 };
        let stamp = |ms| Window::stamped(ms, 1);
        assert_eq!(timeline.live_at(stamp(1_005_000), 1_005_100).from_ms, 1_005_000);
        timeline.at(4_607_000, 7000); // an hour ahead
        assert_eq!(timeline.shift_ms(), 3_600_000);
        assert_eq!(timeline.live_at(stamp(1_006_900), 1_007_000).from_ms, 1_006_900, "written before");
        assert_eq!(timeline.live_at(stamp(4_610_000), 1_010_100).from_ms, 1_010_000);
        timeline.at(1_020_000, 20_000); // and back
        assert_eq!(timeline.live_at(stamp(1_020_000), 1_020_100).from_ms, 1_020_000);
        timeline.at(1_030_090, 30_000); // slewed
        assert_eq!(timeline.shift_ms(), 0);
    }
}
