//! What is known when everything is over, and what follows from it: was the outage what it should have been, is everything
//! cleaned up, was it safe. Pure.

use std::time::Duration;

use super::predict::{Prediction, Range};
use super::verdict::{Answer, Verdict, secs, yes};
use super::window::NodeReport;
use crate::drill::schedule::phase::Marks;

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
    /// Nodes that went on sending requests to the target that failed, and to no healthy one.
    pub failed_open: &'a [String],
    /// Whether every instance of the baseline answers at the end; the names of those that don't.
    pub missing: &'a [String],
    /// Whether an address that used this target had no other.
    pub alone: bool,
    /// Why this instance is about to be replaced, if it is.
    pub leaving: Option<&'a str>,
    /// `--observe`: whether the instance that was expected to vanish did.
    pub vanished: Option<Answer>,
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

    fn holds(&self, range: &Range, value: Duration) -> Answer {
        yes(range.holds(value, self.below(), self.above()))
    }

    /// A prediction in words, with how far a figure may be off.
    fn predicted(&self, range: &Range) -> String {
        let off = |time: Duration| format!("{:.1}", time.as_secs_f64());
        let tolerance = format!("tolerance −{} +{} s", off(self.below()), off(self.above()));
        format!("predicted {} ({tolerance})", bounds(range))
    }

    /// Whether what happened lies within the bounds.
    pub fn hypothesis(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(prediction) = self.prediction else {
            let why = if self.interrupted {
                "interrupted before the fault was in force"
            } else {
                "the fault was never in force"
            };
            verdict.say("in_force", Answer::Unknown, why);
            return verdict;
        };
        self.judge_outage(&prediction, &mut verdict);
        match self.vanished {
            Some(Answer::Yes) => verdict.say("vanished", Answer::Yes, "the instance vanished, as expected"),
            Some(Answer::Unknown) => {
                let why = "whether the instance vanished can't be told: nobody answered while it didn't";
                verdict.say("vanished", Answer::Unknown, why);
            }
            Some(Answer::No) => {
                verdict.say(
                    "vanished",
                    Answer::No,
                    "the instance that was expected to vanish went on answering",
                );
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
        let expected =
            if prediction.visible { self.predicted(&prediction.outage) } else { "predicted none".to_owned() };
        let found = match self.outage {
            None => "no error".to_owned(),
            Some(outage) => format!("outage {}", secs(outage)),
        };
        verdict.say(
            "outage",
            self.holds(&prediction.outage, self.outage.unwrap_or_default()),
            format!("{found}, {expected}"),
        );
    }

    /// A fault that clients don't see shows in who answers.
    fn judge_drain(&self, prediction: &Prediction, verdict: &mut Verdict) {
        let (Some(detection), false) = (prediction.detection, prediction.visible) else { return };
        if !self.named {
            let why = "who answers can't be told: when the target was drained neither";
            return verdict.say("drain", Answer::Unknown, why);
        }
        if !prediction.takes_out {
            let why =
                "too few other targets are healthy: the load balancer goes on using this one, as predicted";
            return verdict.say("drain", Answer::Yes, why);
        }
        if !self.failed_open.is_empty() {
            return verdict.say("drain", Answer::No, "the load balancer never stopped using this target");
        }
        let Some(slowest) = self.nodes.iter().filter_map(|node| node.drained_after).max() else { return };
        // A fault that is over before a node notices drains nothing there.
        let (Some(begin), over) = (self.marks.begun(), self.marks.recovering.unwrap_or(self.marks.end))
        else {
            return;
        };
        let lasted = over.saturating_sub(begin);
        let detection = Range::new(detection.least.min(lasted), detection.most.min(lasted));
        let why = format!("drained after {}, {}", secs(slowest), self.predicted(&detection));
        verdict.say("drain", self.holds(&detection, slowest), why);
    }

    fn judge_readmission(&self, prediction: &Prediction, verdict: &mut Verdict) {
        const ABOUT: &str = "back_in_use";
        if self.marks.recovered.is_none() {
            return verdict.say(ABOUT, Answer::No, "the target did not recover");
        }
        let expected = self.predicted(&prediction.readmission);
        match self.readmitted() {
            Some(after) => {
                let why = format!("back in use after {}, {expected}", secs(after));
                verdict.say(ABOUT, self.holds(&prediction.readmission, after), why);
            }
            None if self.interrupted => {
                verdict.say(ABOUT, Answer::Unknown, "interrupted before it was back in use")
            }
            None if !self.named => verdict.say(
                ABOUT,
                Answer::Unknown,
                "no answer names this instance: add X-Instance-Id in nginx, or measure /health",
            ),
            None => verdict.say(ABOUT, Answer::No, format!("not back in use at every address; {expected}")),
        }
    }

    /// When the last node that used this target before did so again.
    pub fn readmitted(&self) -> Option<Duration> {
        // An address that leaves the name for good is nobody's any more; one that DNS failover takes out comes back.
        let comes_back = self.prediction.is_some_and(|prediction| prediction.leaves_name);
        let counted = self.nodes.iter().filter(|node| node.used_before && (node.present || comes_back));
        counted.map(|node| node.readmitted_after).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Whether nothing is left of the fault; `None` where it wasn't ours.
    pub fn cleanup(&self) -> Option<Verdict> {
        let mut verdict = Verdict::default();
        match self.ended.as_ref()? {
            Ok(()) if self.marks.recovered.is_some() => {
                verdict.say("cleanup", Answer::Yes, "nginx answers, and no fault is on record");
            }
            Ok(()) => verdict.say("cleanup", Answer::Yes, "nothing was touched"),
            Err(why) => verdict.say("cleanup", Answer::No, why.as_str()),
        }
        Some(verdict)
    }

    /// Whether nothing happened that a drill must not do.
    pub fn safety(&self) -> Verdict {
        let mut verdict = Verdict::default();
        if let Some(why) = self.aborted {
            verdict.say("limit", Answer::No, format!("ended early: {why}"));
        }
        for node in self.failed_open {
            let why = format!(
                "{node}: the load balancer failed open: it went on sending requests to this target, and to no healthy one"
            );
            verdict.say("failed_open", Answer::No, why);
        }
        let lost = self.prediction.is_some_and(|prediction| prediction.visible);
        if self.alone && lost && self.marks.effective.is_some() {
            let why = "an address that used this target had no other: its clients got nothing but errors while it failed";
            verdict.say("only_target", Answer::No, why);
        }
        for node in self.nodes {
            if node.by_no_target > 0 {
                let why = format!(
                    "{}: {} requests were answered 503 by the load balancer itself: it had no target to send them to",
                    node.node, node.by_no_target
                );
                verdict.say("no_target", Answer::No, why);
            }
            if node.by_load_balancer > 0 {
                let why = format!(
                    "{}: {} requests were refused or cut off by the load balancer's own address: that says nothing of its \
                     targets",
                    node.node, node.by_load_balancer
                );
                verdict.say("load_balancer", Answer::No, why);
            }
        }
        if let Some(why) = self.leaving {
            verdict.say("replaced", Answer::No, format!("this instance is being replaced: {why}"));
        }
        for instance in self.missing {
            if self.interrupted {
                let why = format!("interrupted: whether {instance} still answers isn't known");
                verdict.say("missing", Answer::Unknown, why);
            } else {
                let why = format!("{instance} does not answer any more: replaced, or still out of use");
                verdict.say("missing", Answer::No, why);
            }
        }
        if verdict.answer == Answer::Yes {
            verdict.say(
                "safe",
                Answer::Yes,
                "no instance was replaced, and a healthy target was always there",
            );
        }
        verdict
    }
}

/// Bounds in words.
pub fn bounds(range: &Range) -> String {
    if range.least == range.most {
        return secs(range.most);
    }
    if range.most >= Duration::from_secs(120) {
        return format!("{} to {}", secs(range.least), secs(range.most));
    }
    format!("{:.1} to {:.1} s", range.least.as_secs_f64(), range.most.as_secs_f64())
}
