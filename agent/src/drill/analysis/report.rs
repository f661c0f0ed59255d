//! What a drill came to: every figure, the three answers, and the facts that one needs to repeat it. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::about::About;
use super::compare::Comparison;
use super::control::{self, Group};
use super::evidence::Evidence;
use super::fits::{Measured, fits};
use super::history;
use super::latency::{self, PhaseReport};
use super::predict::{Check, Failure, Prediction, Range, is_silent, predict};
use super::verdict::{Answer, Verdict};
use super::window::{self, InstanceReport, NodeReport, Window, ms};
use crate::cadence;
use crate::drill::client::sample::{Book, By, Class, Outcome};
use crate::drill::schedule::pace::Lateness;
use crate::drill::schedule::phase::Marks;
use crate::fault::Mode;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A flag.
    Given,
    /// The probes in the access log.
    Measured,
    /// Neither: AWS's default, or the configuration's.
    Assumed,
}

/// Where each value of the health check comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sources {
    /// The interval.
    pub interval: Source,
    /// The time-out.
    pub timeout: Source,
    /// The healthy threshold.
    pub healthy: Source,
    /// The unhealthy threshold.
    pub unhealthy: Source,
    /// The group's minimum.
    pub routing_min: Source,
}

/// What the drill was told and what it ran on.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Facts {
    /// As every drill tells of itself.
    #[serde(flatten)]
    pub about: About,
    /// How it failed.
    pub mode: Mode,
    /// Whether somebody else made it fail.
    pub observed: bool,
    /// How long it was to fail, or to be observed.
    pub secs: f64,
    /// How long an answer may take.
    pub deadline_ms: f64,
    /// The instance that fails.
    pub instance: Option<String>,
    /// The target group's interval.
    pub interval_ms: f64,
    /// Where that comes from.
    pub interval_source: Source,
    /// Its time-out.
    pub timeout_ms: f64,
    /// Where that comes from.
    pub timeout_source: Source,
    /// Its healthy threshold.
    pub healthy: u32,
    /// Where that comes from.
    pub healthy_source: Source,
    /// Its unhealthy threshold.
    pub unhealthy: u32,
    /// Where that comes from.
    pub unhealthy_source: Source,
    /// Below so many healthy targets (or such a part of them) the load balancer fails open.
    pub routing_min: String,
    /// Where that comes from.
    pub routing_min_source: Source,
    /// Below so many healthy targets in a zone its address leaves the name; `null`: off.
    pub dns_failover: Option<String>,
    /// Whether the load balancer mitigates anomalies.
    pub anomaly_mitigation: bool,
    /// The target group's slow start; zero: off.
    pub slow_start_ms: f64,
    /// Whom its health check asks.
    pub checks: super::predict::Via,
}

/// What a run leaves behind.
#[derive(Debug)]
pub struct Run {
    /// Every request.
    pub book: Book,
    /// What happened when.
    pub marks: Marks,
    /// What the name had at the end.
    pub present: Vec<SocketAddr>,
    /// The instance that fails.
    pub us: Option<String>,
    /// What the target here calls itself, where it could be asked.
    pub here: Option<String>,
    /// How many targets answered in the baseline, this one among them; unknown where nobody says its name.
    pub targets: Option<u32>,
    /// As in [`Failure::elsewhere`].
    pub elsewhere: bool,
    /// The signal that ended it early.
    pub signal: Option<i32>,
    /// The limit that ended the fault early.
    pub aborted: Option<String>,
    /// As in [`Evidence::ended`].
    pub ended: Option<Result<(), String>>,
    /// Why this instance is about to be replaced.
    pub leaving: Option<String>,
    /// When addresses left the name, since the start.
    pub left: Vec<(SocketAddr, Duration)>,
    /// Without an answer for so long a target gets no requests.
    pub quiet: Duration,
    /// When no address sent requests to this target any more, where that was waited for.
    pub drained: Option<Duration>,
    /// When this instance was told that it is about to go, and why.
    pub noticed: Option<(Duration, String)>,
    /// Requests under way at the end that this target may have been at.
    pub in_flight: u64,
    /// Requests that were under way at the end.
    pub unfinished: u64,
}

