//! Another interval than the expected one, looked for in a schedule's last probes.

use super::super::arrival::Window;
use super::super::expected::Expected;
use super::super::interval;
use super::super::phases::Phases;
use super::super::report::{NodeReport, NodeState};
use super::{ENOUGH_ALL, ENOUGH_LATELY, Schedule};

/// Of the last probes as many as are enough for it.
const FIRST: u64 = 16;
/// Intervals that tell it where answers are slow.
const ENOUGH_SLOW: u64 = 12;

/// Another interval than the expected one.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) phases: Phases,
    /// All probes keep it.
    pub(super) of_all: bool,
    /// By when they began, answers of unknown length taken for slow.
    patient: bool,
    from_ms: i64,
    /// What was missing and out of rhythm before it began.
    before: (u64, u64),
}

impl Schedule {
    /// After a probe: whether all of them, or the last ones, have another interval.
    pub(super) fn look_for_other(&mut self, prompt: Window, patient: Window) {
        if let Some(other) = &mut self.other {
            other.phases.observe(if other.patient { patient } else { prompt }, &|_| true);
            if other.phases.is_plain() {
                return;
            }
            let slower = self.other.take().filter(|other| other.of_all && !other.patient);
            self.other = slower.and_then(|other| {
                // Its answers may only have been quick so far.
                let windows = self.recent.iter().map(|seen| seen.1);
                let phases = interval::of_one(windows, other.phases.expected)?;
                Some(Other { phases, patient: true, ..other })
            });
            if self.other.is_some() {
                return;
            }
        }
        let of_all = self.probes <= FIRST;
        if self.prompt.is_plain() || of_all && self.probes <= ENOUGH_ALL {
            return;
        }
        let count = if of_all { self.recent.len() } else { ENOUGH_LATELY as usize + 1 };
        let seen = self.recent.iter().skip(self.recent.len().saturating_sub(count));
        for patient in [false, true] {
            let few = seen.len() as u64 <= ENOUGH_SLOW || !of_all;
            if patient && (few || self.patient.as_ref().is_none_or(Phases::is_plain)) {
                return;
            }
            let windows = seen.clone().map(|s| if patient { s.1 } else { s.0 });
            let Some(expected) = interval::mean_setting(windows.clone()).filter(|e| self.is_other(*e)) else {
                continue;
            };
            if let Some(phases) = interval::of_one(windows, expected).filter(|p| of_all || p.is_even())
                && let Some((first, _, before)) = seen.clone().next()
            {
                let (from_ms, before) = (first.from_ms, if of_all { (0, 0) } else { *before });
                self.other = Some(Other { phases, of_all, patient, from_ms, before });
                return;
            }
        }
    }

    /// Whether this is an interval of its own, and not that of several streams together.
    fn is_other(&self, Expected { interval_ms, .. }: Expected) -> bool {
        let of_streams = self.prompt.broken() == (0, 0) && interval_ms < self.expected.interval_ms;
        interval_ms != self.expected.interval_ms && (!of_streams || interval_ms >= interval::SHORTEST_MS)
    }
}

impl Other {
    /// What is told of a node whose interval is another one.
    pub(super) fn tell(&self, report: &mut NodeReport, now_ms: i64, last_of_all: i64) {
        let summary = self.phases.summary(now_ms, last_of_all);
        report.state = NodeState::OtherInterval;
        (report.missed, report.off_rhythm) = self.before;
        (report.missed_total, report.overdue) = (self.before.0, 0);
        report.missed_max = None;
        (report.extra, report.streams) = (0, 1);
        report.other_interval_ms = Some(self.phases.expected.interval_ms);
        report.other_since_ms = (!self.of_all).then_some(self.from_ms);
        report.interval_min_ms = summary.spread.min();
        report.interval_p50_ms = summary.spread.p50();
        report.interval_max_ms = summary.spread.max();
    }
}
