//! How long a load balancer still sends requests to a target that is to be used no more, and whether it is safe to stop it
//! now. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::about::About;
use super::compare::Comparison;
use super::evidence::bounds;
use super::latency::{self, PhaseReport};
use super::predict::Range;
use super::report::{Report, Run};
use super::verdict::{Answer, Verdict, secs, yes};
use super::window::ms;
use crate::drill::schedule::pace::Lateness;

/// What begins a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// `/health` began to answer 503, as with this drill or with the agent's own end.
    Health,
    /// The metadata service began to say that this instance is about to go.
    Notice,
    /// Nothing that is known here: the observation began.
    Observing,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeDrain {
    /// The address.
    pub node: String,
    /// Whether the name still had it at the end.
    pub present: bool,
    /// Whether it ever sent requests to this target.
    pub used: bool,
    /// The last request that it sent there, since the start.
    pub last_request_ms: Option<f64>,
    /// The same, since the drain began; 0 where none came after that.
    pub drained_after_ms: Option<f64>,
    /// When the last of them was answered, since the drain began: later than the request itself where answers take long.
    pub last_answer_after_ms: Option<f64>,
}

/// What a drill of draining came to.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DrainReport {
    /// `drain`, to tell it from the others.
    pub drill: &'static str,
    /// Whether it is safe to stop this target now.
    pub safe_to_stop: Verdict,
    /// Whether it took as long as predicted; `None` where it was observed.
    pub hypothesis: Option<Verdict>,
    /// Whether nothing is left of the fault; `None` where it wasn't ours.
    pub cleanup: Option<Verdict>,
    /// What the time counts from.
    pub since: Since,
    /// When that was, since the start.
    pub since_ms: f64,
    /// In words, where the metadata service said so.
    pub notice: Option<String>,
    /// The slowest address.
    pub drained_after_ms: Option<f64>,
    /// What was predicted.
    pub predicted: Option<Range>,
    /// Without a request for so long it counts as drained.
    pub quiet_ms: f64,
    /// Requests under way at this target when it began to drain.
    pub in_flight_at_start: u64,
    /// Requests under way at the end that it may have been at.
    pub in_flight: u64,
    /// The signal that ended it early.
    pub signal: Option<i32>,
    /// Requests.
    pub requests: u64,
    /// Those that failed since it began.
    pub errors: u64,
    /// Every address.
    pub nodes: Vec<NodeDrain>,
    /// Every phase, with its latency.
    pub phases: Vec<PhaseReport>,
    /// How well the schedule was kept.
    pub schedule: Lateness,
    /// The instance.
    pub instance: Option<String>,
    /// Whether somebody else drained it.
    pub observed: bool,
    /// An earlier drill beside this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Whether this one is no worse, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regression: Option<Verdict>,
    /// By which it is found again.
    pub id: String,
    /// As every drill tells of itself.
    pub facts: About,
}

