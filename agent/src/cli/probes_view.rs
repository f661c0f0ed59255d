//! How `agent probes` looks: a line per probe, progress, a table at the end; or JSON Lines.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::output::Output;
use super::probes_balancer::Balancer;
use super::probes_events::{Event, ProbeEvent, VerdictEvent};
use super::probes_logs::{explanation, judged, left_out};
use crate::access_log::format::RECOMMENDED_FILE;
use crate::access_log::locate::Located;
use crate::access_log::scan::Found;
use crate::cadence::verdict::{Answer, Verdict, seconds};
use crate::cadence::{Expected, NodeReport, NodeState};
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
        expected: Option<Expected>,
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
            return out.event(&Event::Probe(ProbeEvent {
                node: found.node,
                at: rfc3339(at),
                method,
                path,
                status: found.line.status,
                took_ms: found.line.took_ms,
                interval_ms: interval,
            }));
        }
        let resolution = i64::from(found.stamp.resolution_ms);
        let off = |e: Expected, ms: i64| (ms - e.interval_ms).abs() > e.tolerance_ms.max(resolution);
        let mark = match interval.zip(expected) {
            Some((ms, expected)) if off(expected, ms) => paint(out, "31", "  ← off rhythm"),
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
        let nodes = follow.totals().len();
        let probes = follow.traffic().probes;
        out.note(&format!("{probes} probes from {nodes} nodes; at most {} s to go", left.as_secs()));
    }

    /// The daemon's verdict, of probes that come to its own port.
    pub(super) fn by_daemon(&self, out: &mut Output, verdict: &Verdict, follow: &Follow, located: &Located) {
        if out.is_json() {
            let event = VerdictEvent::new(verdict, follow, located, verdict.explanation.clone()).by_daemon();
            return out.event(&Event::Verdict(Box::new(event)));
        }
        out.text("probes come to the agent's own port; by what the daemon knows, over the last 15 minutes:");
        table(out, verdict);
        conclusion(out, verdict, &verdict.explanation);
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
            let event = VerdictEvent::new(verdict, follow, located, explanation(verdict, follow));
            return out.event(&Event::Verdict(Box::new(event)));
        }
        table(out, verdict);
        left_out(follow, located, verdict).iter().for_each(|line| out.text(line));
        conclusion(out, verdict, &explanation(verdict, follow));
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

/// A line for each node.
fn table(out: &mut Output, verdict: &Verdict) {
    let paths = verdict.nodes.iter().any(|node| node.path.is_some());
    let width = verdict.nodes.iter().map(|node| node.node.to_string().len()).max().unwrap_or(0).max(17);
    if !verdict.nodes.is_empty() {
        out.text(&format!(
            "{:<width$} {:>7} {:>7}   {:>28}   {}",
            "node",
            "probes",
            "missed",
            "interval min / p50 / max",
            if paths { "on time        path" } else { "on time" }
        ));
    }
    for node in &verdict.nodes {
        let line = row(node, width);
        out.text(&if node.on_time { line } else { paint(out, "33", &line) });
    }
}

/// The verdict in a line.
fn conclusion(out: &mut Output, verdict: &Verdict, explanation: &str) {
    // With `auto`, each path has its own.
    let several: std::collections::BTreeSet<i64> =
        verdict.nodes.iter().map(|node| node.expected_ms).collect();
    let several = several.into_iter().map(seconds).collect::<Vec<_>>().join(" and ");
    let expected = match verdict.expected {
        Some(expected) => seconds(expected.interval_ms),
        None if several.is_empty() => "interval".to_owned(),
        None => several,
    };
    let within =
        verdict.expected.map_or_else(String::new, |e| format!(" within {}", seconds(e.tolerance_ms)));
    let (colour, word) = match verdict.answer {
        Answer::Yes => ("32", "confirmed"),
        Answer::No => ("31", "not confirmed"),
        Answer::Unknown => ("33", "cannot tell"),
    };
    let word = paint(out, colour, word);
    out.text(&format!("{word}: every {expected}{within}: {explanation}"));
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

fn row(node: &NodeReport, width: usize) -> String {
    let ms = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), seconds);
    let intervals = [node.interval_min_ms, node.interval_p50_ms, node.interval_max_ms].map(ms).join(" / ");
    let state = match node.state {
        NodeState::OnTime => "yes",
        NodeState::Off => "no",
        NodeState::OtherInterval => "other interval",
        NodeState::Late => "overdue",
        NodeState::Gone => "has left",
        NodeState::TooFew => "too few",
    };
    let missed = match node.missed_max {
        Some(most) => format!("{}-{most}", node.missed),
        None => node.missed.to_string(),
    };
    let of = [node.path.as_deref(), node.host.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let streams = if node.streams > 1 { format!(" ({} streams)", node.streams) } else { String::new() };
    let extra = if node.extra > 0 { format!(" ({} in no rhythm)", node.extra) } else { String::new() };
    let codes = node.codes.iter().filter(|(code, _)| !code.starts_with('2'));
    let codes: String = codes.map(|(code, count)| format!(" ({count} with {code})")).collect();
    let (ip, probes) = (node.node.to_string(), node.probes);
    let line = format!(
        "{ip:<width$} {probes:>7} {missed:>7}   {intervals:>28}   {state:<14} {of}{streams}{extra}{codes}"
    );
    line.trim_end().to_owned()
}

/// Hostile bytes as text that can't move the cursor.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(PATH)).unwrap_or_default());
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn paint(out: &Output, colour: &str, text: &str) -> String {
    if out.colours() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}