/// The result.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// Whether the outage was what it should have been.
    pub hypothesis: Verdict,
    /// Whether nothing is left of the fault; `None` where it wasn't ours.
    pub cleanup: Option<Verdict>,
    /// Whether nothing happened that a drill must not do.
    pub safety: Verdict,
    /// Requests that have ended.
    pub requests: u64,
    /// Those that failed since the beginning of the fault.
    pub errors: u64,
    /// Those whose end wasn't waited for.
    pub unfinished: u64,
    /// The first that failed, since the start.
    pub first_error_ms: Option<f64>,
    /// The last.
    pub last_error_ms: Option<f64>,
    /// From the one to the other, over all nodes.
    pub outage_ms: Option<f64>,
    /// What should have been, by the fault's real length.
    pub predicted: Option<Prediction>,
    /// How far a figure may be below its prediction.
    pub below_ms: f64,
    /// And above.
    pub above_ms: f64,
    /// From the recovery until the last node used this target again.
    pub readmitted_after_ms: Option<f64>,
    /// The fault, since the start.
    pub armed_ms: Option<f64>,
    /// nginx was told, or the daemon.
    pub injected_ms: Option<f64>,
    /// Seen to fail.
    pub effective_ms: Option<f64>,
    /// Its end has begun.
    pub recovering_ms: Option<f64>,
    /// Seen to answer.
    pub recovered_ms: Option<f64>,
    /// The signal that ended it early.
    pub signal: Option<i32>,
    /// Every node.
    pub nodes: Vec<NodeReport>,
    /// Every instance.
    pub instances: Vec<InstanceReport>,
    /// Every phase, with its latency.
    pub phases: Vec<PhaseReport>,
    /// How well the schedule was kept.
    pub schedule: Lateness,
    /// What the other instances did beside it.
    pub control: Vec<Group>,
    /// An earlier drill beside this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Whether this one is no worse, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regression: Option<Verdict>,
    /// By which it is found again.
    pub id: String,
    /// The probes that this target saw.
    pub probes: Vec<cadence::NodeReport>,
    /// What it was told and what it ran on.
    pub facts: Facts,
}

/// The bounds for the fault as it really was.
pub fn prediction(check: &Check, failure: &Failure, marks: &Marks, observed: bool) -> Option<Prediction> {
    if observed {
        // When it began and ended elsewhere isn't known: only that the nodes took it out.
        return Some(predict(check, failure));
    }
    Some(predict(check, &Failure { lasts: lasts(marks)?, ..*failure }))
}

/// How long the fault really lasted: when exactly nginx fell silent can only be bounded.
fn lasts(marks: &Marks) -> Option<Range> {
    let (armed, effective) = (marks.armed?, marks.effective?);
    let recovering = marks.recovering.unwrap_or(marks.end);
    let recovered = marks.recovered.unwrap_or(marks.end);
    Some(Range::new(recovering.saturating_sub(effective), recovered.saturating_sub(armed)))
}

/// What explains that a target failed and no request did.
const ASKS_ANOTHER: &str = "this target was seen to fail and no request did: the load balancer may ask another target where one \
                            fails (HAProxy: retries with redispatch), or no request was sent here meanwhile";

/// Adds everything up.
pub fn build(
    run: &Run,
    check: &Check,
    failure: &Failure,
    facts: Facts,
    probes: Vec<cadence::NodeReport>,
) -> Report {
    let (book, marks) = (&run.book, &run.marks);
    let us = run.us.as_deref().and_then(|name| book.place_of(name));
    let failure = Failure { targets: run.targets, elsewhere: run.elsewhere, ..*failure };
    let prediction = prediction(check, &failure, marks, facts.observed);
    let baseline = marks.trouble().unwrap_or(marks.end);
    let nodes = window::nodes(book, marks, us, &run.present);
    let troubled = book.samples().iter().filter(|one| one.start() >= baseline);
    let window = Window::of(troubled);
    let instances = window::instances(book, baseline);
    let usual = Duration::from_secs(2) / facts.about.rps.max(1);
    let gap = window::gap(book, us, baseline).unwrap_or(2 * usual).max(usual);
    let mut evidence = Evidence {
        prediction,
        gap,
        late: book.samples().latest(),
        interval: check.interval,
        nodes: &nodes,
        outage: window.map(|w| w.length()),
        marks,
        named: us.is_some(),
        interrupted: run.signal.is_some(),
        aborted: run.aborted.as_deref(),
        ended: run.ended.clone(),
        failed_open: &[],
        missing: &[],
        alone: run.targets == Some(1),
        leaving: run.leaving.as_deref(),
        vanished: if facts.observed { vanished(run, us, gap) } else { None },
    };
    let failed_open = failed_open(run, prediction, us, evidence.above(), &failure);
    let missing = missing(run, facts.observed, gap, &instances);
    (evidence.failed_open, evidence.missing) = (&failed_open, &missing);
    let at = |mark: Option<Duration>| mark.map(ms);
    let mut hypothesis = evidence.hypothesis();
    if hypothesis.answer == Answer::No {
        hypothesis.hint = hint(check, &failure, &evidence, window.is_some());
    }
    Report {
        hypothesis,
        cleanup: evidence.cleanup(),
        safety: evidence.safety(),
        requests: book.samples().len() as u64,
        errors: window.map_or(0, |w| w.errors),
        unfinished: run.unfinished,
        first_error_ms: window.map(|w| ms(w.first)),
        last_error_ms: window.map(|w| ms(w.last)),
        outage_ms: window.map(|w| ms(w.length())),
        predicted: prediction,
        below_ms: ms(evidence.below()),
        above_ms: ms(evidence.above()),
        readmitted_after_ms: at(evidence.readmitted()),
        armed_ms: at(marks.armed),
        injected_ms: at(marks.injected),
        effective_ms: at(marks.effective),
        recovering_ms: at(marks.recovering),
        recovered_ms: at(marks.recovered),
        signal: run.signal,
        phases: latency::phases(book.samples(), marks),
        schedule: Lateness::of(book.samples()),
        nodes,
        instances,
        control: control::groups(book, marks, run.us.as_deref()),
        comparison: None,
        regression: None,
        id: history::id(&facts.about.started),
        probes,
        facts,
    }
}

