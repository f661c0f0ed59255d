//! How `agent drill` looks while it runs: phases and what the fault tells; or JSON Lines.

use std::time::Duration;

use jiff::Timestamp;

use super::live::Live;
use super::paper::say;
use crate::cli::output::Output;
use crate::cli::told::sentence;
use crate::drill::analysis::evidence::bounds as range;
use crate::drill::analysis::predict::Prediction;
use crate::drill::analysis::report::{Facts, Source};
use crate::drill::analysis::window::ms;
use crate::drill::client::names::Change;
use crate::drill::client::sample::{Book, Outcome as Answered, Sample};
use crate::drill::events::{DrillEvent, NodeChange, NodeChanged, PhaseBegan, RequestEnded, Start};
use crate::drill::schedule::phase::Phase;
use crate::drill::schedule::refuse::list;
use crate::drill::schedule::run::{Ending, Event};
use crate::fault;
use crate::fault::event::{Step, Told, Why};
use crate::sys::clock::rfc3339;

/// Addresses that come so early are those of the start.
const FIRST: Duration = Duration::from_millis(500);

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
    /// The addresses that the name had at the start, until they are shown.
    first: Vec<String>,
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
            first: Vec::new(),
        }
    }

    /// What will be done, and what should come of it.
    pub(super) fn start(&mut self, out: &mut Output) {
        let Self { facts, planned, .. } = self;
        out.event(&DrillEvent::Start(Start { at: &facts.about.started, facts, predicted: planned }));
        let what = if self.drain {
            let how = if facts.observed { "observing a drain" } else { "drain" };
            format!(
                "{how} of {}, for at most {} s",
                facts.instance.as_deref().unwrap_or("an unknown instance"),
                facts.secs
            )
        } else if facts.observed {
            "observing".to_owned()
        } else {
            format!("{} for {} s", facts.mode.name(), facts.secs)
        };
        say(
            out,
            &format!("{what}, {} at {} requests a second to each address", facts.about.url, facts.about.rps),
        );
        if self.drain && facts.observed {
            return;
        }
        say(
            out,
            &format!(
                "health check every {} s ({}), time-out {} s ({}), {} healthy ({}), {} unhealthy ({})",
                facts.interval_ms / 1e3,
                source(facts.interval_source),
                facts.timeout_ms / 1e3,
                source(facts.timeout_source),
                facts.healthy,
                source(facts.healthy_source),
                facts.unhealthy,
                source(facts.unhealthy_source)
            ),
        );
        say(out, &group(facts));
        if let (true, Some(detection)) = (self.drain, &planned.detection) {
            let (out_of_use, back) = (range(detection), range(&planned.readmission));
            return say(
                out,
                &format!(
                    "predicted: no request after {out_of_use}, back in use {back} after it is taken back"
                ),
            );
        }
        let outage = if planned.visible {
            format!("an outage of {}", range(&planned.outage))
        } else {
            "no outage".into()
        };
        say(
            out,
            &format!("predicted: {outage}, back in use {} after the recovery", range(&planned.readmission)),
        );
    }

    /// Shows what happens.
    pub(super) fn show(&mut self, out: &mut Output, event: &Event<'_>) {
        match event {
            Event::Tick(book, marks, error_pct, now) => {
                self.first_addresses(out);
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
                    say(out, &format!("{stamp}  {text}"));
                }
            }
            Event::Name(change, at) => {
                self.live.clear();
                let stamp = self.at(*at);
                let (change, word, node) = match change {
                    Change::Added(node) => (NodeChange::Added, "added", node.to_string()),
                    Change::Removed(node) => (NodeChange::Removed, "removed", node.to_string()),
                };
                // A name may have dozens of addresses.
                if *at < FIRST && change == NodeChange::Added {
                    self.first.push(node.clone());
                } else {
                    say(out, &format!("{stamp}  node       {node} {word}"));
                }
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
            return say(out, &sentence(event));
        };
        let (why, text) = match ending {
            Ending::Signal(signal) => ("signal", format!("ended by {}", name_of(*signal))),
            Ending::Limit(why) => ("limit", why.clone()),
            Ending::Drained => ("drained", "no address sends requests here any more".to_owned()),
        };
        let mut line = serde_json::to_value(event).unwrap_or_default();
        line["why"] = why.into();
        out.event(&line);
        say(out, &format!("{}  recovering {text}", event.at));
    }

    /// The addresses that the name had at the start, in one line.
    fn first_addresses(&mut self, out: &mut Output) {
        if !self.first.is_empty() {
            let stamp = self.at(Duration::ZERO);
            say(out, &format!("{stamp}  addresses  {}", list(&std::mem::take(&mut self.first))));
        }
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
}

/// Where a value comes from.
fn source(source: Source) -> &'static str {
    match source {
        Source::Given => "given",
        Source::Measured => "measured",
        Source::Assumed => "assumed",
    }
}

/// The target group's attributes.
fn group(facts: &Facts) -> String {
    let mut group =
        format!("fails open below {} healthy ({})", facts.routing_min, source(facts.routing_min_source));
    if let Some(least) = &facts.dns_failover {
        group.push_str(&format!(", an address leaves the name below {least} healthy in its zone"));
    }
    if facts.anomaly_mitigation {
        group.push_str(", mitigates anomalies");
    }
    if facts.slow_start_ms > 0.0 {
        group.push_str(&format!(", slow start {} s", facts.slow_start_ms / 1e3));
    }
    group
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
