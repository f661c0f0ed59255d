//! The phases of a drill and when each began. Pure.

use std::time::Duration;

use serde::Serialize;

/// Where a drill stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing fails yet.
    Baseline,
    /// The fault is being made.
    Fault,
    /// It is in force.
    Hold,
    /// It is over; the target isn't used by every node yet.
    Readmission,
    /// Everything should be as before.
    After,
    /// `--observe`: whatever happens, happens elsewhere.
    Observe,
    /// `scale`: this host is loaded.
    Load,
    /// `scale`: it isn't any more, and those that came may go.
    Watch,
}

impl Phase {
    /// Its name in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Fault => "fault",
            Self::Hold => "hold",
            Self::Readmission => "readmission",
            Self::After => "after",
            Self::Observe => "observe",
            Self::Load => "load",
            Self::Watch => "watch",
        }
    }
}

/// What happened when, since the start of the measurement.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// Each phase and when it began, in their order.
    pub phases: Vec<(Phase, Duration)>,
    /// The fault is on record; it begins between here and `effective`.
    pub armed: Option<Duration>,
    /// nginx was told, or the daemon. To see a target fall silent takes a while, so `effective` may come a second later.
    pub injected: Option<Duration>,
    /// nginx, or `/health`, was seen to fail.
    pub effective: Option<Duration>,
    /// The end of the fault has begun.
    pub recovering: Option<Duration>,
    /// nginx was seen to answer.
    pub recovered: Option<Duration>,
    /// The end of the measurement.
    pub end: Duration,
}

impl Marks {
    /// A phase begins.
    pub fn begin(&mut self, phase: Phase, at: Duration) {
        self.phases.push((phase, at));
    }

    /// The phase now.
    pub fn now(&self) -> Phase {
        self.phases.last().map_or(Phase::Baseline, |(phase, _)| *phase)
    }

    /// The phases in their order: each with its beginning and end.
    pub fn phases(&self) -> impl Iterator<Item = (Phase, Duration, Duration)> {
        let ends = self.phases.iter().skip(1).map(|(_, at)| *at).chain([self.end]);
        self.phases.iter().zip(ends).map(|((phase, start), end)| (*phase, *start, end.max(*start)))
    }

    /// The place of the phase in which a request was sent: what was sent in the last moment belongs to the last one.
    pub fn place(&self, sent: Duration) -> Option<usize> {
        self.phases.iter().rposition(|(_, start)| *start <= sent)
    }

    /// When what probes see began to fail, once it was seen to.
    pub fn begun(&self) -> Option<Duration> {
        self.effective.map(|effective| self.injected.unwrap_or(effective))
    }

    /// When what is measured may begin to fail: the fault is on record, or the baseline is over.
    pub fn trouble(&self) -> Option<Duration> {
        let observed = self.phases.iter().find(|(phase, _)| *phase == Phase::Observe);
        self.armed.or_else(|| observed.map(|(_, at)| *at))
    }
}
