//! How `agent probes` looks: a line per probe, progress, a table at the end; or JSON Lines.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::output::Output;
use super::probes_balancer::Balancer;
use super::probes_logs::{Sources, explanation, judged, left_out};
use crate::access_log::format::RECOMMENDED_FILE;
use crate::access_log::locate::Located;
use crate::access_log::scan::Found;
use crate::cadence::verdict::{Answer, Reason, Verdict};
use crate::cadence::{Law, NodeReport, NodeState};
use crate::config::Span;
use crate::nginx::conf::Held;
use crate::probes::follow::Follow;
use crate::sys::clock::rfc3339;

/// As much of a path as a line has room for.
const PATH: usize = 256;

/// The look of one run.
#[derive(Debug)]
pub(super) struct View {
    /// A line for each probe.
    each: bool,
    /// The load balancer's own log.
    balancer: Option<Balancer>,
    progressed: Option<Instant>,
    on_terminal: bool,
}

impl View {
    pub(super) fn new(each: bool, balancer: Option<Balancer>) -> Self {
        Self { each, balancer, progressed: None, on_terminal: std::io::stderr().is_terminal() }
    }

    /// A probe, and the interval since the one before in its stream.
    pub(super) fn probe(
        &mut self,
        out: &mut Output,
        found: &Found<'_>,
        interval: Option<i64>,
        law: Option<Law>,
    ) {
        if let Some(balancer) = &mut self.balancer {
            balancer.probe(found);
        }
        if !self.each && !out.is_json() {
            return;
        }
        let at = Timestamp::from_millisecond(found.stamp.at_ms).unwrap_or_default();
        let path = clean(found.line.path);
        let method = clean(found.line.method);
        if out.is_json() {
            return out.event(&json!({
                "event": "probe", "node": found.node, "at": rfc3339(at), "method": method, "path": path,
                "status": found.line.status, "interval_ms": interval,
            }));
        }
        let resolution = i64::from(found.stamp.resolution_ms);
        let off = |law: &Law, ms: i64| (ms - law.interval_ms).abs() > law.tolerance(resolution);
        let mark = match (interval, law) {
            (Some(ms), Some(law)) if off(&law, ms) => paint(out, "31", "  ← off rhythm"),
            _ => String::new(),
        };
        let interval = interval.map_or_else(|| "-".to_owned(), seconds);
        let status = found.line.status.map_or_else(|| "-".to_owned(), |s| s.to_string());
        let at = at.to_zoned(TimeZone::UTC).strftime("%H:%M:%S");
        let node = found.node.to_string();
        out.text(&format!("{at}  {node:<15}  {interval:>9}  {status}  {method} {path}{mark}"));
    }

    /// Once a second, to people who wait.
    pub(super) fn progress(&mut self, out: &mut Output, follow: &Follow, left: Option<Duration>) {
        let Some(left) = left.filter(|_| self.on_terminal && !out.is_json()) else { return };
        if self.progressed.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return;
        }
        self.progressed = Some(Instant::now());
        let nodes = follow.cadence.totals().count();
        let probes = follow.traffic().probes;
        out.note(&format!("{probes} probes from {nodes} nodes; at most {} s to go", left.as_secs()));
    }

    /// The end.
    pub(super) fn verdict(
        &mut self,
        out: &mut Output,
        verdict: &Verdict,
        follow: &Follow,
        located: &Located,
    ) {
        judged(follow).iter().for_each(|line| out.text(line));
        if let Some(balancer) = self.balancer.take() {
            balancer.tell(out);
        }
        if out.is_json() {
            return out.event(&as_json(verdict, follow, located));
        }
        let width = verdict.nodes.iter().map(|node| node.node.to_string().len()).max().unwrap_or(0).max(17);
        if !verdict.nodes.is_empty() {
            out.text(&format!(
                "{:<width$} {:>7} {:>7}   {:>28}   {}",
                "node", "probes", "missed", "interval min / p50 / max", "on time"
            ));
        }
        for node in &verdict.nodes {
            let line = row(node, width);
            out.text(&if node.on_time { line } else { paint(out, "33", &line) });
        }
        left_out(follow, located, verdict).iter().for_each(|line| out.text(line));
        let expected = verdict.expected_ms.map_or_else(|| "an interval".to_owned(), seconds);
        let within = verdict.tolerance_ms.map_or_else(String::new, |ms| format!(" within {}", seconds(ms)));
        let (colour, word) = match verdict.answer {
            Answer::Yes => ("32", "confirmed"),
            Answer::No => ("31", "not confirmed"),
            Answer::Unknown => ("33", "cannot tell"),
        };
        let explanation = match verdict.reason {
            Reason::OffRhythm => verdict.nodes.iter().find_map(blame).unwrap_or_default(),
            _ => explanation(verdict, follow),
        };
        let word = paint(out, colour, word);
        out.text(&format!("{word}: every {expected}{within}: {explanation}"));
        if let Some(held) = held(follow.held()) {
            out.text(&format!("({held}: what isn't there yet doesn't count as missed)"));
        }
        if verdict.answer == Answer::Yes && !follow.verifiable() {
            out.text(&format!(
                "(the log's format leaves forged probes unseen; {RECOMMENDED_FILE} shows them)"
            ));
        }
    }
}

