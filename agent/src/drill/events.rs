//! What programs read of a drill: JSON Lines, each with its `event`; those of a fault in it are the fault's own. A result is
//! kept as it was told, and [`Kept`] is what is read of it again, to list, show and compare.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::analysis::drain::DrainReport;
use super::analysis::predict::Prediction;
use super::analysis::report::{Facts, Report};
use super::analysis::scale;
use super::analysis::verdict::{Answer, Verdict};
use super::client::sample::Stream;
use super::schedule::phase::Phase;
use super::schedule::refuse::Refusal;
use crate::stress::forecast::Forecast;
use crate::stress::minutes::Datapoint;

/// One line.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DrillEvent<'a> {
    /// What is done, and what should come of it.
    Start(Start<'a>),
    /// A phase begins.
    Phase(PhaseBegan),
    /// A request has ended.
    Request(RequestEnded<'a>),
    /// The addresses of the name have changed.
    Node(NodeChanged),
    /// What speaks against the fault, whether or not it is made all the same.
    Refused {
        /// Each of it.
        reasons: &'a [Refusal],
    },
    /// Something to know that stops nothing.
    Warning {
        /// In words.
        message: &'a str,
    },
    /// `scale`: what the alarm will do.
    Forecast {
        /// As `agent stress` says it.
        forecast: &'a Forecast,
    },
    /// `scale`: a minute of the clock is over.
    Minute {
        /// As `agent stress` says it.
        minute: &'a Datapoint,
    },
    /// `scale`: an instance came, or went.
    Instance(InstanceChanged<'a>),
    /// `list`: an earlier drill.
    Drill(Listed<'a>),
    /// The last line.
    Result(Last<'a>),
}

/// What is done, and what should come of it.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Start<'a> {
    /// When, RFC 3339.
    pub at: &'a str,
    /// What the drill was told and what it runs on.
    pub facts: &'a Facts,
    /// The bounds, for the fault as it is planned.
    pub predicted: &'a Prediction,
}

/// A phase begins.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PhaseBegan {
    /// Which.
    pub phase: Phase,
    /// When, RFC 3339.
    pub at: String,
    /// Since the start.
    pub at_ms: f64,
}

/// A request has ended. Times are since the start.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RequestEnded<'a> {
    /// When it was sent, RFC 3339.
    pub at: String,
    /// When it was sent.
    pub start_ms: f64,
    /// When its outcome was known.
    pub end_ms: f64,
    /// From the one to the other.
    pub latency_ms: f64,
    /// How late it was sent.
    pub late_ms: f64,
    /// The address that was asked.
    pub node: String,
    /// Over which kind of connection.
    pub stream: Stream,
    /// The status; `null`: no answer.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub error: Option<&'a str>,
    /// The instance that says it answered.
    pub instance: Option<&'a str>,
}

/// The addresses of the name have changed.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeChanged {
    /// Which address.
    pub node: String,
    /// How.
    pub change: NodeChange,
    /// When, RFC 3339.
    pub at: String,
    /// Since the start.
    pub at_ms: f64,
}

/// What became of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NodeChange {
    /// The name has it now.
    Added,
    /// The name has it no more.
    Removed,
}

/// An instance came, or went.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InstanceChanged<'a> {
    /// What it calls itself.
    pub instance: &'a str,
    /// Which of the two.
    pub change: InstanceChange,
    /// Since the load began.
    pub after_ms: f64,
}

/// What became of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InstanceChange {
    /// It answers.
    Came,
    /// It answers no more.
    Gone,
}

/// An earlier drill in a list.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listed<'a> {
    /// By which it is found again.
    pub id: Option<&'a str>,
    /// What kind it was.
    pub drill: String,
    /// When it began, RFC 3339.
    pub started: Option<&'a str>,
    /// How long clients got errors.
    pub outage_ms: Option<f64>,
    /// From the recovery until it was back in use.
    pub readmitted_after_ms: Option<f64>,
    /// Its questions and their answers.
    pub answers: BTreeMap<&'static str, Answer>,
}

