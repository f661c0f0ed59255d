//! The probes of one node for one path, taken for one rhythm, or for several that only their phase tells apart: two
//! target groups that probe the same path of this instance. Pure.

use super::GONE;
use super::arrival::Window;
use super::expected::Expected;
use super::report::NodeState;
use super::rhythm::Rhythm;
use super::spread::Spread;
use super::troubles::Troubles;

/// More target groups on one instance than anybody has; more phases are noise.
const MAX_RHYTHMS: usize = 8;
/// A node that comes back in its rhythm after at most so many intervals has missed them; later it is new.
const BACK: i64 = 12;
/// Intervals from which on a rhythm is judged: two; one proves nothing.
const ENOUGH: u64 = 2;

/// Rhythms of one interval.
#[derive(Debug, Clone)]
pub(super) struct Phases {
    pub(super) expected: Expected,
    rhythms: Vec<Rhythm>,
    /// Probes that belong to no rhythm.
    extra: u64,
    /// How many were missed and out of rhythm so far, in all of them.
    broken: (u64, u64),
    pub(super) troubles: Troubles,
}

/// How it stands at some time.
#[derive(Debug, Clone)]
pub(super) struct Summary {
    pub(super) state: NodeState,
    /// The same, were all that is past forgiven.
    pub(super) now: NodeState,
    pub(super) streams: usize,
    pub(super) missed: u64,
    pub(super) missed_max: u64,
    pub(super) off: u64,
    pub(super) extra: u64,
    pub(super) intervals: u64,
    pub(super) overdue: u64,
    pub(super) spread: Spread,
}

impl Summary {
    /// Nothing at all is wrong.
    pub(super) fn is_clean(&self) -> bool {
        self.missed == 0 && self.off == 0 && self.overdue == 0
    }

    pub(super) fn cost(&self) -> u64 {
        self.missed + self.off + self.extra
    }
}

impl Phases {
    pub(super) fn new(expected: Expected) -> Self {
        Self { expected, rhythms: Vec::new(), extra: 0, broken: (0, 0), troubles: Troubles::default() }
    }

    /// Takes a probe. `alone` says that no other node was seen since the given time. Returns the interval since the
    /// probe before it in the same rhythm.
    pub(super) fn observe(&mut self, window: Window, alone: &dyn Fn(i64) -> bool) -> Option<i64> {
        let (missed, off) = self.broken;
        let interval = self.place(window, alone);
        self.broken = self
            .rhythms
            .iter()
            .fold((0, 0), |(missed, off), rhythm| (missed + rhythm.missed().0, off + rhythm.off));
        let (missed_now, off_now) = self.broken;
        if missed_now > missed || off_now > off {
            let (missed, off) = (missed_now.saturating_sub(missed), off_now.saturating_sub(off));
            self.troubles.add(window.to_ms, missed, off);
        } else {
            self.troubles.right_since += u64::from(interval.is_some());
        }
        interval
    }

    /// How many were missed and out of rhythm so far.
    pub(super) fn broken(&self) -> (u64, u64) {
        self.broken
    }

    fn place(&mut self, window: Window, alone: &dyn Fn(i64) -> bool) -> Option<i64> {
        self.forget_strays(window.to_ms);
        if let Some((at, beats)) = self.best(window) {
            return self.hit(at, beats, window, alone);
        }
        let settled = || self.rhythms.iter().enumerate().filter(|(_, rhythm)| !rhythm.is_stray());
        if let Some(at) = settled().find(|(_, rhythm)| rhythm.excused).map(|(at, _)| at) {
            self.rhythms.get_mut(at)?.forget_phase(window);
            return None;
        }
        let expected = self.expected;
        let nearest = settled().min_by_key(|(_, rhythm)| {
            (rhythm.last().middle() + expected.interval_ms - window.middle()).abs()
        });
        let parent = nearest.map(|(at, _)| at);
        if let Some((at, rhythm)) = nearest
            && rhythm.overdue(window.from_ms, &expected) > GONE
            && !alone(rhythm.last().to_ms)
        {
            self.rhythms.get_mut(at)?.restart(window);
            return None;
        }
        if self.rhythms.len() >= MAX_RHYTHMS {
            self.extra += 1;
            return None;
        }
        self.rhythms.push(Rhythm::new(expected, window, parent));
        None
    }

    /// The rhythm that the probe is nearest to, and how many beats after its last.
    fn best(&self, window: Window) -> Option<(usize, i64)> {
        let fits = self.rhythms.iter().enumerate().filter_map(|(at, rhythm)| {
            let beats = rhythm.fits(window)?;
            let due = rhythm.last().middle() + beats * self.expected.interval_ms;
            Some((at, beats, (window.middle() - due).abs()))
        });
        fits.min_by_key(|(_, _, residual)| *residual).map(|(at, beats, _)| (at, beats))
    }

    fn hit(&mut self, at: usize, beats: i64, window: Window, alone: &dyn Fn(i64) -> bool) -> Option<i64> {
        let rhythm = self.rhythms.get(at)?;
        if beats > BACK && !alone(rhythm.last().to_ms) {
            self.rhythms.get_mut(at)?.restart(window);
            return None;
        }
        if rhythm.is_stray() {
            return self.confirm(at, window);
        }
        let last = rhythm.last();
        let interval = self.rhythms.get_mut(at)?.hit(window);
        // Probes out of time in between are those that the rhythm misses.
        for _ in 1..beats {
            let Some(stray) = self.rhythms.iter().position(|rhythm| {
                rhythm.is_stray() && rhythm.parent == Some(at) && rhythm.last().from_ms >= last.from_ms
            }) else {
                break;
            };
            self.rhythms.get_mut(at)?.displaced();
            self.remove(stray); // children stand behind their parents
        }
        Some(interval)
    }

