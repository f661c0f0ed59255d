//! What a log's probes are to the cadence: in their order, each in its stream, and in the time in which we began.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use super::follow::{RESOLUTION_MS, millis};
use super::timeline::{Clock, Timeline};
use super::{Expect, Settings};
use crate::access_log::logs::Seen;
use crate::access_log::scan::Found;
use crate::cadence::order::{Order, Ordered};
use crate::cadence::{Cadence, Name, ProbeArrival, Window};
use crate::config::Span;
use crate::logtail::Gap;
use crate::nginx::conf::Held;

/// For how long lines may be held back where nothing is known of it: what most people set as `flush`.
const PATIENCE_MS: i64 = 60_000;
/// Streams whose last probe is remembered.
const MAX_PACES: usize = 512;
/// As much of a path as tells target groups apart.
const PATH: usize = 256;

/// The probes that were seen, in their order and their rhythm.
#[derive(Debug)]
pub(super) struct Probes {
    pub(super) cadence: Cadence,
    pub(super) order: Order,
    paces: BTreeMap<(IpAddr, u64), i64>,
    path: Option<String>,
    /// Probes of other paths than the one that is judged.
    pub(super) other_paths: u64,
    pub(super) timeline: Timeline,
}

impl Probes {
    pub(super) fn new(clock: Clock, settings: &Settings, held: Held) -> Self {
        let interval_ms = match settings.expect {
            Expect::Every(span) => i64::try_from(span.0.as_millis()).ok(),
            Expect::Auto => None,
        };
        let ms = |span: Option<Span>| span.and_then(|span| i64::try_from(span.0.as_millis()).ok());
        let (tolerance_ms, timeout_ms) = (ms(settings.tolerance), ms(settings.timeout));
        Self {
            cadence: Cadence::new(interval_ms, tolerance_ms).with_timeout(timeout_ms),
            order: Order::new(patience_ms(held)),
            paces: BTreeMap::new(),
            path: settings.path.clone(),
            other_paths: 0,
            timeline: Timeline::new(clock),
        }
    }

    /// Lines are held back for so long from now on.
    pub(super) fn hold(&mut self, held: Held) {
        self.order.wait_for(patience_ms(held));
    }

    /// Takes a probe; returns the interval since the one before in its stream.
    pub(super) fn take(&mut self, arrival: ProbeArrival, name: impl FnOnce() -> Name) -> Option<i64> {
        self.cadence.name(arrival.stream, name);
        let Self { cadence, order, paces, .. } = self;
        order.push(arrival, &mut |ordered| observe(cadence, ordered));
        let began = arrival.began(0).from_ms;
        if paces.len() >= MAX_PACES {
            paces.clear();
        }
        paces.insert((arrival.node, arrival.stream), began).map(|before| began - before)
    }

    pub(super) fn is_asked_for(&mut self, path: &[u8]) -> bool {
        let Some(wanted) = &self.path else { return true };
        let bare = path.split(|b| *b == b'?').next().unwrap_or_default();
        let asked = path == wanted.as_bytes() || bare == wanted.as_bytes();
        self.other_paths += u64::from(!asked);
        asked
    }
}

/// For how long probes wait for those before them, milliseconds.
fn patience_ms(held: Held) -> i64 {
    match held {
        Held::Until(flush) => millis(flush).saturating_add(RESOLUTION_MS).max(PATIENCE_MS),
        Held::No | Held::Unbounded => PATIENCE_MS,
    }
}

pub(super) fn observe(cadence: &mut Cadence, ordered: Ordered) {
    match ordered {
        Ordered::Probe(arrival) => {
            cadence.observe(arrival);
        }
        Ordered::SetBack => cadence.set_back(),
    }
}

/// Takes what the logs yield.
pub(super) struct Eye<'a> {
    pub(super) probes: &'a mut Probes,
    pub(super) gaps: &'a mut u64,
    pub(super) last_gap: &'a mut Option<Gap>,
    pub(super) on_probe: &'a mut dyn FnMut(&Found<'_>, Option<i64>),
}

impl Eye<'_> {
    pub(super) fn take(&mut self, seen: Seen<'_>) {
        let Self { probes, gaps, last_gap, on_probe } = self;
        match seen {
            Seen::Probe(found) => {
                if !probes.is_asked_for(found.line.path) {
                    return;
                }
                let mut arrival = arrival_of(found);
                arrival.ended = probes.timeline.live(arrival.ended);
                let name =
                    || Name { path: text(found.line.path), host: found.line.host.map(text), direct: false };
                let interval = probes.take(arrival, name);
                on_probe(found, interval);
            }
            Seen::Gap(gap) => {
                **gaps += 1;
                **last_gap = Some(gap);
                let Probes { cadence, order, .. } = &mut **probes;
                order.ripe(i64::MAX, &mut |ordered| observe(cadence, ordered));
                cadence.gap();
            }
        }
    }
}

fn arrival_of(found: &Found<'_>) -> ProbeArrival {
    ProbeArrival {
        node: found.node,
        stream: stream(found.line.path, found.line.host),
        ended: Window::stamped(found.stamp.at_ms, i64::from(found.stamp.resolution_ms)),
        took_ms: found.line.took_ms,
        status: found.line.status,
    }
}

/// What tells the streams of one node apart.
pub(super) fn stream(path: &[u8], host: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, host).hash(&mut hasher);
    hasher.finish()
}

/// Hostile bytes as text that can't move the cursor.
pub(super) fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(PATH)).unwrap_or_default());
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
