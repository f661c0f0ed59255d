//! A log, its probes and their rhythm, followed together.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use super::cadence::{Beat, Cadence};
use super::locate::Located;
use super::scan::{Arrival, Found, Scanner, Traffic};
use super::tail::{Event, Gap, Start, Tail, TailError};
use super::verdict::{Verdict, judge};
use super::{Expect, Settings, recent};

/// Lines found by a look within this time of the one before were written in between: we know when they arrived.
const LIVE: Duration = Duration::from_millis(1300);
/// How far back reading starts by default.
pub const LOOK_BACK: Duration = Duration::from_secs(300);

/// Milliseconds since 1970, now.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A reader of one log.
#[derive(Debug)]
pub struct Follow {
    /// The log.
    pub tail: Tail,
    /// What was seen.
    pub cadence: Cadence,
    /// Where lines may be missing, how often.
    pub gaps: u64,
    /// The last such place.
    pub last_gap: Option<Gap>,
    scanner: Scanner,
    looked: Option<Instant>,
}

impl Follow {
    /// Will read what `tail` yields.
    pub fn new(tail: Tail, located: &Located, settings: &Settings) -> Self {
        let interval_ms = match settings.expect {
            Expect::Every(span) => i64::try_from(span.0.as_millis()).ok(),
            Expect::Auto => None,
        };
        let tolerance_ms = settings.tolerance.and_then(|span| i64::try_from(span.0.as_millis()).ok());
        Self {
            tail,
            cadence: Cadence::new(interval_ms, tolerance_ms),
            gaps: 0,
            last_gap: None,
            scanner: Scanner::new(located.formats.clone(), settings.nodes.clone()),
            looked: None,
        }
    }

    /// Reads all that is new. `prompt` says that an event announced it.
    ///
    /// # Errors
    /// When the log can't be read or is no regular file; the next look tries again.
    pub fn look(
        &mut self,
        prompt: bool,
        on_probe: &mut dyn FnMut(&Found<'_>, Option<i64>),
    ) -> Result<(), TailError> {
        let live = self.looked.is_some_and(|looked| looked.elapsed() < LIVE);
        let arrival = live.then(|| Arrival { at_ms: now_ms(), prompt });
        let Self { tail, cadence, scanner, gaps, last_gap, .. } = self;
        let looked = tail.look(&mut |event| take(event, scanner, cadence, gaps, last_gap, arrival, on_probe));
        self.looked = Some(Instant::now());
        looked
    }

    /// Takes an unfinished last line for whole, and settles what can be settled: nothing more will come.
    pub fn finish(&mut self, on_probe: &mut dyn FnMut(&Found<'_>, Option<i64>)) {
        let Self { tail, cadence, scanner, gaps, last_gap, .. } = self;
        tail.finish(&mut |event| take(event, scanner, cadence, gaps, last_gap, None, on_probe));
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
        self.scanner.traffic()
    }

    /// Whether a forged User-Agent would show.
    pub fn verifiable(&self) -> bool {
        self.scanner.verifiable()
    }

    /// The verdict at `now_ms`.
    pub fn verdict(&self, now_ms: i64) -> Verdict {
        judge(&self.cadence, &self.traffic(), now_ms, self.tail.is_there())
    }
}

fn take(
    event: Event<'_>,
    scanner: &mut Scanner,
    cadence: &mut Cadence,
    gaps: &mut u64,
    last_gap: &mut Option<Gap>,
    arrival: Option<Arrival>,
    on_probe: &mut dyn FnMut(&Found<'_>, Option<i64>),
) {
    match event {
        Event::Lines(block) => scanner.block(block, arrival, &mut |found| {
            let interval = cadence.observe(beat(&found));
            on_probe(&found, interval);
        }),
        Event::Gap(gap) => {
            *gaps += 1;
            *last_gap = Some(gap);
            cadence.gap();
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
pub fn recently(located: &Located) -> Start {
    let format = located.formats.first().cloned();
    let since_ms = now_ms() - i64::try_from(LOOK_BACK.as_millis()).unwrap_or(0);
    Start::At(Box::new(move |file| match &format {
        Some(format) => recent::start_of(file, since_ms, format),
        None => Ok(0),
    }))
}
