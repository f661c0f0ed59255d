//! When real-time priority would turn against the machine: past a bounded share of a CPU the serving thread gives it
//! up until the flood is over. It is over when what is *offered* is little: clients that still wait for us count as
//! much as those that we served. Pure: the caller tells the time and the thread's CPU clock.

use std::time::{Duration, Instant};

/// How long the share is measured over. A real-time thread can hold a CPU for no longer than this.
pub(super) const WINDOW: Duration = Duration::from_millis(100);
/// The share of a CPU from which it is a flood: some 8,000 new connections a second. Probes need a ten-thousandth.
const FLOOD: f64 = 0.25;
/// The share under which it is over…
const CALM: f64 = 0.10;
/// …once it has stayed there for so long.
const CALM_FOR: Duration = Duration::from_secs(5);
/// The share that a flood gets at most. The rest waits in the kernel.
const BUDGET: f64 = 0.6;

/// Whether there is a flood.
#[derive(Debug)]
pub(super) struct Flood {
    window: (Instant, Duration),
    since: Option<Instant>,
    calm_since: Option<Instant>,
    /// Clients had to wait in this window.
    held_back: bool,
}

impl Flood {
    /// Starts measuring at `now`, when the thread has used `cpu`.
    pub(super) fn new(now: Instant, cpu: Duration) -> Self {
        Self { window: (now, cpu), since: None, calm_since: None, held_back: false }
    }

    /// Whether a window is over, so that [`Flood::measure`] has something to say.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.window.0) >= WINDOW
    }

    /// Whether there is one now.
    pub(super) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// How long to take no connection, where the flood has had its share of this window; the clients that wait then
    /// are part of the flood.
    pub(super) fn pause(&mut self, now: Instant, cpu: Duration) -> Option<Duration> {
        let spent = cpu.saturating_sub(self.window.1);
        let over = self.is_on() && spent > WINDOW.mul_f64(BUDGET);
        self.held_back |= over;
        let left = WINDOW.saturating_sub(now.duration_since(self.window.0));
        (over && !left.is_zero()).then_some(left)
    }

    /// Ends the window and says whether a flood began (`true`) or ended (`false`) with it.
    pub(super) fn measure(&mut self, now: Instant, cpu: Duration) -> Option<bool> {
        let (start, before) = std::mem::replace(&mut self.window, (now, cpu));
        let share =
            cpu.saturating_sub(before).as_secs_f64() / now.duration_since(start).as_secs_f64().max(1e-9);
        let held_back = std::mem::take(&mut self.held_back);
        match self.since {
            None if share > FLOOD => {
                self.since = Some(now);
                self.calm_since = None;
                Some(true)
            }
            None => None,
            Some(_) if share > CALM || held_back => {
                self.calm_since = None;
                None
            }
            Some(_) => {
                let calm_since = *self.calm_since.get_or_insert(start);
                let over = now.duration_since(calm_since) >= CALM_FOR;
                if over {
                    self.since = None;
                }
                over.then_some(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds windows of 100 ms with these shares; returns what changed in which window.
    fn changes(shares: &[f64]) -> Vec<(usize, bool)> {
        let mut now = Instant::now();
        let mut cpu = Duration::ZERO;
        let mut flood = Flood::new(now, cpu);
        let mut changes = Vec::new();
        for (window, share) in shares.iter().enumerate() {
            assert!(!flood.is_due(now));
            now += WINDOW;
            cpu += WINDOW.mul_f64(*share);
            assert!(flood.is_due(now));
            changes.extend(flood.measure(now, cpu).map(|on| (window, on)));
        }
        changes
    }

    #[test]
    fn probes_and_ordinary_traffic_are_no_flood() {
        assert_eq!(changes(&[0.0, 0.01, 0.2, 0.25, 0.1]), []);
    }

    #[test]
    fn a_flood_begins_with_the_first_window_and_ends_after_calm_seconds() {
        let mut shares = vec![0.9, 0.9];
        shares.extend([0.05; 60]);
        assert_eq!(changes(&shares), [(0, true), (51, false)]);
    }

    #[test]
    fn a_lull_does_not_end_it() {
        let mut shares = vec![0.9];
        for _ in 0..5 {
            shares.extend([0.05; 15]);
            shares.push(0.2);
        }
        assert_eq!(changes(&shares), [(0, true)]);
    }

    #[test]
    fn what_has_to_wait_is_part_of_the_flood() {
        let start = Instant::now();
        let mut flood = Flood::new(start, Duration::ZERO);
        assert_eq!(flood.pause(start, WINDOW), None, "without a flood nobody waits");
        assert_eq!(flood.measure(start + WINDOW, WINDOW), Some(true));
        let mut now = start + WINDOW;
        for _ in 0..100 {
            // The whole window's CPU time was used in an instant, and then clients waited.
            assert!(flood.pause(now, WINDOW + WINDOW.mul_f64(0.7)).is_some());
            now += WINDOW;
            assert_eq!(flood.measure(now, WINDOW), None);
        }
    }

    #[test]
    fn a_long_silence_counts_as_calm() {
        let start = Instant::now();
        let mut flood = Flood::new(start, Duration::ZERO);
        assert_eq!(flood.measure(start + WINDOW, WINDOW), Some(true));
        assert_eq!(flood.measure(start + WINDOW + CALM_FOR, WINDOW), Some(false));
    }
}
