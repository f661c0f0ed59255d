//! The rhythm of the load balancer's nodes: who probes, how regularly, and what was missed. Pure: fed with times,
//! asked with a time. Memory is bounded, whoever sends.

mod auto;
mod node;
pub mod order;
mod spread;
mod stream;
pub mod verdict;

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use node::{GONE, Node};
use spread::Spread;
use stream::Stream;

use crate::sys::clock::rfc3339;

/// More nodes than a load balancer has (it has at most one address a zone and a hundred when it scales).
const MAX_NODES: usize = 256;
/// Probes kept while the interval isn't known.
const MAX_PENDING: usize = 512;
/// Agreeing intervals that settle `auto`.
const ENOUGH_AUTO: usize = 3;
/// How evenly spaced the probes of one stream are: load balancers jitter by some 30 ms.
const EVEN_MS: i64 = 150;
/// Probes of a stream from which on its rhythm is judged: two intervals; one proves nothing.
pub const ENOUGH: u64 = 3;

/// What is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Law {
    /// The target group's interval, milliseconds.
    pub interval_ms: i64,
    /// How far an interval may be off, milliseconds.
    pub tolerance_ms: i64,
}

impl Law {
    /// An interval, and how far it may be off: a fifth of it where not said.
    pub fn new(interval_ms: i64, tolerance_ms: Option<i64>) -> Self {
        let interval_ms = interval_ms.max(1);
        Self { interval_ms, tolerance_ms: tolerance_ms.unwrap_or(interval_ms / 5).max(1) }
    }

    /// The tolerance with stamps of this resolution: never below what they resolve.
    pub fn tolerance(&self, resolution_ms: i64) -> i64 {
        self.tolerance_ms.max(resolution_ms)
    }

    /// How long a silence is one.
    pub fn silence_ms(&self) -> i64 {
        self.interval_ms * GONE.cast_signed()
    }
}

/// A probe, as far as rhythm is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// The load balancer's address.
    pub node: IpAddr,
    /// What tells streams of one node apart.
    pub key: u64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// It happened at most so much later.
    pub resolution_ms: i64,
    /// Answered with 2xx.
    pub ok: bool,
}

/// How a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Every probe came in its rhythm.
    OnTime,
    /// Probes were missed, or came too early or too late.
    Off,
    /// The next probe is overdue.
    Late,
    /// It went away while others went on.
    Gone,
    /// Too few probes to judge.
    TooFew,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its address.
    pub node: IpAddr,
    /// How many probes it sent.
    pub probes: u64,
    /// How many it should have sent besides.
    pub missed: u64,
    /// The smallest interval.
    pub interval_min_ms: Option<i64>,
    /// The median.
    pub interval_p50_ms: Option<i64>,
    /// The largest.
    pub interval_max_ms: Option<i64>,
    /// Whether all of it kept the rhythm.
    pub on_time: bool,
    /// In a word.
    pub state: NodeState,
    /// How many rhythms it has.
    pub streams: usize,
    /// Its rhythm, where it is a faster one than expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faster_ms: Option<i64>,
    /// Probes too early or too late.
    pub off_rhythm: u64,
    /// Probes that belong to no rhythm.
    pub extra: u64,
    /// Probes that weren't answered with 2xx.
    pub not_ok: u64,
    /// Milliseconds since 1970.
    #[serde(rename = "first_seen", serialize_with = "as_time")]
    pub first_ms: i64,
    /// Milliseconds since 1970.
    #[serde(rename = "last_seen", serialize_with = "as_time")]
    pub last_ms: i64,
}

/// Milliseconds since 1970 as every time in our output is written.
fn as_time<S: serde::Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(Timestamp::from_millisecond(*ms).unwrap_or_default()))
}

/// The rhythms of all nodes.
#[derive(Debug, Clone)]
pub struct Cadence {
    law: Option<Law>,
    tolerance_ms: Option<i64>,
    pending: Vec<Beat>,
    nodes: BTreeMap<IpAddr, Node>,
    resolution_ms: i64,
    /// The last time that all nodes were silent: from when to when.
    hush: (i64, i64),
    /// Nodes that were forgotten because there were too many.
    pub forgotten: u64,
}

impl Cadence {
    /// Expects an interval, or finds it where `None`.
    pub fn new(interval_ms: Option<i64>, tolerance_ms: Option<i64>) -> Self {
        Self {
            law: interval_ms.map(|ms| Law::new(ms, tolerance_ms)),
            tolerance_ms,
            pending: Vec::new(),
            nodes: BTreeMap::new(),
            resolution_ms: 0,
            hush: (i64::MIN, i64::MIN),
            forgotten: 0,
        }
    }

    /// What is expected, once it is known.
    pub fn law(&self) -> Option<Law> {
        self.law
    }

    /// The coarsest stamp so far.
    pub fn resolution_ms(&self) -> i64 {
        self.resolution_ms
    }

    /// The last probe of all, milliseconds since 1970.
    pub fn last_ms(&self) -> Option<i64> {
        let pending = self.pending.last().map(|beat| beat.at_ms);
        self.nodes.values().map(Node::last_ms).max().max(pending)
    }

    /// Takes a probe; returns the interval since the one before it in its stream.
    pub fn observe(&mut self, beat: Beat) -> Option<i64> {
        self.resolution_ms = self.resolution_ms.max(beat.resolution_ms);
        if let Some(law) = self.law {
            return self.place(beat, &law);
        }
        self.pending.push(beat);
        self.settle(ENOUGH_AUTO);
        if self.pending.len() >= MAX_PENDING {
            self.pending.drain(..MAX_PENDING / 2);
        }
        None
    }

    /// Settles on an interval with what there is; for the end.
    pub fn settle_at_last(&mut self) {
        self.settle(2);
    }

