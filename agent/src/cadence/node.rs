//! One address of the load balancer, and its streams: two target groups that probe this instance share the node.
//! Streams are told apart by path and Host where logged, and by phase where not. Pure.

use super::Law;
use super::stream::{Fit, Stream};

/// More target groups on one instance than anybody has; more phases are noise.
const MAX_STREAMS: usize = 16;
/// A silence of so many intervals, in which other nodes go on, means that the node has left.
pub(super) const GONE: u64 = 4;
/// A node that comes back in its rhythm after at most so many intervals has missed them; later it is new.
const BACK: u64 = 12;

/// A node.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) probes: u64,
    /// Probes that weren't 2xx.
    pub(super) not_ok: u64,
    /// Probes that belong to no rhythm.
    pub(super) extra: u64,
    pub(super) streams: Vec<Stream>,
}

impl Node {
    /// Takes a probe. `alone` says that no other node was seen since the given time. Returns the interval since the
    /// probe before it in the same stream.
    pub(super) fn observe(
        &mut self,
        key: u64,
        at_ms: i64,
        resolution_ms: i64,
        law: &Law,
        alone: impl Fn(i64) -> bool,
    ) -> Option<i64> {
        self.probes += 1;
        self.forget_strays(at_ms, law);
        if let Some((at, slots)) = self.best(key, at_ms, law) {
            return self.hit(at, slots, at_ms, resolution_ms, law, alone);
        }
        let of_key = || self.streams.iter().enumerate().filter(|(_, s)| s.key == key);
        if let Some(at) =
            of_key().find(|(_, s)| at_ms < s.last_ms - law.tolerance(resolution_ms)).map(|(at, _)| at)
        {
            // The clock was set back.
            self.streams.get_mut(at)?.restart(at_ms, resolution_ms);
            return None;
        }
        let late = of_key().filter(|(_, s)| s.fit(at_ms, law) == Fit::Late).max_by_key(|(_, s)| s.last_ms);
        if let Some((at, _)) = late {
            let stream = self.streams.get_mut(at)?;
            if stream.overdue(at_ms, law) > GONE && !alone(stream.last_ms) {
                stream.restart(at_ms, resolution_ms);
                return None;
            }
            return Some(stream.stray(at_ms, resolution_ms, law));
        }
        let early_for =
            of_key().min_by_key(|(_, s)| (s.last_ms + law.interval_ms - at_ms).abs()).map(|(at, _)| at);
        if self.streams.len() >= MAX_STREAMS {
            self.extra += 1;
            return None;
        }
        let mut stream = Stream::new(key, at_ms, resolution_ms);
        stream.early_for = early_for;
        self.streams.push(stream);
        None
    }

    /// The stream in whose rhythm the probe is, and how many slots after its last.
    fn best(&self, key: u64, at_ms: i64, law: &Law) -> Option<(usize, u64)> {
        let fits = self.streams.iter().enumerate().filter(|(_, s)| s.key == key);
        let slots = fits.filter_map(|(at, s)| match s.fit(at_ms, law) {
            Fit::Slot(slots, residual) => Some((at, slots, residual)),
            _ => None,
        });
        slots.min_by(|a, b| a.2.total_cmp(&b.2)).map(|(at, slots, _)| (at, slots))
    }

    fn hit(
        &mut self,
        at: usize,
        slots: u64,
        at_ms: i64,
        resolution_ms: i64,
        law: &Law,
        alone: impl Fn(i64) -> bool,
    ) -> Option<i64> {
        let stream = self.streams.get(at)?;
        if slots > BACK && !alone(stream.last_ms) {
            self.streams.get_mut(at)?.restart(at_ms, resolution_ms);
            return None;
        }
        // A stream that began with an early probe goes on, and the one for which that was early has stopped: they are
        // one, whose rhythm was shifted.
        let (first_ms, parent) = (stream.first_ms, stream.early_for.filter(|_| stream.probes == 1));
        if let Some(parent) = parent
            && self.streams.get(parent).is_some_and(|p| p.last_ms <= first_ms && p.overdue(at_ms, law) > 0)
        {
            let tentative = self.streams.get(at)?.clone();
            let parent = self.streams.get_mut(parent)?;
            parent.absorb(&tentative, law);
            let interval = parent.hit(at_ms, slots, resolution_ms);
            self.remove(at);
            return Some(interval);
        }
        Some(self.streams.get_mut(at)?.hit(at_ms, slots, resolution_ms))
    }

    /// Single probes that never became a stream.
    fn forget_strays(&mut self, at_ms: i64, law: &Law) {
        while let Some(at) = self
            .streams
            .iter()
            .position(|s| s.probes == 1 && s.early_for.is_some() && at_ms - s.last_ms > 3 * law.interval_ms)
        {
            self.remove(at);
            self.extra += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        self.streams.remove(at);
        for stream in &mut self.streams {
            stream.early_for = match stream.early_for {
                Some(parent) if parent == at => None,
                Some(parent) if parent > at => Some(parent - 1),
                same => same,
            };
        }
    }

    /// When it was last seen.
    pub(super) fn last_ms(&self) -> i64 {
        self.streams.iter().map(|s| s.last_ms).max().unwrap_or(i64::MIN)
    }
}
