//! How `agent drill` looks: phases and what the fault tells while it runs, tables and three answers at the end; or JSON
//! Lines.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::ends::last_line;
use super::live::{Live, NAME, columns, paint};
use crate::cli::output::Output;
use crate::cli::told::sentence;
use crate::drill::analysis::compare::shown;
use crate::drill::analysis::evidence::bounds as range;
use crate::drill::analysis::predict::Prediction;
use crate::drill::analysis::report::{Facts, Report, Run, Source};
use crate::drill::analysis::strip::{cells, slice};
use crate::drill::analysis::verdict::{Answer, Verdict, secs};
use crate::drill::analysis::window::ms;
use crate::drill::client::names::Change;
use crate::drill::client::sample::{Book, Outcome as Answered, Sample};
use crate::drill::events::{DrillEvent, NodeChange, NodeChanged, Outcome, PhaseBegan, RequestEnded, Start};
use crate::drill::schedule::phase::Phase;
use crate::drill::schedule::run::{Ending, Event};
use crate::fault;
use crate::fault::event::{Step, Told, Why};
use crate::sys::clock::rfc3339;

/// Cells of a timeline in the report.
const WIDTH: usize = 80;

/// The look of one drill.
#[derive(Debug)]
pub(super) struct View {
    live: Live,
    facts: Facts,
    planned: Prediction,
    started: Timestamp,
    /// Whether it is how long requests are still sent that is wanted.
    drain: bool,
    /// Why this drill ends its fault, once it does.
    ending: Option<Ending>,
}

impl View {
    pub(super) fn new(facts: &Facts, planned: &Prediction, drain: bool) -> Self {
        Self {
            drain,
            live: Live::new(),
            facts: facts.clone(),
            planned: *planned,
            started: Timestamp::now(),
            ending: None,
        }
    }

    /// What will be done, and what should come of it.
    pub(super) fn start(&mut self, out: &mut Output) {
        let Self { facts, planned, .. } = self;
        out.event(&DrillEvent::Start(Start { at: &facts.about.started, facts, predicted: planned }));
        let what = if self.drain {
            let how = if facts.observed { "observing a drain" } else { "drain" };
            format!("{how} of {}, for at most {} s", facts.instance.as_deref().unwrap_or("?"), facts.secs)
        } else if facts.observed {
            "observing".to_owned()
        } else {
            format!("{} for {} s", facts.mode.name(), facts.secs)
        };
        out.text(&format!(
            "{what}, {} at {} requests a second to each address",
            facts.about.url, facts.about.rps
        ));
        if self.drain && facts.observed {
            return;
        }
        let source = |source: Source| match source {
            Source::Given => "given",
            Source::Measured => "measured",
            Source::Assumed => "assumed",
        };
        out.text(&format!(
            "health check every {} s ({}), time-out {} s ({}), {} healthy ({}), {} unhealthy ({})",
            facts.interval_ms / 1e3,
            source(facts.interval_source),
            facts.timeout_ms / 1e3,
            source(facts.timeout_source),
            facts.healthy,
            source(facts.healthy_source),
            facts.unhealthy,
            source(facts.unhealthy_source)
        ));
        let mut group =
            format!("fails open below {} healthy ({})", facts.routing_min, source(facts.routing_min_source));
        if facts.anomaly_mitigation {
            group.push_str(", mitigates anomalies");
        }
        if facts.slow_start_ms > 0.0 {
            group.push_str(&format!(", slow start {} s", facts.slow_start_ms / 1e3));
        }
        out.text(&group);
        if let (true, Some(detection)) = (self.drain, &planned.detection) {
            let (out_of_use, back) = (range(detection), range(&planned.readmission));
            return out.text(&format!(
                "predicted: no request after {out_of_use}, back in use {back} after it is taken back"
            ));
        }
        let outage = if planned.visible {
            format!("an outage of {}", range(&planned.outage))
        } else {
            "no outage".into()
        };
        out.text(&format!(
            "predicted: {outage}, back in use {} after the recovery",
            range(&planned.readmission)
        ));
    }

