//! The wall clock beside one that nobody sets. nginx stamps its lines by the wall clock; where that is set while we
//! follow, the stamps are told in the time in which the clock was before, so that no interval is torn.

use std::sync::Arc;
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

/// What the clocks say, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// The wall clock, since 1970.
    pub(super) wall_ms: i64,
    /// The clock that nobody sets, since the start of the machine.
    pub(super) boot_ms: i64,
}

/// The clocks.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> Times + Send + Sync>);

impl Clock {
    /// Those that this function reads.
    pub(super) fn new(read: impl Fn() -> Times + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(super) fn now(&self) -> Times {
        (self.0)()
    }
}

impl Default for Clock {
    /// The machine's.
    fn default() -> Self {
        Self::new(|| Times { wall_ms: now_ms(), boot_ms: millis(since_boot()) })
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// Where the wall clock stands, and where it would stand had nobody set it.
#[derive(Debug)]
pub(super) struct Timeline {
    clock: Clock,
    /// The wall clock less the boot clock: when we began, before the last step, and now.
    first_ms: i64,
    before_ms: i64,
    offset_ms: i64,
}

impl Timeline {
    pub(super) fn new(clock: Clock) -> Self {
        let Times { wall_ms, boot_ms } = clock.now();
        let offset_ms = wall_ms - boot_ms;
        Self { clock, first_ms: offset_ms, before_ms: offset_ms, offset_ms }
    }

    /// To be called before lines are read: notices that the clock was set.
    pub(super) fn tick(&mut self) {
        let Times { wall_ms, boot_ms } = self.clock.now();
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

    /// Whether the clock was set since we began.
    pub(super) fn was_set(&self) -> bool {
        self.first_ms != self.offset_ms || self.before_ms != self.offset_ms
    }

    /// Now, in the time in which we began.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now().boot_ms + self.first_ms
    }

    /// Now, as the wall clock says.
    pub(super) fn wall_ms(&self) -> i64 {
        self.clock.now().wall_ms
    }

    /// A stamp that was written of late, in the time in which we began: written before the last step or after it,
    /// whichever is nearer to now.
    pub(super) fn live(&self, stamp: Window) -> Window {
        if !self.was_set() {
            return stamp;
        }
        let now_ms = self.now_ms();
        let told = |offset_ms: i64| stamp.shifted(self.first_ms - offset_ms);
        let age = |window: &Window| (now_ms - window.to_ms).abs();
        let (before, after) = (told(self.before_ms), told(self.offset_ms));
        if age(&before) < age(&after) { before } else { after }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_clock_that_is_set_tears_no_interval() {
        let times = Arc::new(Mutex::new(Times { wall_ms: 1_000_000, boot_ms: 0 }));
        let read = Arc::clone(&times);
        let mut timeline = Timeline::new(Clock::new(move || *read.lock().unwrap()));
        let set = |wall_ms, boot_ms| *times.lock().unwrap() = Times { wall_ms, boot_ms };
        let stamp = |ms| Window::stamped(ms, 1);
        set(1_005_100, 5100);
        timeline.tick();
        assert_eq!(timeline.live(stamp(1_005_000)).from_ms, 1_005_000);
        set(4_607_000, 7000); // an hour ahead
        timeline.tick();
        assert_eq!(timeline.shift_ms(), 3_600_000);
        assert_eq!(timeline.live(stamp(1_006_900)).from_ms, 1_006_900, "written before");
        set(4_610_100, 10_100);
        assert_eq!(timeline.live(stamp(4_610_000)).from_ms, 1_010_000);
        set(1_020_100, 20_100); // and back
        timeline.tick();
        assert_eq!(timeline.live(stamp(1_020_000)).from_ms, 1_020_000);
        set(1_030_090, 30_000); // slewed
        timeline.tick();
        assert_eq!(timeline.shift_ms(), 0);
    }
}
