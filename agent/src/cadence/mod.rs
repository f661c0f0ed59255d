//! When the load balancer's probes arrive, and whether that is a rhythm. Pure: fed with arrivals, asked with a time.
//! Memory is bounded, whoever sends.
//!
//! - An [`arrival`] is a probe with the stretch of time in which it began. An *interval* is the time between two of
//!   them. A *rhythm* is a row of beats that are so many intervals apart; a *schedule* is all that one node sends for
//!   one path: mostly one rhythm.
//! - `bounds`: which rhythms fit a row of arrivals: no averages, no points. `rhythm`: one of them and what it missed.
//!   `phases`: arrivals shared out to several. `schedule`: which explanation needs the fewest faults.
//! - `step`: a phase that changed for good. `interval`: another interval than the expected one. [`order`]: arrivals in the order of their times.
//! - [`report`]: what is told of a node. [`verdict`]: confirmed or not, and why.

pub mod arrival;
mod bounds;
pub mod expected;
mod interval;
pub mod order;
mod phases;
pub mod report;
mod rhythm;
mod schedule;
mod spread;
mod step;
mod troubles;
pub mod verdict;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

pub use arrival::{ProbeArrival, Window};
pub use expected::Expected;
pub use report::{NodeReport, NodeState, Period};
use schedule::Schedule;

/// A silence of so many intervals, in which other nodes go on, means that the node has left.
const GONE: i64 = 4;
/// More nodes and paths than a load balancer has (at most one address a zone, and a hundred when it scales).
const MAX_SCHEDULES: usize = 512;
/// More target groups on one instance than anybody has.
const MAX_PATHS: usize = 16;
/// Probes of a path kept while its interval isn't known.
const MAX_PENDING: usize = 256;
/// Agreeing intervals that settle `auto`, those that tell it for the time being, and at the end.
const ENOUGH_AUTO: usize = 12;
const ENOUGH_SO_FAR: usize = 3;
const ENOUGH_AT_LAST: usize = 2;

/// What a stream of probes is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    /// The path.
    pub path: String,
    /// The Host header, where known.
    pub host: Option<String>,
    /// They came to the agent's own listener.
    pub direct: bool,
}

/// A stream of probes whose interval isn't known yet.
#[derive(Debug, Clone, Default)]
struct Stream {
    name: Name,
    expected: Option<Expected>,
    pending: VecDeque<ProbeArrival>,
}

/// The schedules of all nodes.
#[derive(Debug, Clone)]
pub struct Cadence {
    expected: Option<Expected>,
    tolerance_ms: Option<i64>,
    timeout_ms: Option<i64>,
    streams: BTreeMap<u64, Stream>,
    schedules: BTreeMap<(IpAddr, u64), Schedule>,
    resolution_ms: i64,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    /// The last time that all nodes were silent: from when to when.
    hush: (i64, i64),
    /// The last node that was seen and when, and the last other one.
    newest: [Option<(IpAddr, i64)>; 2],
    /// Schedules that were forgotten because there were too many, and probes that found no room.
    pub forgotten: u64,
}

impl Cadence {
    /// Expects an interval, or finds that of each stream where `None`.
    pub fn new(interval_ms: Option<i64>, tolerance_ms: Option<i64>) -> Self {
        Self {
            expected: interval_ms.map(|ms| Expected::new(ms, tolerance_ms)),
            tolerance_ms,
            timeout_ms: None,
            streams: BTreeMap::new(),
            schedules: BTreeMap::new(),
            resolution_ms: 0,
            first_ms: None,
            last_ms: None,
            hush: (i64::MIN / 2, i64::MIN / 2),
            newest: [None, None],
            forgotten: 0,
        }
    }

    /// The same where it is known what the health check's time-out is set to; to be said before the first probe.
    #[must_use]
    pub fn with_timeout(self, timeout_ms: Option<i64>) -> Self {
        Self { timeout_ms, expected: self.expected.map(|e| e.with_timeout(timeout_ms)), ..self }
    }

    /// What is expected, once it is known; `None` also where streams have different intervals.
    pub fn expected(&self) -> Option<Expected> {
        let mut known = self.streams.values().filter_map(|stream| stream.expected);
        self.expected.or_else(|| known.next().filter(|first| known.all(|other| other == *first)))
    }

    /// Whether every stream's interval is known.
    pub fn is_settled(&self) -> bool {
        self.expected.is_some()
            || !self.streams.is_empty() && self.streams.values().all(|stream| stream.expected.is_some())
    }

    /// The coarsest stamp so far.
    pub fn resolution_ms(&self) -> i64 {
        self.resolution_ms
    }

    /// The first probe of all, milliseconds since 1970.
    pub fn first_ms(&self) -> Option<i64> {
        self.first_ms
    }

    /// The last probe of all, milliseconds since 1970.
    pub fn last_ms(&self) -> Option<i64> {
        self.last_ms
    }

    /// Says what the probes of a stream are called; to be called before the first of them is observed.
    pub fn name(&mut self, stream: u64, name: impl FnOnce() -> Name) {
        if self.streams.len() < MAX_PATHS && !self.streams.contains_key(&stream) {
            self.streams.insert(stream, Stream { name: name(), ..Stream::default() });
        }
    }

