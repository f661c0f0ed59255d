//! What people see of a stress: its first lines, the progress, the summary. Nothing here decides anything.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::output::Output;
use crate::config::Span;
use crate::stress::minutes::{Datapoint, Minutes};
use crate::stress::plan::{Aim, Plan};
use crate::stress::run::Second;
use crate::stress::summary::Summary;

/// Without a terminal there is a line of progress this often.
const SECONDS_A_LINE: u64 = 10;
const BAR: usize = 20;
/// Seconds in the small graph.
const GRAPH: usize = 24;

/// The progress of one run.
pub(super) struct View {
    total: Option<Duration>,
    what: String,
    terminal: bool,
    next_line: u64,
    recent: Vec<f64>,
}

impl View {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            total: plan.secs,
            what: what(plan),
            terminal: std::io::stderr().is_terminal(),
            next_line: SECONDS_A_LINE,
            recent: Vec::new(),
        }
    }

    pub(super) fn started(&self, out: &mut Output) {
        let until = match self.total {
            Some(secs) => format!("for {}", Span(secs)),
            None => "until interrupted".to_owned(),
        };
        out.note(&format!("{} {until}; Ctrl-C ends it.", self.what));
    }

    pub(super) fn second(&mut self, out: &mut Output, second: &Second, _minutes: &Minutes) {
        let line = format!(
            "{} · workers {:.1} % · host {:.1} % busy, {:.1} % steal",
            self.clock(second.elapsed),
            second.worker_pct,
            second.host.busy_pct(),
            second.host.steal_pct()
        );
        if self.terminal {
            if self.recent.len() == GRAPH {
                self.recent.remove(0);
            }
            self.recent.push(second.host.busy_pct());
            let drawn = format!("\r\x1b[K{}{line} {}", self.bar(second.elapsed), graph(&self.recent));
            let mut stderr = std::io::stderr().lock();
            let _ = stderr.write_all(drawn.as_bytes()).and_then(|()| stderr.flush());
        } else if second.elapsed.as_secs() >= self.next_line {
            self.next_line += SECONDS_A_LINE;
            out.note(&line);
        }
    }

    fn clock(&self, elapsed: Duration) -> String {
        let elapsed = Span(Duration::from_secs(elapsed.as_secs()));
        match self.total {
            Some(total) => format!("{elapsed} of {}", Span(total)),
            None => elapsed.to_string(),
        }
    }

    fn bar(&self, elapsed: Duration) -> String {
        let Some(total) = self.total else { return String::new() };
        let part = (elapsed.as_secs_f64() / total.as_secs_f64()).min(1.0);
        let full = (part * BAR as f64).round() as usize;
        format!("[{}{}] ", "#".repeat(full), ".".repeat(BAR.saturating_sub(full)))
    }

    pub(super) fn ended(&self, out: &mut Output, summary: &Summary) {
        if self.terminal {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
        out.event(summary);
        let ran = Span::millis(summary.elapsed_ms / 100 * 100);
        let how = if summary.ended == "signal" { ", interrupted" } else { "" };
        let asked = match (summary.requested_load_pct, summary.requested_target_pct) {
            (Some(load), _) => {
                format!("each worker {:.1} % of a CPU, asked {load:.1} %", summary.achieved_load_pct)
            }
            (None, target) => format!(
                "host {:.1} % busy, asked {:.1} % (each worker {:.1} % of a CPU)",
                summary.host_busy_pct,
                target.unwrap_or_default(),
                summary.achieved_load_pct
            ),
        };
        out.text(&format!("{} for {ran}{how}: {asked}.", workers(summary.workers)));
        out.text(&format!(
            "Host: {:.1} % busy, {:.1} % steal.",
            summary.host_busy_pct, summary.host_steal_pct
        ));
        out.text("What CloudWatch reads (UTC), from what was seen of each minute:");
        for minute in &summary.minutes {
            out.text(&format!("  {}", datapoint(minute)));
        }
        if summary.five_minutes.iter().any(|five| five.seen_secs > 60.0) {
            out.text("With basic monitoring, every five minutes:");
            for five in &summary.five_minutes {
                out.text(&format!("  {}", datapoint(five)));
            }
        }
        if let Some(reason) = &summary.reason {
            out.text(&format!("The load was not reached: {reason}."));
        }
    }
}

fn datapoint(point: &Datapoint) -> String {
    let clock = point.start.get(11..16).unwrap_or("");
    format!(
        "{clock}  {:5.1} % busy {:5.1} % steal  ({:.0} s seen)",
        point.busy_pct, point.steal_pct, point.seen_secs
    )
}

fn workers(n: u32) -> String {
    if n == 1 { "1 worker".to_owned() } else { format!("{n} workers") }
}

fn what(plan: &Plan) -> String {
    let peak = 100.0 * plan.aim.curve().peak();
    match plan.aim {
        Aim::Load(_) => {
            format!("{} at {peak:.4} % of a CPU each", workers(plan.workers)).replace(".0000", "")
        }
        Aim::Target(_) => {
            format!("{} hold the host at {peak:.4} % busy", workers(plan.workers)).replace(".0000", "")
        }
    }
}

/// One character a second, from nothing to 100 %.
fn graph(values: &[f64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |value: &f64| LEVELS.get((value / 100.0 * 7.0).round() as usize).copied().unwrap_or('█');
    values.iter().map(level).collect()
}
