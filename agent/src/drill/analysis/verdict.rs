//! Three questions, three answers: was the outage what it should have been, is everything cleaned up, was it safe. Pure.

use std::time::Duration;

use serde::Serialize;

use super::predict::{Prediction, Range};
use super::window::NodeReport;
use crate::drill::schedule::phase::Marks;

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// It can't be told.
    Unknown,
}

/// An answer, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// Each thing that counted.
    pub why: Vec<String>,
}

impl Verdict {
    fn new() -> Self {
        Self { answer: Answer::Yes, why: Vec::new() }
    }

    /// No wins over unknown, that over yes.
    fn say(&mut self, answer: Answer, why: impl Into<String>) {
        self.answer = match (self.answer, answer) {
            (Answer::No, _) | (_, Answer::No) => Answer::No,
            (Answer::Unknown, _) | (_, Answer::Unknown) => Answer::Unknown,
            _ => Answer::Yes,
        };
        self.why.push(why.into());
    }
}

/// What is known when everything is over.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What should have happened, with the fault's real length; `None` when there was no fault in force.
    pub prediction: Option<Prediction>,
    /// How finely the ends of a window can be seen.
    pub gap: Duration,
    /// How late the latest request was sent: a machine that is late sees everything as late.
    pub late: Duration,
    /// The interval of the probes.
    pub interval: Duration,
    /// Every node.
    pub nodes: &'a [NodeReport],
    /// From the first error to the last, over all nodes.
    pub outage: Option<Duration>,
    /// What happened when.
    pub marks: &'a Marks,
    /// Whether this target says its name in its answers.
    pub named: bool,
    /// A signal ended the measurement early.
    pub interrupted: bool,
    /// A limit was exceeded: which.
    pub aborted: Option<&'a str>,
    /// `None`: the fault was not ours. Otherwise whether it is over, and what went wrong.
    pub ended: Option<Result<(), String>>,
    /// Nodes that sent requests only to targets that failed: they had failed open.
    pub failed_open: &'a [String],
    /// Whether every instance of the baseline answers at the end; the names of those that don't.
    pub missing: &'a [String],
    /// Why this instance is about to be replaced, if it is.
    pub leaving: Option<&'a str>,
    /// `--observe`: whether the instance that was expected to vanish did.
    pub vanished: Option<bool>,
}