    fn settle(&mut self, enough: usize) {
        if self.law.is_none()
            && let Some(interval_ms) = auto::interval_ms(&self.pending, enough)
        {
            let law = Law::new(interval_ms, self.tolerance_ms);
            self.law = Some(law);
            for beat in std::mem::take(&mut self.pending) {
                self.place(beat, &law);
            }
        }
    }

    fn place(&mut self, beat: Beat, law: &Law) -> Option<i64> {
        if !self.nodes.contains_key(&beat.node) && self.nodes.len() >= MAX_NODES {
            let oldest = self.nodes.iter().min_by_key(|(_, node)| node.last_ms()).map(|(ip, _)| *ip);
            oldest.map(|ip| self.nodes.remove(&ip));
            self.forgotten += 1;
        }
        let silence = law.silence_ms();
        if let Some(last) = self
            .nodes
            .values()
            .map(Node::last_ms)
            .max()
            .filter(|last| beat.at_ms.saturating_sub(*last) >= silence)
        {
            self.hush = (last, beat.at_ms);
        }
        let (from, to) = self.hush;
        let others =
            self.nodes.iter().filter(|(ip, _)| **ip != beat.node).map(|(_, node)| node.last_ms()).max();
        let alone = |since: i64| {
            let hushed = from >= since && from - since < silence && beat.at_ms - to < silence;
            hushed || others.is_none_or(|last| last < since + silence)
        };
        let node = self.nodes.entry(beat.node).or_default();
        node.not_ok += u64::from(!beat.ok);
        node.observe(beat.key, beat.at_ms, beat.resolution_ms, law, alone)
    }

    /// Lines may be missing here: the intervals that span this moment prove nothing.
    pub fn gap(&mut self) {
        self.nodes.values_mut().flat_map(|node| &mut node.streams).for_each(|stream| stream.excused = true);
    }

    /// How many probes each node sent so far.
    pub fn totals(&self) -> impl Iterator<Item = (IpAddr, u64)> {
        self.nodes.iter().map(|(ip, node)| (*ip, node.probes))
    }

    /// How every node does at `now_ms`.
    pub fn report(&self, now_ms: i64) -> Vec<NodeReport> {
        let Some(law) = self.law else { return Vec::new() };
        let last_of_all = self.last_ms().unwrap_or(now_ms);
        self.nodes.iter().map(|(ip, node)| report(*ip, node, &law, now_ms, last_of_all)).collect()
    }
}

fn report(ip: IpAddr, node: &Node, law: &Law, now_ms: i64, last_of_all: i64) -> NodeReport {
    let is_stray =
        |s: &&Stream| s.probes == 1 && s.early_for.is_some() && now_ms - s.last_ms > 3 * law.interval_ms;
    let strays = node.streams.iter().filter(is_stray).count();
    let mut streams: Vec<&Stream> = node.streams.iter().filter(|s| !is_stray(s)).collect();
    let mut spread = Spread::default();
    streams.iter().for_each(|s| spread.merge(&s.spread));
    let (first_ms, last_ms) =
        (streams.iter().map(|s| s.first_ms).min(), streams.iter().map(|s| s.last_ms).max());
    let mut missed: u64 = streams.iter().map(|s| s.missed).sum();
    let off_rhythm: u64 = streams.iter().map(|s| s.off).sum();
    streams.retain(|s| s.probes >= ENOUGH);
    let has_left =
        |s: &&Stream| s.overdue(now_ms, law) >= GONE && last_of_all - s.last_ms >= law.silence_ms();
    let late: u64 =
        streams.iter().filter(|s| !has_left(s) && !s.excused).map(|s| s.overdue(now_ms, law)).sum();
    missed += late.min(GONE);
    let faster = faster(&streams, law);
    let state = if streams.is_empty() {
        NodeState::TooFew
    } else if faster.is_some() || !streams.iter().all(|s| s.kept(law)) {
        NodeState::Off
    } else if streams.iter().all(has_left) {
        NodeState::Gone
    } else if late > 0 {
        NodeState::Late
    } else {
        NodeState::OnTime
    };
    let times = faster.unwrap_or(1);
    NodeReport {
        node: ip,
        probes: node.probes,
        missed,
        interval_min_ms: spread.min().map(|ms| ms / times),
        interval_p50_ms: spread.p50().map(|ms| ms / times),
        interval_max_ms: spread.max().map(|ms| ms / times),
        on_time: matches!(state, NodeState::OnTime | NodeState::Gone),
        state,
        streams: streams.len() / usize::try_from(times).unwrap_or(1),
        faster_ms: faster.map(|times| law.interval_ms / times),
        off_rhythm,
        extra: node.extra + strays as u64,
        not_ok: node.not_ok,
        first_ms: first_ms.unwrap_or(now_ms),
        last_ms: last_ms.unwrap_or(now_ms),
    }
}

/// How many times faster than expected the node probes: several streams that nothing but their phase tells apart, all
/// the same time apart, are one faster stream, if a target group can be that fast.
fn faster(streams: &[&Stream], law: &Law) -> Option<i64> {
    let first = streams.first()?;
    let times = i64::try_from(streams.len()).ok()?;
    let step = law.interval_ms / times;
    if times < 2 || step < auto::SHORTEST_MS || streams.iter().any(|s| s.key != first.key) {
        return None;
    }
    let mut last: Vec<i64> = streams.iter().map(|s| s.last_ms).collect();
    last.sort_unstable();
    let slack = EVEN_MS + first.resolution_ms / 2;
    last.windows(2).all(|pair| matches!(pair, [a, b] if (b - a - step).abs() <= slack)).then_some(times)
}

#[cfg(test)]
mod tests;