/// What nginx's configuration says of lines that are held back.
pub(super) fn held(held: Held) -> Option<String> {
    match held {
        Held::No => None,
        Held::Until(flush) => {
            Some(format!("nginx holds lines back for up to {} (access_log … flush=)", Span(flush)))
        }
        Held::Unbounded => {
            Some("nginx holds lines back until its buffer is full (access_log … buffer=)".to_owned())
        }
    }
}

fn as_json(verdict: &Verdict, follow: &Follow, located: &Located) -> Value {
    let traffic = follow.traffic();
    let mut event = serde_json::to_value(verdict).unwrap_or_default();
    let more = json!({
        "event": "verdict", "explanation": explanation(verdict, follow), "log": follow.logs.each().next().map(|(log, ..)| &log.path),
        "lines": traffic.lines, "bytes": traffic.bytes, "probes": traffic.probes, "spoofed": traffic.spoofed,
        "unparsed": traffic.unparsed, "overlong": follow.logs.overlong(), "gaps": follow.gaps,
        "last_gap": follow.last_gap, "verifiable": follow.verifiable(), "late_ms": traffic.late_ms,
        "buffered": follow.held() != Held::No, "flush_ms": match follow.held() {
            Held::Until(flush) => u64::try_from(flush.as_millis()).ok(),
            Held::No | Held::Unbounded => None,
        },
    });
    let sources = serde_json::to_value(Sources::of(follow, located)).unwrap_or_default();
    for more in [more, sources] {
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
    }
    event
}

fn row(node: &NodeReport, width: usize) -> String {
    let ms = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), seconds);
    let intervals = [node.interval_min_ms, node.interval_p50_ms, node.interval_max_ms].map(ms).join(" / ");
    let state = match node.state {
        NodeState::OnTime => "yes",
        NodeState::Off => "no",
        NodeState::Late => "overdue",
        NodeState::Gone => "has left",
        NodeState::TooFew => "too few to tell",
    };
    let streams = if node.streams > 1 { format!(" ({} streams)", node.streams) } else { String::new() };
    let failing = if node.not_ok > 0 { format!(" ({} not 2xx)", node.not_ok) } else { String::new() };
    let (ip, probes, missed) = (node.node.to_string(), node.probes, node.missed);
    format!("{ip:<width$} {probes:>7} {missed:>7}   {intervals:>28}   {state}{streams}{failing}")
}

fn blame(node: &NodeReport) -> Option<String> {
    if let Some(ms) = node.faster_ms {
        return Some(format!("{} probes every {}", node.node, seconds(ms)));
    }
    match node.state {
        NodeState::Off if node.missed + node.off_rhythm == 0 => Some(format!(
            "{}: its interval is {}",
            node.node,
            node.interval_p50_ms.map_or_else(String::new, seconds)
        )),
        NodeState::Off | NodeState::Late => Some(format!(
            "{}: {} missed, {} out of rhythm{}",
            node.node,
            node.missed,
            node.off_rhythm,
            if node.state == NodeState::Late { ", the next is overdue" } else { "" }
        )),
        _ => None,
    }
}

fn seconds(ms: i64) -> String {
    if ms % 1000 == 0 { format!("{} s", ms / 1000) } else { format!("{:.3} s", ms as f64 / 1000.0) }
}

/// Hostile bytes as text that can't move the cursor.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(PATH)).unwrap_or_default());
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn paint(out: &Output, colour: &str, text: &str) -> String {
    if out.colours() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}
