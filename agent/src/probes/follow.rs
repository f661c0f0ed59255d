//! The logs, their probes and the probes' rhythm, followed together.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use super::{Expect, Settings};
use crate::access_log::locate::Located;
use crate::access_log::logs::{From, Logs, Seen};
use crate::access_log::scan::{Arrival, Found, Traffic};
use crate::cadence::order::Order;
use crate::cadence::verdict::{Verdict, judge};
use crate::cadence::{Beat, Cadence};
use crate::logtail::{Checkpoint, Gap, TailError};
use crate::nginx::conf::Held;

/// Lines found by a look within this time of the one before were written in between: we know when they arrived.
const LIVE: Duration = Duration::from_millis(1300);
/// How far back reading starts by default.
pub const LOOK_BACK: Duration = Duration::from_secs(300);

/// Milliseconds since 1970, now.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A reader of all logs.
#[derive(Debug)]
pub struct Follow {
    /// The logs.
    pub logs: Logs,
    /// What was seen.
    pub cadence: Cadence,
    /// Where lines may be missing, how often.
    pub gaps: u64,
    /// The last such place.
    pub last_gap: Option<Gap>,
    order: Order,
    looked: Option<Instant>,
}

impl Follow {
    /// Will read the located logs, from there on; one with a checkpoint goes on at it.
    pub fn new(located: &Located, from: From, settings: &Settings, checkpoints: &[Checkpoint]) -> Self {
        let interval_ms = match settings.expect {
            Expect::Every(span) => i64::try_from(span.0.as_millis()).ok(),
            Expect::Auto => None,
        };
        let tolerance_ms = settings.tolerance.and_then(|span| i64::try_from(span.0.as_millis()).ok());
        let networks = if located.logs.is_empty() { Vec::new() } else { settings.networks() };
        Self {
            logs: Logs::new(located, from, &networks, checkpoints),
            cadence: Cadence::new(interval_ms, tolerance_ms),
            gaps: 0,
            last_gap: None,
            order: Order::new(located.held()),
            looked: None,
        }
    }

    /// Reads all that is new. `prompt` says that an event announced it.
    ///
    /// # Errors
    /// When no log can be read or is a regular file; the next look tries again.
    pub fn look(
        &mut self,
        prompt: bool,
        on_probe: &mut dyn FnMut(&Found<'_>, Option<i64>),
    ) -> Result<(), TailError> {
        let live = self.looked.is_some_and(|looked| looked.elapsed() < LIVE);
        let arrival = live.then(|| Arrival { at_ms: now_ms(), prompt });
        let Self { logs, cadence, order, gaps, last_gap, .. } = self;
        let mut eye = Eye { cadence, order, gaps, last_gap, on_probe };
        let looked = logs.look(arrival, &mut |seen| eye.take(seen));
        self.looked = Some(Instant::now());
        looked
    }

    /// Takes an unfinished last line for whole, and settles what can be settled: nothing more will come.
    pub fn finish(&mut self, on_probe: &mut dyn FnMut(&Found<'_>, Option<i64>)) {
        let Self { logs, cadence, order, gaps, last_gap, .. } = self;
        let mut eye = Eye { cadence, order, gaps, last_gap, on_probe };
        logs.finish(&mut |seen| eye.take(seen));
        self.cadence.settle_at_last();
    }

    /// Takes a probe that was seen elsewhere.
    pub fn direct(&mut self, node: IpAddr, path: &[u8], status: u16, at_ms: i64) {
        let beat =
            Beat { node, key: key(path, Some(b"\0direct")), at_ms, resolution_ms: 1, ok: is_ok(status) };
        self.cadence.observe(beat);
    }

    /// What was scanned.
    pub fn traffic(&self) -> Traffic {
        self.logs.traffic()
    }

    /// Whether a forged User-Agent would show.
    pub fn verifiable(&self) -> bool {
        self.logs.verifiable()
    }

    /// For how long nginx holds lines back, where its configuration says so.
    pub fn held(&self) -> Held {
        self.order.held()
    }

    /// The verdict at `now_ms`.
    pub fn verdict(&self, now_ms: i64) -> Verdict {
        let mut traffic = self.traffic();
        let there = self.logs.is_there();
        if self.order.held() == Held::No {
            return judge(&self.cadence, &traffic, now_ms, there, traffic.late_ms == 0);
        }
        // That lines are late is no news. What came is judged in its order, up to when all must have come.
        traffic.late_ms = 0;
        let (mut cadence, mut order) = (self.cadence.clone(), self.order.clone());
        let whole_to = order.whole_to(self::now_ms());
        let come = if whole_to.is_some() { order.ripe(self::now_ms()) } else { order.drain() };
        for beat in come {
            cadence.observe(beat);
        }
        let seen_to = whole_to.or_else(|| cadence.last_ms().or(traffic.last_ms)).unwrap_or(now_ms);
        judge(&cadence, &traffic, now_ms.min(seen_to), there, whole_to.is_some())
    }
}

/// Takes what the logs yield.
struct Eye<'a> {
    cadence: &'a mut Cadence,
    order: &'a mut Order,
    gaps: &'a mut u64,
    last_gap: &'a mut Option<Gap>,
    on_probe: &'a mut dyn FnMut(&Found<'_>, Option<i64>),
}

impl Eye<'_> {
    fn take(&mut self, seen: Seen<'_>) {
        let Self { cadence, order, gaps, last_gap, on_probe } = self;
        match seen {
            Seen::Probe(found) => {
                let mut interval = None;
                match order.held() {
                    Held::No => interval = cadence.observe(beat(found)),
                    _ => order.push(beat(found)).into_iter().for_each(|beat| {
                        cadence.observe(beat);
                    }),
                }
                on_probe(found, interval);
            }
            Seen::Gap(gap) => {
                **gaps += 1;
                **last_gap = Some(gap);
                cadence.gap();
            }
        }
    }
}

fn beat(found: &Found<'_>) -> Beat {
    Beat {
        node: found.node,
        key: key(found.line.path, found.line.host),
        at_ms: found.stamp.at_ms,
        resolution_ms: i64::from(found.stamp.resolution_ms),
        ok: found.line.status.is_none_or(is_ok),
    }
}

fn is_ok(status: u16) -> bool {
    (200..300).contains(&status)
}

/// What tells the streams of one node apart.
fn key(path: &[u8], host: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, host).hash(&mut hasher);
    hasher.finish()
}

/// Starts where the last few minutes begin.
pub fn recently() -> From {
    From::Since(now_ms() - i64::try_from(LOOK_BACK.as_millis()).unwrap_or(0))
}