/// What may explain that it didn't go as predicted.
fn hint(check: &Check, failure: &Failure, evidence: &Evidence<'_>, lost: bool) -> Option<String> {
    let marks = evidence.marks;
    let visible = evidence.prediction.is_some_and(|prediction| prediction.visible);
    // It was seen to fail, and nobody lost anything.
    if visible && !lost && marks.effective.is_some() {
        return Some(ASKS_ANOTHER.to_owned());
    }
    // Of a failure elsewhere it isn't known when it began.
    evidence.ended.as_ref()?;
    let measured = Measured {
        outage: evidence.outage,
        readmitted: evidence.readmitted(),
        below: evidence.below(),
        above: evidence.above(),
    };
    fits(check, &Failure { lasts: lasts(marks).unwrap_or(failure.lasts), ..*failure }, &measured)
}

/// The nodes that went on sending requests to this target when they should have noticed, and sent none to a healthy one. It
/// is told by who answered: this target itself, or the load balancer with an error that stands for a target. What the load
/// balancer's own address refused, and what it answered because it has no target, went to nobody.
fn failed_open(
    run: &Run,
    prediction: Option<Prediction>,
    us: Option<u8>,
    above: Duration,
    failure: &Failure,
) -> Vec<String> {
    let (Some(prediction), Some(effective)) = (prediction, run.marks.effective) else { return Vec::new() };
    let Some(detection) = prediction.detection else { return Vec::new() };
    let (from, until) = (effective + detection.most + above, run.marks.recovering.unwrap_or(run.marks.end));
    // Of each node: whether it sent requests here, and whether to somebody healthy.
    let mut sent = vec![(false, false); run.book.nodes().len()];
    for one in run.book.samples().iter().filter(|one| one.start() >= from && one.start() < until) {
        let Some((here, elsewhere)) = sent.get_mut(usize::from(one.node)) else { continue };
        let by_us = us.is_some() && one.instance == us;
        let silent = one.outcome == Outcome::Failed(Class::ReadTimeout) && is_silent(failure.mode);
        *elsewhere |= one.is_ok() && !by_us;
        *here |= by_us || one.failed_by() == Some(By::Target) || silent;
    }
    let open = run.book.nodes().iter().zip(sent).filter(|(_, (here, elsewhere))| *here && !elsewhere);
    open.map(|(node, _)| node.to_string()).collect()
}

/// Longer than a healthy target goes without a request.
fn silence(gap: Duration) -> Duration {
    (4 * gap).max(Duration::from_secs(1))
}

/// The instances of the baseline that don't answer at the end, where the end was waited for. Which one vanishes while
/// it is observed isn't a question of safety.
fn missing(run: &Run, observed: bool, gap: Duration, instances: &[InstanceReport]) -> Vec<String> {
    let quiet = run.marks.end.saturating_sub(silence(gap));
    let recovered = run.marks.recovered.unwrap_or(Duration::ZERO);
    let since = match (observed, run.signal) {
        (true, _) => quiet,
        // Interrupted right after the recovery nobody has had the time to answer.
        (false, Some(_)) => recovered.min(quiet),
        (false, None) => recovered,
    };
    let gone = |one: &&InstanceReport| one.before && one.last_ms < ms(since);
    let ours = |one: &&InstanceReport| observed && Some(&one.instance) == run.us.as_ref();
    instances.iter().filter(gone).filter(|one| !ours(one)).map(|one| one.instance.clone()).collect()
}

/// Whether the instance that was expected to vanish did, while it was observed: it didn't answer for a while, and others did.
/// Where nobody answered it may be the load balancer that is gone.
fn vanished(run: &Run, us: Option<u8>, gap: Duration) -> Option<Answer> {
    run.us.as_ref()?;
    let since = run.marks.trouble()?;
    let mut last = since;
    let (mut silent, mut others) = (false, false);
    for one in run.book.samples().by_start().filter(|one| one.start() >= since) {
        let at = one.start();
        let quiet = at.saturating_sub(last) > silence(gap);
        silent |= quiet;
        if us.is_some() && one.instance == us {
            last = at;
        } else {
            others |= quiet && matches!(one.failed_by(), None | Some(By::Target | By::NoTarget));
        }
    }
    silent |= run.marks.end.saturating_sub(last) > silence(gap);
    Some(match (silent, others) {
        (false, _) => Answer::No,
        (true, true) => Answer::Yes,
        (true, false) => Answer::Unknown,
    })
}
