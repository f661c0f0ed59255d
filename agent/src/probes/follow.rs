//! The logs, their probes and the probes' rhythm, followed together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Settings;
use super::seen::{Eye, Probes, observe, stream, text};
use super::timeline::Clock;
use crate::access_log::locate::Located;
use crate::access_log::logs::{From, Logs};
use crate::access_log::scan::{Arrival, Found, Traffic};
use crate::cadence::verdict::{Log, Verdict, judge};
use crate::cadence::{Cadence, Expected, Name, NodeReport, Period, ProbeArrival, Window};
use crate::logtail::wait::News;
use crate::logtail::{Checkpoint, Gap, TailError};
use crate::nginx::conf::Held;

pub use super::timeline::now_ms;

/// Lines found by a look within this time of the one before were written in between: we know when they arrived.
const LIVE: Duration = Duration::from_millis(1300);
/// How far back reading starts by default.
pub const LOOK_BACK: Duration = Duration::from_secs(300);
/// Lines are stamped in whole seconds.
pub(super) const RESOLUTION_MS: i64 = 1000;

/// A reader of all logs.
#[derive(Debug)]
pub struct Follow {
    /// The logs.
    pub logs: Logs,
    /// Where lines may be missing, how often.
    pub gaps: u64,
    /// The last such place.
    pub last_gap: Option<Gap>,
    probes: Probes,
    held: Held,
    looked: Option<Instant>,
    /// When lines last came, in the time in which we began.
    grew_ms: Option<i64>,
}

impl Follow {
    /// Will read the located logs, from there on; one with a checkpoint goes on at it.
    pub fn new(located: &Located, from: From, settings: &Settings, checkpoints: &[Checkpoint]) -> Self {
        Self::by(Clock::default(), located, from, settings, checkpoints)
    }

    /// The same by these clocks.
    pub(super) fn by(
        clock: Clock,
        located: &Located,
        from: From,
        settings: &Settings,
        checkpoints: &[Checkpoint],
    ) -> Self {
        let networks = if located.logs.is_empty() { Vec::new() } else { settings.networks() };
        Self {
            logs: Logs::new(located, from, &networks, checkpoints),
            gaps: 0,
            last_gap: None,
            probes: Probes::new(clock, settings, located.held()),
            held: located.held(),
            looked: None,
            grew_ms: None,
        }
    }

    /// Goes on with the probes that were seen before, without these logs.
    pub fn go_on_with(&mut self, before: Self) {
        self.probes = before.probes;
    }

    /// Goes on with what is located now that nginx's configuration is another; logs that it didn't name before are read
    /// from this time on.
    pub(super) fn relocate(&mut self, located: &Located, since_ms: i64) {
        self.held = located.held();
        self.probes.hold(self.held);
        self.logs.relocate(located, since_ms);
    }