    /// Shows what happens.
    pub(super) fn show(&mut self, out: &mut Output, event: &Event<'_>) {
        match event {
            Event::Tick(book, marks, error_pct, now) => {
                if !out.is_json() {
                    self.live.draw(book, marks, *error_pct, *now);
                }
            }
            Event::Request(book, sample) => {
                self.live.take(sample);
                if out.is_json() {
                    out.event(&self.request(book, sample));
                }
            }
            Event::Phase(phase, at) => {
                self.live.clear();
                let stamp = self.at(*at);
                let begun = PhaseBegan { phase: *phase, at: stamp.clone(), at_ms: ms(*at) };
                out.event(&DrillEvent::Phase(begun));
                if let Some(text) = describe(*phase, self.facts.observed) {
                    out.text(&format!("{stamp}  {text}"));
                }
            }
            Event::Name(change, at) => {
                self.live.clear();
                let stamp = self.at(*at);
                let (change, word, node) = match change {
                    Change::Added(node) => (NodeChange::Added, "added", node.to_string()),
                    Change::Removed(node) => (NodeChange::Removed, "removed", node.to_string()),
                };
                out.text(&format!("{stamp}  node       {node} {word}"));
                out.event(&DrillEvent::Node(NodeChanged { node, change, at: stamp, at_ms: ms(*at) }));
            }
            Event::Fault(Told::Event(event)) => {
                self.live.clear();
                self.fault(out, event);
            }
            Event::Ending(ending) => self.ending = Some((*ending).clone()),
            Event::Refused(refusals) => {
                self.live.clear();
                out.event(&DrillEvent::Refused { reasons: refusals });
            }
            Event::Fault(Told::Warning(text)) => self.warn(out, text),
            Event::Fault(Told::Holding { .. }) => {}
            Event::Warning(text) => self.warn(out, text),
        }
    }

    /// A step of the fault. That it ends early because of this drill is said as it is, not as the fault sees it.
    fn fault(&self, out: &mut Output, event: &fault::event::Event) {
        let ours = matches!(event.step, Step::Recovering { why: Why::Asked });
        let Some(ending) = self.ending.as_ref().filter(|_| ours) else {
            out.event(event);
            return out.text(&sentence(event));
        };
        let (why, text) = match ending {
            Ending::Signal(signal) => ("signal", format!("ended by {}", name_of(*signal))),
            Ending::Limit(why) => ("limit", why.clone()),
            Ending::Drained => ("drained", "no address sends requests here any more".to_owned()),
        };
        let mut line = serde_json::to_value(event).unwrap_or_default();
        line["why"] = why.into();
        out.event(&line);
        out.text(&format!("{}  recovering {text}", event.at));
    }

    fn warn(&mut self, out: &mut Output, text: &str) {
        self.live.clear();
        out.event(&DrillEvent::Warning { message: text });
        out.note(&format!("agent: {text}"));
    }

    /// Takes the picture off the terminal.
    pub(super) fn clear(&mut self) {
        self.live.clear();
    }

    /// A time since the start, by the clock on the wall.
    fn at(&self, since: Duration) -> String {
        let since = jiff::SignedDuration::try_from(since).unwrap_or_default();
        rfc3339(self.started.checked_add(since).unwrap_or(self.started))
    }