impl Evidence<'_> {
    /// A window can be this much shorter than what it stands for: a request at each end.
    pub fn below(&self) -> Duration {
        2 * self.gap + self.late()
    }

    /// And this much longer: probes aren't sent, and answers aren't seen, to the millisecond.
    pub fn above(&self) -> Duration {
        self.gap + Duration::from_millis(250).max(self.interval / 20) + self.late()
    }

    /// Beyond this the figures aren't inexact, they are worthless.
    fn late(&self) -> Duration {
        self.late.min(self.interval / 4)
    }

    /// Whether what clients lost lies within the bounds.
    pub fn hypothesis(&self) -> Verdict {
        let mut verdict = Verdict::new();
        let Some(prediction) = self.prediction else {
            verdict.say(Answer::Unknown, "the fault was never in force");
            return verdict;
        };
        self.judge_outage(&prediction, &mut verdict);
        match self.vanished {
            Some(true) => verdict.say(Answer::Yes, "the instance vanished, as expected"),
            Some(false) => {
                verdict.say(Answer::No, "the instance that was expected to vanish went on answering")
            }
            None => {}
        }
        if self.ended.is_some() {
            self.judge_drain(&prediction, &mut verdict);
            self.judge_readmission(&prediction, &mut verdict);
        }
        verdict
    }

    fn judge_outage(&self, prediction: &Prediction, verdict: &mut Verdict) {
        let outage = self.outage.unwrap_or_default();
        let held = prediction.outage.holds(outage, self.below(), self.above());
        let (least, most) = (secs(prediction.outage.least), secs(prediction.outage.most));
        let expected = if prediction.visible { format!("{least} to {most}") } else { "none".to_owned() };
        let found = match self.outage {
            None => "no error".to_owned(),
            Some(outage) => format!("{} of outage", secs(outage)),
        };
        verdict.say(yes(held), format!("{found}, predicted {expected}"));
    }

    /// A fault that clients don't see shows in who answers.
    fn judge_drain(&self, prediction: &Prediction, verdict: &mut Verdict) {
        let (Some(detection), false) = (prediction.detection, prediction.visible) else { return };
        if !self.named {
            return verdict
                .say(Answer::Unknown, "who answers can't be told: when the target was drained neither");
        }
        if !self.failed_open.is_empty() {
            return verdict.say(Answer::No, "the load balancer never stopped using this target");
        }
        let Some(slowest) = self.nodes.iter().filter_map(|node| node.drained_after).max() else { return };
        // A fault that is over before a node notices drains nothing there.
        let (Some(begin), over) = (self.marks.begun(), self.marks.recovering.unwrap_or(self.marks.end))
        else {
            return;
        };
        let lasted = over.saturating_sub(begin);
        let detection = Range::new(detection.least.min(lasted), detection.most.min(lasted));
        let (least, most) = (secs(detection.least), secs(detection.most));
        let held = detection.holds(slowest, self.below(), self.above());
        verdict.say(yes(held), format!("drained after {}, predicted {least} to {most}", secs(slowest)));
    }

    fn judge_readmission(&self, prediction: &Prediction, verdict: &mut Verdict) {
        if self.marks.recovered.is_none() {
            return verdict.say(Answer::No, "the target did not recover");
        }
        let (least, most) = (secs(prediction.readmission.least), secs(prediction.readmission.most));
        match self.readmitted() {
            Some(after) => {
                let held = prediction.readmission.holds(after, self.below(), self.above());
                let why = format!("back in use after {}, predicted {least} to {most}", secs(after));
                verdict.say(yes(held), why);
            }
            None if self.interrupted => verdict.say(Answer::Unknown, "interrupted before it was back in use"),
            None if !self.named => verdict.say(
                Answer::Unknown,
                "no answer names this instance: add X-Instance-Id in nginx, or measure /health",
            ),
            None => {
                verdict.say(Answer::No, format!("not back in use at every node; predicted {least} to {most}"))
            }
        }
    }

    /// When the last node used this target again.
    pub fn readmitted(&self) -> Option<Duration> {
        let present = self.nodes.iter().filter(|node| node.present);
        present.map(|node| node.readmitted_after).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Whether nothing is left of the fault; `None` where it wasn't ours.
    pub fn cleanup(&self) -> Option<Verdict> {
        let mut verdict = Verdict::new();
        match self.ended.as_ref()? {
            Ok(()) if self.marks.recovered.is_some() => {
                verdict.say(Answer::Yes, "nginx answers, and no fault is on record");
            }
            Ok(()) => verdict.say(Answer::Yes, "nothing was touched"),
            Err(why) => verdict.say(Answer::No, why.as_str()),
        }
        Some(verdict)
    }

    /// Whether nothing happened that a drill must not do.
    pub fn safety(&self) -> Verdict {
        let mut verdict = Verdict::new();
        if let Some(why) = self.aborted {
            verdict.say(Answer::No, format!("ended early: {why}"));
        }
        for node in self.failed_open {
            verdict.say(
                Answer::No,
                format!("{node}: all targets were unhealthy, the load balancer failed open"),
            );
        }
        if let Some(why) = self.leaving {
            verdict.say(Answer::No, format!("this instance is being replaced: {why}"));
        }
        for instance in self.missing {
            let answer = if self.interrupted { Answer::Unknown } else { Answer::No };
            verdict
                .say(answer, format!("{instance} does not answer any more: replaced, or still out of use"));
        }
        if verdict.answer == Answer::Yes {
            verdict.say(Answer::Yes, "no instance was replaced, and a healthy target was always there");
        }
        verdict
    }
}

fn yes(held: bool) -> Answer {
    if held { Answer::Yes } else { Answer::No }
}

/// Seconds with one place.
pub fn secs(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