    /// Reads all that is new, of which `news` told.
    ///
    /// # Errors
    /// When no log can be read or is a regular file; the next look tries again.
    pub fn look(
        &mut self,
        news: News,
        on_probe: &mut dyn FnMut(&Found<'_>, Option<i64>),
    ) -> Result<(), TailError> {
        let live = self.looked.is_some_and(|looked| looked.elapsed() < LIVE);
        self.probes.timeline.tick();
        let lines = self.traffic().lines;
        let Self { logs, probes, gaps, last_gap, .. } = self;
        let arrival = live.then(|| Arrival { at_ms: probes.timeline.wall_ms(), prompt: news != News::None });
        let mut eye = Eye { probes, gaps, last_gap, on_probe };
        let looked = logs.look(news, arrival, &mut |seen| eye.take(seen));
        self.looked = Some(Instant::now());
        if self.traffic().lines > lines {
            self.grew_ms = Some(self.probes.timeline.now_ms());
        }
        looked
    }

    /// Takes unfinished last lines for whole: nothing more will come.
    pub fn finish(&mut self, on_probe: &mut dyn FnMut(&Found<'_>, Option<i64>)) {
        let Self { logs, probes, gaps, last_gap, .. } = self;
        let mut eye = Eye { probes, gaps, last_gap, on_probe };
        logs.finish(&mut |seen| eye.take(seen));
    }

    /// Takes a probe that came to the agent's own listener, at the wall clock's time.
    pub fn direct(&mut self, node: IpAddr, path: &[u8], status: u16, at_ms: i64) {
        if !self.probes.is_asked_for(path) {
            return;
        }
        self.probes.timeline.tick();
        let ended = self.probes.timeline.live(Window::stamped(at_ms, 1));
        let stream = stream(path, Some(b"\0direct"));
        let arrival = ProbeArrival { node, stream, ended, took_ms: Some(0), status: Some(status) };
        self.probes.take(arrival, || Name { path: text(path), host: None, direct: true });
    }

    /// What was scanned.
    pub fn traffic(&self) -> Traffic {
        self.logs.traffic()
    }

    /// Probes of other paths than the one that was asked for.
    pub fn other_paths(&self) -> u64 {
        self.probes.other_paths
    }

    /// Whether a forged User-Agent would show.
    pub fn verifiable(&self) -> bool {
        self.logs.verifiable()
    }

    /// For how long nginx holds lines back, where its configuration says so.
    pub fn held(&self) -> Held {
        self.held
    }

    /// The nodes, and how many probes each sent.
    pub fn totals(&self) -> BTreeMap<IpAddr, u64> {
        self.judged(false).0.totals()
    }

    /// What is expected, once that is known; `None` also where it differs by stream.
    pub fn expected(&self) -> Option<Expected> {
        // Asked at every look: what still waits for its order doesn't matter for it.
        self.probes.cadence.expected()
    }

    /// All that came by now in its order, and up to when all must have come.
    fn judged(&self, at_last: bool) -> (Cadence, Option<i64>) {
        let (mut cadence, mut order) = (self.probes.cadence.clone(), self.probes.order.clone());
        let whole_to = match self.held {
            Held::Until(flush) => Some(self.probes.timeline.now_ms() - millis(flush) - RESOLUTION_MS),
            Held::No | Held::Unbounded => None,
        };
        order.ripe(whole_to.unwrap_or(i64::MAX), &mut |ordered| observe(&mut cadence, ordered));
        cadence.settle_now(at_last);
        (cadence, whole_to)
    }

    /// How every node does.
    pub fn report(&self) -> Vec<NodeReport> {
        self.judged(false).0.report(&Period::until(self.probes.timeline.now_ms()))
    }

    /// The verdict over all that was read, by the log's own time; nothing more will come.
    pub fn verdict_of_all(&self) -> Verdict {
        let (cadence, whole_to) = self.judged(true);
        let last =
            self.traffic().last_ms.max(cadence.last_ms()).unwrap_or_else(|| self.probes.timeline.wall_ms());
        self.verdict_by(&cadence, self.log(None), whole_to, None, last)
    }

    /// The verdict now, of what came in the last time of this length, or of all.
    pub fn verdict(&self, window: Option<Duration>) -> Verdict {
        let now_ms = self.probes.timeline.now_ms();
        let (cadence, whole_to) = self.judged(false);
        let from_ms = window.map(|window| now_ms - millis(window));
        let mut log = self.log(from_ms);
        if self.probes.timeline.was_set() {
            // The latest stamp may be one of a clock that was ahead.
            log.last_ms = self.grew_ms;
        }
        let mut verdict = self.verdict_by(&cadence, log, whole_to, from_ms, now_ms);
        let shift = self.probes.timeline.shift_ms();
        verdict.nodes.iter_mut().for_each(|node| node.shift(shift));
        verdict
    }

    fn verdict_by(
        &self,
        cadence: &Cadence,
        mut log: Log,
        whole_to: Option<i64>,
        from_ms: Option<i64>,
        now_ms: i64,
    ) -> Verdict {
        let mut to_ms = now_ms;
        if self.held == Held::No {
            log.whole = log.late_ms == 0;
        } else {
            // That lines are late is no news. What came is judged up to when all must have come.
            log = Log { late_ms: 0, whole: whole_to.is_some(), ..log };
            to_ms = to_ms.min(whole_to.or(cadence.last_ms()).or(log.last_ms).unwrap_or(now_ms));
        }
        judge(cadence, &log, &Period { from_ms, to_ms })
    }

    fn log(&self, from_ms: Option<i64>) -> Log {
        let traffic = self.traffic();
        Log {
            there: self.logs.is_there(),
            lines: traffic.lines,
            unparsed: traffic.unparsed,
            unread: traffic.unread_blocks > 0 && traffic.first_ms.is_none(),
            first_ms: traffic.first_ms,
            last_ms: traffic.last_ms,
            late_ms: traffic.late_ms,
            whole: true,
            out_of_order: self.probes.order.is_broken(from_ms),
        }
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Starts where the last few minutes begin.
pub fn recently() -> From {
    From::Since(now_ms() - millis(LOOK_BACK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cadence::verdict::Reason;
    use crate::config::Span;

    #[test]
    fn answers_whose_length_is_not_logged_are_no_longer_than_the_time_out_that_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        // Each fourth answer comes 3.5 s later.
        let line = |n: i64| {
            let ms = 1_700_000_000_000 + n * 5000 + if n % 4 == 3 { 3500 } else { 0 };
            format!("10.0.0.1 {}.{:03} \"ELB-HealthChecker/2.0\"\n", ms / 1000, ms % 1000)
        };
        std::fs::write(&path, (0..40).map(line).collect::<String>()).unwrap();
        let reason = |timeout: Option<Span>| {
            let format = Some("$remote_addr $msec \"$http_user_agent\"".to_owned());
            let settings = Settings { log: Some(path.clone()), format, timeout, ..Settings::default() };
            let located = settings.locate(None).unwrap();
            let mut follow = Follow::new(&located, From::Beginning, &settings, &[]);
            follow.look(News::None, &mut |_, _| {}).unwrap();
            follow.verdict_of_all().reason
        };
        assert_eq!(reason(None), Reason::OnTime);
        assert_eq!(reason(Some(Span::millis(4000))), Reason::OnTime);
        assert_eq!(reason(Some(Span::millis(2000))), Reason::OffRhythm);
    }
}