    /// A stray has a second probe an interval later: another rhythm, or its parent's, whose phase has changed.
    fn confirm(&mut self, at: usize, window: Window) -> Option<i64> {
        let stray = self.rhythms.get(at)?.clone();
        let expected = self.expected;
        if let Some(parent) = stray.parent
            && let Some(rhythm) = self.rhythms.get_mut(parent)
            && rhythm.overdue(window.from_ms, &expected) > 0
            && rhythm.last().middle() <= stray.last().middle()
        {
            rhythm.shift(stray.last(), &expected);
            let interval = rhythm.hit(window);
            self.remove(at);
            return Some(interval);
        }
        let rhythm = self.rhythms.get_mut(at)?;
        rhythm.parent = None;
        Some(rhythm.hit(window))
    }

    /// Single probes that never became a rhythm.
    fn forget_strays(&mut self, now_ms: i64) {
        while let Some(at) = self.rhythms.iter().position(|rhythm| {
            rhythm.is_stray() && now_ms - rhythm.last().to_ms > 3 * self.expected.interval_ms
        }) {
            self.remove(at);
            self.extra += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        self.rhythms.remove(at);
        for rhythm in &mut self.rhythms {
            rhythm.parent = match rhythm.parent {
                Some(parent) if parent == at => None,
                Some(parent) if parent > at => Some(parent - 1),
                same => same,
            };
        }
    }

    /// Lines may be missing here.
    pub(super) fn gap(&mut self) {
        self.rhythms.iter_mut().for_each(|rhythm| rhythm.excused = true);
    }

    /// How it stands at `now_ms`, `last_of_all` being the last probe of any node.
    pub(super) fn summary(&self, now_ms: i64, last_of_all: i64) -> Summary {
        let (missed, off) = self.broken();
        let missed_max: u64 = self.rhythms.iter().map(|rhythm| rhythm.missed().1).sum();
        let mut spread = Spread::default();
        self.rhythms.iter().for_each(|rhythm| spread.merge(&rhythm.spread));
        let judged: Vec<(usize, &Rhythm)> =
            self.rhythms.iter().enumerate().filter(|(_, rhythm)| rhythm.intervals >= ENOUGH).collect();
        let has_left = |rhythm: &Rhythm| {
            rhythm.overdue(now_ms, &self.expected) >= GONE
                && last_of_all - rhythm.last().to_ms >= self.expected.silence_ms()
        };
        let (mut overdue, mut late_now, mut extra) = (0, 0, self.extra);
        for (at, rhythm) in judged.iter().filter(|(_, rhythm)| !has_left(rhythm) && !rhythm.excused) {
            let mut due = rhythm.overdue(now_ms, &self.expected).min(GONE).unsigned_abs();
            let strays = self.rhythms.iter().filter(|stray| stray.is_stray() && stray.parent == Some(*at));
            let out_of_time = due.min(strays.count() as u64);
            due -= out_of_time;
            late_now += out_of_time;
            overdue += due;
        }
        extra += self.rhythms.iter().filter(|r| r.is_stray()).count() as u64 - late_now;
        let few = judged.is_empty() && self.rhythms.iter().all(|rhythm| rhythm.probes <= ENOUGH) && off == 0;
        let now = if judged.is_empty() {
            NodeState::TooFew
        } else if judged.iter().all(|(_, rhythm)| has_left(rhythm)) {
            NodeState::Gone
        } else if overdue > 0 {
            NodeState::Late
        } else {
            NodeState::OnTime
        };
        let state = match now {
            _ if few => NodeState::TooFew,
            _ if missed + off + late_now > 0 => NodeState::Off,
            now => now,
        };
        Summary {
            state,
            now,
            streams: judged.len(),
            missed: missed + overdue,
            missed_max: missed_max + overdue,
            off: off + late_now,
            extra,
            intervals: self.rhythms.iter().map(|rhythm| rhythm.intervals).sum(),
            overdue,
            spread,
        }
    }

    /// Whether more than one rhythm, or a broken one, would be needed to explain what was seen.
    pub(super) fn is_plain(&self) -> bool {
        self.rhythms.len() <= 1 && self.extra == 0 && self.broken() == (0, 0)
    }

    /// Whether its intervals differ little.
    pub(super) fn is_even(&self) -> bool {
        let slack = self.expected.interval_ms / 20;
        let near = |ms: Option<i64>, resolution_ms: i64| {
            ms.is_none_or(|ms| (ms - self.expected.interval_ms).abs() <= slack + resolution_ms)
        };
        self.rhythms.iter().all(|rhythm| {
            let resolution_ms = rhythm.last().resolution_ms();
            near(rhythm.spread.min(), resolution_ms) && near(rhythm.spread.max(), resolution_ms)
        })
    }

    /// Intervals that were measured.
    pub(super) fn intervals(&self) -> u64 {
        self.rhythms.iter().map(|rhythm| rhythm.intervals).sum()
    }
}
