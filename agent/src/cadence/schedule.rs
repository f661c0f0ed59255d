//! What one node sends for one path: its schedule. Several explanations are kept beside each other, and the one that
//! needs the fewest faults is told: that answers take no time but what the log says (`prompt`); that those of unknown
//! length took up to the time-out (`patient`); that the interval is another one (`other`). Pure.

mod other;

use std::collections::VecDeque;
use std::net::IpAddr;

use super::arrival::{ProbeArrival, Window};
use super::expected::Expected;
use super::interval;
use super::phases::{Phases, Summary};
use super::report::{NodeReport, NodeState, Period};
use super::step;
use super::troubles::Troubles;
use other::Other;

/// The last probes, in which another interval is looked for.
const RECENT: usize = 2 * step::SIDE;
/// Intervals that tell another interval: of all that was seen, and of its end.
const ENOUGH_ALL: u64 = 2;
const ENOUGH_LATELY: u64 = 5;
/// Intervals since the last trouble after which a node is well again.
const WELL: u64 = 3;
/// Status codes that are counted one by one.
const MAX_CODES: usize = 16;

/// A schedule.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    expected: Expected,
    pub(super) probes: u64,
    not_ok: u64,
    codes: Vec<(u16, u64)>,
    first_ms: i64,
    last_ms: i64,
    prompt: Phases,
    patient: Option<Phases>,
    other: Option<Other>,
    /// The longest answer whose length is known, milliseconds.
    slowest_ms: i64,
    /// Times at which the phase changed for good.
    steps: Troubles,
    stepped: u64,
    recent: VecDeque<(Window, Window, (u64, u64))>,
}

impl Schedule {
    pub(super) fn new(expected: Expected, at_ms: i64) -> Self {
        Self {
            expected,
            probes: 0,
            not_ok: 0,
            codes: Vec::new(),
            first_ms: at_ms,
            last_ms: at_ms,
            prompt: Phases::new(expected),
            patient: None,
            other: None,
            slowest_ms: 0,
            steps: Troubles::default(),
            stepped: 0,
            recent: VecDeque::new(),
        }
    }

    /// When it was last seen, milliseconds since 1970.
    pub(super) fn last_ms(&self) -> i64 {
        self.last_ms
    }