    fn request<'a>(&self, book: &'a Book, sample: &Sample) -> DrillEvent<'a> {
        let (status, error) = match sample.outcome {
            Answered::Status(status) => (Some(status), None),
            Answered::Failed(class) => (None, Some(class.name())),
        };
        DrillEvent::Request(RequestEnded {
            at: self.at(sample.start()),
            start_ms: ms(sample.start()),
            end_ms: ms(sample.end()),
            latency_ms: ms(sample.latency()),
            late_ms: ms(sample.late()),
            node: book.node_of(sample),
            stream: sample.stream,
            status,
            error,
            instance: book.instance_of(sample),
        })
    }

    /// The end.
    pub(super) fn report(&self, out: &mut Output, result: &Report, run: &Run, page: Option<&Path>) {
        if out.is_json() {
            return out.event(&last_line(Outcome::Failover(result), page));
        }
        self.nodes(out, result);
        self.timeline(out, result, run);
        phases(out, result);
        if result.schedule.blurred {
            out.text(&format!(
                "this machine was late: {} % of the requests were sent more than 20 ms after they were due, {} ms at worst",
                result.schedule.late_pct, result.schedule.worst_ms
            ));
        }
        if result.unfinished > 0 {
            out.text(&format!("about {} requests were under way at the end", result.unfinished));
        }
        out.text("");
        answer(out, "hypothesis", Some(&result.hypothesis));
        answer(out, "clean-up", result.cleanup.as_ref());
        answer(out, "safety", Some(&result.safety));
        compared(out, result);
        answer(out, "regression", result.regression.as_ref());
        if let Some(path) = page {
            out.text(&format!("report      {}", path.display()));
        }
    }

    fn nodes(&self, out: &mut Output, result: &Report) {
        out.text("");
        out.text(&format!(
            "{:<NAME$} {:>8} {:>7} {:>9} {:>9} {:>9}   {}",
            "node", "requests", "errors", "outage", "drained", "back", "failed with"
        ));
        let short = |value: Option<Duration>| value.map_or_else(|| "-".to_owned(), secs);
        for node in &result.nodes {
            let failures: Vec<String> =
                node.failures.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
            let gone = if node.present { "" } else { " (left the name)" };
            out.text(&format!(
                "{:<NAME$} {:>8} {:>7} {:>9} {:>9} {:>9}   {}{gone}",
                node.node,
                node.requests,
                node.errors,
                short(node.outage),
                short(node.drained_after),
                short(node.readmitted_after),
                failures.join(", ")
            ));
        }
        if let Some(node) = result.nodes.iter().max_by_key(|node| node.outage) {
            out.text(&format!(
                "new connections: {} errors, {} of outage; kept ones: {} errors, {} (at {})",
                node.new.errors,
                short(node.new.outage),
                node.kept.errors,
                short(node.kept.outage),
                node.node
            ));
        }
    }

    fn timeline(&self, out: &mut Output, result: &Report, run: &Run) {
        // No wider than the terminal, where it is one.
        let room = columns().map_or(WIDTH, |columns| columns.saturating_sub(NAME + 2).clamp(10, WIDTH));
        let slice = slice(run.marks.end, room);
        let count = usize::try_from(run.marks.end.as_millis() / slice.as_millis().max(1)).unwrap_or(0) + 1;
        out.text("");
        out.text(&format!(
            "{:<NAME$} a mark is {} s: . answered, x some failed, X all failed",
            "timeline",
            slice.as_secs_f64()
        ));
        let colours = out.colours();
        for (place, node) in result.nodes.iter().enumerate() {
            let mine = run.book.samples.iter().filter(|one| usize::from(one.node) == place);
            out.text(&format!("{:<NAME$} {}", node.node, paint(&cells(mine, slice, count), colours)));
        }
        for (place, instance) in result.instances.iter().enumerate() {
            let mine = run.book.samples.iter().filter(|one| one.instance.map(usize::from) == Some(place));
            let us = if Some(&instance.instance) == result.facts.instance.as_ref() { "*" } else { "" };
            let name = format!("{}{us}", instance.instance);
            out.text(&format!("{name:<NAME$} {}", paint(&cells(mine, slice, count), colours)));
        }
    }
}

/// The earlier drill beside this one.
fn compared(out: &mut Output, result: &Report) {
    let Some(comparison) = &result.comparison else { return };
    let when = comparison.started.as_deref().unwrap_or("earlier");
    out.text("");
    out.text(&format!("{:<26} {:>24} {:>14}", "beside an earlier drill", when, "now"));
    for item in &comparison.items {
        let worse = if item.regressed { "   worse" } else { "" };
        out.text(&format!("{:<26} {:>24} {:>14}{worse}", item.what, shown(&item.before), shown(&item.now)));
    }
}

fn phases(out: &mut Output, result: &Report) {
    out.text("");
    out.text(&format!(
        "{:<NAME$} {:>8} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "phase", "requests", "errors", "p50", "p90", "p99", "max"
    ));
    let short = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    for phase in &result.phases {
        out.text(&format!(
            "{:<NAME$} {:>8} {:>7} {:>9} {:>9} {:>9} {:>9}",
            phase.phase.name(),
            phase.requests,
            phase.errors,
            short(phase.p50_ms),
            short(phase.p90_ms),
            short(phase.p99_ms),
            short(phase.max_ms)
        ));
    }
}

pub(super) fn answer(out: &mut Output, question: &str, verdict: Option<&Verdict>) {
    let Some(verdict) = verdict else { return };
    out.text(&format!("{question:<11} {}", word(out, verdict.answer)));
    for reason in &verdict.reasons {
        let pad = " ".repeat(12_usize.saturating_sub(reason.answer.word().chars().count()));
        out.text(&format!("  {}{pad}{}", word(out, reason.answer), reason.text));
    }
    if let Some(hint) = &verdict.hint {
        out.text(&format!("              {hint}"));
    }
}

fn word(out: &Output, answer: Answer) -> String {
    let colour = match answer {
        Answer::Yes => "32",
        Answer::No => "31",
        Answer::Unknown => "33",
    };
    if out.colours() { format!("\x1b[{colour}m{}\x1b[0m", answer.word()) } else { answer.word().to_owned() }
}

fn describe(phase: Phase, observed: bool) -> Option<&'static str> {
    match phase {
        Phase::Baseline => Some("baseline   measuring while all is well"),
        Phase::Readmission => Some("waiting    until every node uses this target again"),
        Phase::After => Some("after      all should be well"),
        Phase::Observe if observed => Some("observing  until the time is over"),
        _ => None,
    }
}

/// A signal as people know it.
fn name_of(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(nix::sys::signal::Signal::SIGINT) => "Ctrl-C".to_owned(),
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}
