//! What is seen of a stress: its first lines, the progress, the summary. Nothing here decides anything.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::output::Output;
use crate::config::Span;
use crate::stress::alarm::Alarm;
use crate::stress::allowed::Allowed;
use crate::stress::minutes::{Datapoint, Minutes, hundredths};
use crate::stress::notices::{Facts, clock, notices};
use crate::stress::plan::{Aim, Plan};
use crate::stress::run::{Event, Second};
use crate::stress::summary::Summary;

/// Without a terminal there is a line of progress this often.
const SECONDS_A_LINE: u64 = 10;
/// The redrawn line fits into 80 columns.
const BAR: usize = 10;
/// Seconds in the small graph.
const GRAPH: usize = 8;

/// The progress of one run.
pub(super) struct View<'a> {
    plan: &'a Plan,
    allowed: &'a Allowed,
    alarm: Option<Alarm>,
    terminal: bool,
    next_line: u64,
    recent: Vec<f64>,
    minute: Option<i64>,
    fired: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(plan: &'a Plan, allowed: &'a Allowed, alarm: Option<Alarm>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let (recent, minute, fired) = (Vec::new(), None, false);
        Self { plan, allowed, alarm, terminal, next_line: SECONDS_A_LINE, recent, minute, fired }
    }

    pub(super) fn show(&mut self, out: &mut Output, event: Event<'_>) {
        match event {
            Event::Started { host_cpus, manners, unrecorded } => {
                self.started(out, host_cpus, manners);
                if let Some(error) = unrecorded {
                    out.note(&format!("`agent status` won't show this run: {error}."));
                }
            }
            Event::Second(second, minutes) => {
                self.minutes(out, minutes);
                self.second(out, &second);
            }
            Event::Hint(message) => {
                out.event(&json!({"event": "hint", "message": message}));
                self.line(out, &message);
            }
        }
    }

    fn started(&self, out: &mut Output, host_cpus: u32, manners: &str) {
        let plan = self.plan;
        let until = match plan.secs {
            Some(secs) => format!("for {}", Span(secs)),
            None => "until interrupted".to_owned(),
        };
        out.note(&format!("{} {until}, {manners}; Ctrl-C ends it.", what(plan)));
        let (allowed, quota) = (self.allowed.count(), self.allowed.quota.as_ref());
        let facts = Facts { plan, host_cpus, allowed, quota, alarm: self.alarm, now: Timestamp::now() };
        let notices = notices(&facts);
        notices.iter().for_each(|notice| out.note(notice));
        out.event(&json!({
            "event": "started",
            "workers": plan.workers,
            "secs": plan.secs.map(|secs| secs.as_secs_f64()),
            "manners": manners,
            "notices": notices,
        }));
    }

    /// Tells the minutes that are over, and the alarm when it fires.
    fn minutes(&mut self, out: &mut Output, minutes: &Minutes) {
        let Some(now) = minutes.iter().next_back().map(|b| b.start) else { return };
        let Some(before) = self.minute.replace(now).filter(|before| *before != now) else { return };
        if let Some(over) = minutes.iter().find(|b| b.start == before).map(|b| b.datapoint()) {
            let mut event = json!({"event": "minute"});
            if let (Some(event), Ok(serde_json::Value::Object(point))) =
                (event.as_object_mut(), serde_json::to_value(&over))
            {
                event.extend(point);
            }
            out.event(&event);
            self.line(out, &format!("CloudWatch reads {}", datapoint(&over)));
        }
        let fires = self.alarm.and_then(|alarm| alarm.fires(minutes.iter()));
        if let Some(end) = fires.filter(|_| !std::mem::replace(&mut self.fired, fires.is_some())) {
            self.line(out, &format!("The scale-out alarm has its 3 datapoints: it fires at {}.", clock(end)));
        }
    }

    fn second(&mut self, out: &mut Output, second: &Second) {
        let (busy, steal) = (second.host.busy_pct(), second.host.steal_pct());
        let worker = second.worker_pct;
        let at = self.progress(second.elapsed);
        let due = second.elapsed.as_secs() >= self.next_line;
        if due {
            self.next_line += SECONDS_A_LINE;
            out.event(&json!({
                "event": "progress",
                "elapsed_ms": u64::try_from(second.elapsed.as_millis()).unwrap_or(u64::MAX),
                "worker_pct": hundredths(worker),
                "host_busy_pct": hundredths(busy),
                "host_steal_pct": hundredths(steal),
            }));
        }
        if self.terminal {
            if self.recent.len() == GRAPH {
                self.recent.remove(0);
            }
            self.recent.push(busy);
            let figures = format!("workers {worker:.0} % · host {busy:.1} % · steal {steal:.1} %");
            draw(&format!("{}{at} · {figures} {}", self.bar(second.elapsed), graph(&self.recent)));
        } else if due {
            out.note(&format!("{at} · workers {worker:.1} % · host {busy:.1} % busy, {steal:.1} % steal"));
        }
    }

    /// A line that stays, above the one that is redrawn.
    fn line(&self, out: &mut Output, text: &str) {
        if self.terminal {
            draw("");
        }
        out.note(text);
    }

    fn progress(&self, elapsed: Duration) -> String {
        let elapsed = Span(Duration::from_secs(elapsed.as_secs()));
        match self.plan.secs {
            Some(total) => format!("{elapsed} of {}", Span(total)),
            None => elapsed.to_string(),
        }
    }

    fn bar(&self, elapsed: Duration) -> String {
        let Some(total) = self.plan.secs else { return String::new() };
        let part = (elapsed.as_secs_f64() / total.as_secs_f64()).min(1.0);
        let full = (part * BAR as f64).round() as usize;
        format!("[{}{}] ", "#".repeat(full), ".".repeat(BAR.saturating_sub(full)))
    }

    pub(super) fn ended(&self, out: &mut Output, summary: &Summary) {
        if self.terminal {
            draw("");
        }
        out.event(summary);
        let ran = Span::millis(summary.elapsed_ms / 100 * 100);
        let how = if summary.ended == "signal" { ", interrupted" } else { "" };
        let each = summary.achieved_load_pct;
        let held = match (summary.requested_load_pct, summary.requested_target_pct) {
            (Some(asked), _) => {
                let who = if summary.workers == 1 { "it" } else { "each worker" };
                format!("{who} had {each:.1} % of a CPU, asked {asked:.1} %")
            }
            (None, asked) => format!(
                "the host was {:.1} % busy, asked {:.1} % (each worker had {each:.1} % of a CPU)",
                summary.host_busy_pct,
                asked.unwrap_or_default(),
            ),
        };
        out.text(&format!("{} for {ran}{how}: {held}.", workers(summary.workers)));
        out.text(&format!(
            "Host: {:.1} % busy, {:.1} % steal.",
            summary.host_busy_pct, summary.host_steal_pct
        ));
        out.text("What CloudWatch reads, by minute (UTC):");
        summary.minutes.iter().for_each(|minute| out.text(&format!("  {}", datapoint(minute))));
        if summary.five_minutes.iter().any(|five| five.seen_secs > 60.0) {
            out.text("With basic monitoring, by five minutes:");
            summary.five_minutes.iter().for_each(|five| out.text(&format!("  {}", datapoint(five))));
        }
        if let Some(alarm) = &summary.alarm {
            out.text(&match &alarm.fires {
                Some(at) => {
                    format!("The scale-out alarm (3 minutes above {} %) fires at {at}.", alarm.host_needs_pct)
                }
                None => {
                    format!("The scale-out alarm (3 minutes above {} %) does not fire.", alarm.host_needs_pct)
                }
            });
        }
        if let Some(reason) = summary.reason.as_ref().filter(|_| summary.ended == "deadline") {
            out.text(&format!("The load was not reached: {reason}."));
        }
    }
}

/// Replaces the terminal's last line.
fn draw(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
}

fn datapoint(point: &Datapoint) -> String {
    let clock = point.start.get(11..16).unwrap_or("");
    let cut =
        if point.seen_secs < 59.0 { format!(" ({:.0} s seen)", point.seen_secs) } else { String::new() };
    format!("{clock} {:5.1} % busy {:5.1} % steal{cut}", point.busy_pct, point.steal_pct)
}

fn workers(n: u32) -> String {
    if n == 1 { "1 worker".to_owned() } else { format!("{n} workers") }
}

fn what(plan: &Plan) -> String {
    let peak = hundredths(100.0 * plan.aim.curve().peak());
    match plan.aim {
        Aim::Load(_) if plan.workers == 1 => format!("1 worker at {peak} % of a CPU"),
        Aim::Load(_) => format!("{} at {peak} % of a CPU each", workers(plan.workers)),
        Aim::Target(_) => format!("{} holding the host at {peak} % busy", workers(plan.workers)),
    }
}

/// One character a second, from nothing to 100 %.
fn graph(values: &[f64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |value: &f64| LEVELS.get((value / 100.0 * 7.0).round() as usize).copied().unwrap_or('█');
    values.iter().map(level).collect()
}