/// Adds it up. `whole` is the same run as a drill of failing over has it.
pub fn build(run: &Run, whole: &Report) -> DrainReport {
    let (book, marks) = (&run.book, &run.marks);
    let us = run.us.as_deref().and_then(|name| book.place_of(name));
    let (since, at) = match (marks.begun(), &run.noticed) {
        (Some(begun), _) => (Since::Health, begun),
        (None, Some((at, _))) => (Since::Notice, *at),
        (None, None) => (Since::Observing, marks.trouble().unwrap_or(marks.end)),
    };
    let until = marks.recovering.unwrap_or(marks.end);
    // Of each node: when the last request was sent here, and when the last answer came.
    let mut last = vec![None; book.nodes().len()];
    let mut in_flight_at_start = 0;
    for one in book.samples().iter().filter(|one| us.is_some() && one.instance == us) {
        in_flight_at_start += u64::from(one.start() < at && one.end() >= at);
        if let Some(last) = last.get_mut(usize::from(one.node)).filter(|_| one.start() < until) {
            let (request, answer): (Duration, Duration) = last.unwrap_or_default();
            *last = Some((request.max(one.start()), answer.max(one.end())));
        }
    }
    let of_node = |(addr, last): (&std::net::SocketAddr, Option<(Duration, Duration)>)| NodeDrain {
        node: addr.to_string(),
        present: run.present.contains(addr),
        used: last.is_some(),
        last_request_ms: last.map(|(request, _)| ms(request)),
        drained_after_ms: last.map(|(request, _)| ms(request.saturating_sub(at))),
        last_answer_after_ms: last.map(|(_, answer)| ms(answer.saturating_sub(at))),
    };
    let nodes: Vec<NodeDrain> = book.nodes().iter().zip(last).map(of_node).collect();
    let drained_after_ms = nodes.iter().filter_map(|node| node.drained_after_ms).reduce(f64::max);
    let observed = whole.facts.observed;
    DrainReport {
        drill: "drain",
        safe_to_stop: safe(run, us.is_some(), &nodes),
        hypothesis: (!observed).then(|| whole.hypothesis.clone()),
        cleanup: whole.cleanup.clone(),
        since,
        since_ms: ms(at),
        notice: run.noticed.as_ref().map(|(_, why)| why.clone()),
        drained_after_ms,
        predicted: whole.predicted.and_then(|predicted| predicted.detection).filter(|_| !observed),
        quiet_ms: ms(run.quiet),
        in_flight_at_start,
        in_flight: run.in_flight,
        signal: run.signal,
        requests: whole.requests,
        errors: whole.errors,
        nodes,
        phases: latency::phases(book.samples(), marks),
        schedule: whole.schedule,
        instance: run.us.clone(),
        observed,
        comparison: None,
        regression: None,
        id: whole.id.clone(),
        facts: whole.facts.about.clone(),
    }
}

/// Whether it is safe to stop the target now: no address sends requests to it, and none is under way.
fn safe(run: &Run, named: bool, nodes: &[NodeDrain]) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(us) = &run.us else {
        verdict.say(
            "instance",
            Answer::Unknown,
            "which instance this is isn't known: name it with --expect-instance",
        );
        return verdict;
    };
    if run.book.samples().errors() == run.book.samples().len() as u64 {
        verdict.say(
            "answers",
            Answer::Unknown,
            "nothing answers: whether requests are sent here can't be told",
        );
        return verdict;
    }
    if run.book.instances().is_empty() {
        verdict.say(
            "names",
            Answer::Unknown,
            "no answer names its instance: let nginx say it in X-Instance-Id",
        );
        return verdict;
    }
    let quiet = secs(run.quiet);
    if !named {
        // It may have been drained before; or it is another group's.
        let all = run.book.instances().join(", ");
        // That it is this one, and no slip of the pen, is known where the target here was asked for its name.
        if run.here.as_ref() == Some(us) {
            verdict.say("requests", yes(run.drained.is_some()), format!("{us} answered nothing; {all} did"));
        } else {
            let why = format!(
                "{us} answered nothing, and {all} did: it is drained already, or no target of this group"
            );
            verdict.say("requests", Answer::Unknown, why);
        }
    }
    for node in nodes.iter().filter(|node| node.used) {
        let last = Duration::from_secs_f64(node.last_request_ms.unwrap_or_default() / 1e3);
        let after = Duration::from_secs_f64(node.drained_after_ms.unwrap_or_default() / 1e3);
        if run.drained.is_some() {
            let why =
                format!("{}: last request {} after it began, then none for {quiet}", node.node, secs(after));
            verdict.say("requests", Answer::Yes, why);
        } else {
            let ago = secs(run.marks.end.saturating_sub(last));
            verdict.say("requests", Answer::No, format!("{}: last request {ago} before the end", node.node));
        }
    }
    if run.in_flight > 0 {
        let why = format!("{} requests are under way and may be at this target", run.in_flight);
        verdict.say("in_flight", Answer::No, why);
    }
    verdict
}

/// How long it took, in words.
pub fn summary(report: &DrainReport) -> String {
    let since = match report.since {
        Since::Health => "/health began to answer 503",
        Since::Notice => "the metadata service gave notice",
        Since::Observing => "the observation began",
    };
    let Some(after) = report.drained_after_ms else {
        return "no request was ever sent to this target".to_owned();
    };
    let predicted =
        report.predicted.as_ref().map_or_else(String::new, |range| format!(", predicted {}", bounds(range)));
    format!("last request {} after {since}{predicted}", secs(Duration::from_secs_f64(after / 1e3)))
}