    /// Takes a probe. `alone` says that no other node was seen since the given time.
    pub(super) fn observe(&mut self, arrival: &ProbeArrival, alone: &dyn Fn(i64) -> bool) -> Option<i64> {
        self.count(arrival);
        let longest = self.expected.longest_answer_ms(arrival.ended.resolution_ms());
        let (prompt, patient) = (arrival.began(0), arrival.began(longest));
        if prompt != patient && self.patient.is_none() {
            self.patient = Some(self.prompt.clone());
        }
        let faults = self.broken();
        let interval = self.prompt.observe(prompt, alone);
        if let Some(phases) = &mut self.patient {
            phases.observe(patient, alone);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((prompt, patient, faults));
        self.stepped = self.stepped.saturating_sub(1);
        self.steps.right_since += 1;
        let prompts = self.recent.iter().map(|(prompt, ..)| *prompt);
        if self.stepped == 0 && step::is_step(prompts, &self.expected) {
            let at = self.recent.get(step::SIDE).map_or(prompt, |(prompt, ..)| *prompt);
            self.steps.add(at.to_ms, 0, 1);
            self.stepped = step::SIDE as u64;
        }
        self.look_for_other(prompt, patient);
        interval
    }

    fn count(&mut self, arrival: &ProbeArrival) {
        let at_ms = arrival.ended.from_ms;
        (self.first_ms, self.last_ms) = (self.first_ms.min(at_ms), self.last_ms.max(at_ms));
        self.probes += 1;
        self.slowest_ms = self.slowest_ms.max(arrival.took_ms.unwrap_or(0)).min(self.expected.interval_ms);
        self.not_ok += u64::from(!arrival.is_ok());
        let Some(code) = arrival.status else { return };
        if let Some((_, count)) = self.codes.iter_mut().find(|(known, _)| *known == code) {
            *count += 1;
        } else if self.codes.len() < MAX_CODES {
            self.codes.push((code, 1));
        }
    }

    /// What was missing and out of rhythm so far, by the better explanation.
    fn broken(&self) -> (u64, u64) {
        let prompt = self.prompt.broken();
        let patient = self.patient.as_ref().map(Phases::broken);
        patient.filter(|(missed, off)| missed + off < prompt.0 + prompt.1).unwrap_or(prompt)
    }

    /// Lines may be missing here.
    pub(super) fn gap(&mut self) {
        self.prompt.gap();
        self.patient.iter_mut().for_each(Phases::gap);
        self.other.iter_mut().for_each(|other| other.phases.gap());
    }

    /// What comes now has nothing to do with what came.
    pub(super) fn set_back(&mut self) {
        self.last_ms = i64::MIN / 2;
        self.recent.clear();
    }

    /// How it stands in `period`, `last_of_all` being the last probe of any node.
    pub(super) fn report(&self, node: IpAddr, period: &Period, last_of_all: i64) -> NodeReport {
        let now_ms = period.to_ms;
        // What began by now may still be answered.
        let prompt = self.prompt.summary(now_ms - self.slowest_ms, last_of_all);
        let resolution_ms = self.recent.back().map_or(1, |(prompt, ..)| prompt.resolution_ms());
        let longest = self.expected.longest_answer_ms(resolution_ms);
        let patient =
            self.patient.as_ref().map(|phases| (phases, phases.summary(now_ms - longest, last_of_all)));
        let patient_fits = patient.as_ref().is_some_and(|(_, summary)| summary.is_clean());
        let windows = self.recent.iter().map(|(prompt, ..)| *prompt);
        let seems = interval::mean_setting(windows)
            .is_some_and(|seems| seems.interval_ms != self.expected.interval_ms);
        let other = self.other.as_ref().filter(|other| {
            let enough = match (other.of_all, patient_fits) {
                (true, false) => ENOUGH_ALL,
                (true, true) | (false, false) => ENOUGH_LATELY,
                (false, true) => return false,
            };
            other.phases.intervals() >= enough
        });
        let (phases, mut chosen) = match patient {
            _ if prompt.is_clean() => (&self.prompt, prompt),
            Some((phases, summary)) if patient_fits => (phases, summary),
            Some((phases, summary)) if summary.cost() < prompt.cost() => (phases, summary),
            _ => (&self.prompt, prompt),
        };
        let few = chosen.intervals < ENOUGH_LATELY && chosen.is_clean();
        if few && (seems || patient_fits && !self.prompt.is_plain()) {
            // Slow answers, or another rhythm: so few can't tell.
            chosen.state = NodeState::TooFew;
        }
        let steps = self.steps.since(period.from_ms.unwrap_or(i64::MIN)).1;
        let is_step = chosen.is_clean() && chosen.streams <= 1 && chosen.extra == 0 && steps > 0;
        if is_step && (period.from_ms.is_none() || self.steps.right_since < step::SIDE as u64) {
            chosen.state = NodeState::Off;
        }
        let mut report = NodeReport {
            node,
            path: None,
            host: None,
            direct: false,
            probes: self.probes,
            missed: chosen.missed,
            missed_max: (chosen.missed_max > chosen.missed && chosen.missed > 0).then_some(chosen.missed_max),
            missed_total: chosen.missed - chosen.overdue,
            overdue: chosen.overdue,
            interval_min_ms: chosen.spread.min(),
            interval_p50_ms: chosen.spread.p50(),
            interval_max_ms: chosen.spread.max(),
            on_time: false,
            state: chosen.state,
            streams: chosen.streams,
            expected_ms: self.expected.interval_ms,
            other_interval_ms: None,
            other_since_ms: None,
            off_rhythm: chosen.off + if is_step { steps } else { 0 },
            last_off_ms: phases.troubles.last_ms().max(self.steps.last_ms().filter(|_| is_step)),
            extra: chosen.extra,
            not_ok: self.not_ok,
            codes: self.codes.iter().map(|(code, count)| (code.to_string(), *count)).collect(),
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            slower_answers: is_step && self.patient.is_some(),
        };
        if let Some(other) = other {
            other.tell(&mut report, now_ms, last_of_all);
        } else {
            self.only_of(period, phases, &chosen, &mut report);
        }
        report.on_time = matches!(report.state, NodeState::OnTime | NodeState::Gone);
        report
    }

    /// Where only a part of the time counts: what was missing in it; and it is well again after a few intervals.
    fn only_of(&self, period: &Period, phases: &Phases, chosen: &Summary, report: &mut NodeReport) {
        let Some(from_ms) = period.from_ms else { return };
        let (missed, off) = phases.troubles.since(from_ms);
        report.missed = missed + chosen.overdue;
        if !chosen.is_clean() {
            report.off_rhythm = off;
        }
        report.missed_max = report.missed_max.filter(|_| report.missed == chosen.missed);
        let well = phases.troubles.right_since >= WELL * chosen.streams.max(1) as u64;
        if report.state == NodeState::Off && well {
            report.state = chosen.now;
        }
    }
}