    /// Takes a probe, in the order of times; returns the interval since the one before it in its rhythm.
    pub fn observe(&mut self, arrival: ProbeArrival) -> Option<i64> {
        let at_ms = arrival.ended.from_ms;
        self.resolution_ms = self.resolution_ms.max(arrival.ended.resolution_ms());
        self.first_ms = Some(self.first_ms.map_or(at_ms, |first| first.min(at_ms)));
        self.last_ms = self.last_ms.max(Some(at_ms));
        let known = self.streams.get(&arrival.stream).map(|stream| stream.expected);
        if known.is_none() && self.streams.len() >= MAX_PATHS {
            self.forgotten += 1;
            return None;
        }
        if let Some(expected) = self.expected.or(known.flatten()) {
            if known.is_none() {
                self.streams.insert(arrival.stream, Stream::default());
            }
            return self.place(arrival, expected);
        }
        let stream = self.streams.entry(arrival.stream).or_default();
        if stream.pending.len() >= MAX_PENDING {
            stream.pending.pop_front();
        }
        stream.pending.push_back(arrival);
        self.settle(arrival.stream, ENOUGH_AUTO);
        None
    }

    /// Settles on intervals with what there is: for the time being, or at last.
    pub fn settle_now(&mut self, at_last: bool) {
        let enough = if at_last { ENOUGH_AT_LAST } else { ENOUGH_SO_FAR };
        for stream in self.streams.keys().copied().collect::<Vec<_>>() {
            self.settle(stream, enough);
        }
    }

    fn settle(&mut self, stream: u64, enough: usize) {
        let (tolerance_ms, timeout_ms) = (self.tolerance_ms, self.timeout_ms);
        let Some(entry) = self.streams.get_mut(&stream).filter(|entry| entry.expected.is_none()) else {
            return;
        };
        let mut by_node: BTreeMap<IpAddr, Vec<Window>> = BTreeMap::new();
        for arrival in &entry.pending {
            by_node.entry(arrival.node).or_default().push(arrival.began(0));
        }
        let known = entry.pending.iter().all(|arrival| arrival.took_ms.is_some());
        let longest = by_node.values().max_by_key(|ends| ends.len());
        let found = longest.and_then(|ends| interval::of_many(ends, known, enough));
        let Some(interval_ms) = found else { return };
        let expected = Expected::new(interval_ms, tolerance_ms).with_timeout(timeout_ms);
        entry.expected = Some(expected);
        for arrival in std::mem::take(&mut entry.pending) {
            self.place(arrival, expected);
        }
    }

    fn place(&mut self, arrival: ProbeArrival, expected: Expected) -> Option<i64> {
        let (at_ms, key) = (arrival.ended.to_ms, (arrival.node, arrival.stream));
        if self.schedules.len() >= MAX_SCHEDULES && !self.schedules.contains_key(&key) {
            let oldest = self.schedules.iter().min_by_key(|(_, s)| s.last_ms()).map(|(key, _)| *key);
            oldest.map(|key| self.schedules.remove(&key));
            self.forgotten += 1;
        }
        let silence = expected.silence_ms();
        let [newest, second] = self.newest;
        if let Some((_, last)) = newest.filter(|(_, last)| at_ms.saturating_sub(*last) >= silence) {
            self.hush = (last, at_ms);
        }
        let (from, to) = self.hush;
        let others = if newest.is_some_and(|(node, _)| node != arrival.node) { newest } else { second };
        let alone = |since: i64| {
            let hushed = from >= since && from - since < silence && at_ms - to < silence;
            hushed || others.is_none_or(|(_, last)| last < since + silence)
        };
        if newest.is_some_and(|(node, _)| node != arrival.node) {
            self.newest[1] = newest;
        }
        self.newest[0] = Some((arrival.node, at_ms));
        let schedule = self.schedules.entry(key).or_insert_with(|| Schedule::new(expected, at_ms));
        schedule.observe(&arrival, &alone)
    }

    /// Lines may be missing here: the intervals that span this moment prove nothing.
    pub fn gap(&mut self) {
        self.schedules.values_mut().for_each(Schedule::gap);
    }

    /// The clock was set back, or another part of the log begins: what comes now has nothing to do with what came.
    pub fn set_back(&mut self) {
        self.gap();
        (self.hush, self.newest, self.last_ms) = ((i64::MIN / 2, i64::MIN / 2), [None, None], None);
        self.schedules.values_mut().for_each(Schedule::set_back);
    }

    /// The nodes, and how many probes each sent so far.
    pub fn totals(&self) -> BTreeMap<IpAddr, u64> {
        let mut totals: BTreeMap<IpAddr, u64> = BTreeMap::new();
        for ((node, _), schedule) in &self.schedules {
            *totals.entry(*node).or_default() += schedule.probes;
        }
        totals
    }

    /// How every node did in `period`: a report for each path that it probes.
    pub fn report(&self, period: &Period) -> Vec<NodeReport> {
        let last_of_all = self.last_ms.unwrap_or(period.to_ms);
        let is_seen =
            |schedule: &Schedule| period.from_ms.is_none_or(|from_ms| schedule.last_ms() >= from_ms);
        let seen: Vec<(IpAddr, u64, &Schedule)> =
            self.schedules.iter().filter(|(_, s)| is_seen(s)).map(|((ip, key), s)| (*ip, *key, s)).collect();
        let name = |key: &u64| self.streams.get(key).map(|stream| &stream.name);
        let names: Vec<&Name> = seen.iter().filter_map(|(_, key, _)| name(key)).collect();
        let several = |of: &dyn Fn(&Name) -> Option<&str>| {
            names.windows(2).any(|pair| matches!(pair, [a, b] if of(a) != of(b)))
        };
        let (paths, hosts) = (several(&|name| Some(&name.path)), several(&|name| name.host.as_deref()));
        let tell = |(ip, key, schedule): &(IpAddr, u64, &Schedule)| {
            let mut report = schedule.report(*ip, period, last_of_all);
            if let Some(name) = name(key) {
                report.path = paths.then(|| name.path.clone());
                report.host = name.host.clone().filter(|_| hosts);
                report.direct = name.direct;
            }
            report
        };
        seen.iter().map(tell).collect()
    }
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