/// The last line.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Last<'a> {
    /// What it came to.
    #[serde(flatten)]
    pub result: Outcome<'a>,
    /// The report's file, where one was written.
    pub report: Option<String>,
}

/// What a verb came to.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Outcome<'a> {
    /// A target that failed.
    Failover(&'a Report),
    /// A target that was drained.
    Drain(&'a DrainReport),
    /// A group that was loaded.
    Scale(&'a scale::Report),
    /// A list.
    List {
        /// How many.
        drills: usize,
    },
}

/// What is read again of a result, whichever drill's and whichever version's: what isn't there is empty.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// By which it is found again.
    pub id: Option<String>,
    /// `drain`, `scale`; nothing for a drill of failing over.
    pub drill: Option<String>,
    /// What it was told.
    pub facts: KeptFacts,
    /// How long clients got errors.
    pub outage_ms: Option<f64>,
    /// From the recovery until it was back in use.
    pub readmitted_after_ms: Option<f64>,
    /// Until the last request was sent to a target that is drained.
    pub drained_after_ms: Option<f64>,
    /// Until a new instance answered.
    pub out_after_ms: Option<f64>,
    /// Until the last of them was gone.
    pub in_after_ms: Option<f64>,
    /// How far a figure may be above its prediction.
    pub above_ms: Option<f64>,
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Its latencies.
    pub phases: Vec<KeptPhase>,
    hypothesis: Option<Verdict>,
    cleanup: Option<Verdict>,
    safety: Option<Verdict>,
    safe_to_stop: Option<Verdict>,
    scaled_out: Option<Verdict>,
    scaled_in: Option<Verdict>,
    regression: Option<Verdict>,
}

/// What a kept drill was told.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct KeptFacts {
    /// When it began, RFC 3339.
    pub started: Option<String>,
    /// What was measured.
    pub url: Option<String>,
    /// How the target failed.
    pub mode: Option<String>,
    /// Whether somebody else made it fail.
    pub observed: bool,
}

/// A phase of a kept drill.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct KeptPhase {
    /// Which.
    pub phase: String,
    /// Half of the answers were as fast.
    pub p50_ms: Option<f64>,
    /// 99 of a hundred were.
    pub p99_ms: Option<f64>,
}

impl Kept {
    /// The questions that were asked, and what was found.
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, &Verdict)> {
        let all = [
            ("hypothesis", &self.hypothesis),
            ("cleanup", &self.cleanup),
            ("safety", &self.safety),
            ("safe_to_stop", &self.safe_to_stop),
            ("scaled_out", &self.scaled_out),
            ("scaled_in", &self.scaled_in),
            ("regression", &self.regression),
        ];
        all.into_iter().filter_map(|(question, verdict)| Some((question, verdict.as_ref()?)))
    }

    /// The answer to one of them.
    pub fn answer(&self, question: &str) -> Option<Answer> {
        self.answers().find(|(one, _)| *one == question).map(|(_, verdict)| verdict.answer)
    }

    /// Its times, by their names in the JSON.
    pub fn times(&self) -> [(&'static str, Option<f64>); 5] {
        [
            ("outage_ms", self.outage_ms),
            ("readmitted_after_ms", self.readmitted_after_ms),
            ("drained_after_ms", self.drained_after_ms),
            ("out_after_ms", self.out_after_ms),
            ("in_after_ms", self.in_after_ms),
        ]
    }

    /// What kind of drill it was, for people.
    pub fn kind(&self) -> String {
        match (&self.drill, &self.facts.mode) {
            (Some(drill), _) => drill.clone(),
            (None, Some(mode)) if !self.facts.observed => format!("failover {mode}"),
            _ => "failover (observed)".to_owned(),
        }
    }
}
