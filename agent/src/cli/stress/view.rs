//! What is seen of a stress: its first lines, the progress, the summary. Nothing here decides anything.

use super::live::{self, Show};
use super::{Scene, spoken};
use crate::cli::output::Output;
use crate::config::Span;
use crate::stress::events::{Progress, StressEvent};
use crate::stress::forecast::words::sentence;
use crate::stress::forecast::{Certainty, DATAPOINTS, Forecast};
use crate::stress::minutes::{Datapoint, Minutes, hundredths};
use crate::stress::opening::wrap;
use crate::stress::run::{Event, Second};
use crate::stress::summary::{Ending, Summary};

/// Without a terminal there is a line of progress this often.
const SECONDS_A_LINE: u64 = 10;

/// The progress of one run.
pub(super) struct View<'a> {
    scene: &'a Scene,
    verbose: bool,
    quiet: bool,
    next_line: u64,
    recent: Vec<f64>,
    began: f64,
    /// What was seen so far,
    seen: Minutes,
    /// the minute that is seen now,
    minute: Option<i64>,
    /// and what the alarm will do, as far as it was told.
    forecast: Option<Forecast>,
    drawn: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(scene: &'a Scene, verbose: bool, quiet: bool) -> Self {
        Self {
            scene,
            verbose,
            quiet,
            next_line: SECONDS_A_LINE,
            recent: Vec::new(),
            began: 0.0,
            seen: Minutes::default(),
            minute: None,
            forecast: None,
            drawn: false,
        }
    }

    pub(super) fn show(&mut self, out: &mut Output, event: Event) {
        match event {
            Event::Started { began, host_cpus: _, manners, unrecorded } => {
                self.began = began;
                let facts = self.scene.facts(&self.seen, began, &manners, None);
                out.event(&StressEvent::Started(Box::new(facts.opening())));
                let rows = facts.rows(live::width_of(&std::io::stderr()), self.verbose);
                self.forecast = facts.forecast();
                rows.iter().for_each(|row| self.note(out, row));
                if let Some(error) = unrecorded {
                    self.lines(out, &format!("`agent status` won't show this run: {error}."));
                }
            }
            Event::Second(second) => {
                self.seen.add(second.until, second.secs, second.host);
                self.minutes(out);
                self.alarm(out, second.until);
                self.second(out, &second);
            }
            Event::Hint(message) => {
                self.lines(out, &message);
                out.event(&StressEvent::Hint { message });
            }
        }
    }

    /// Tells the minute that is over.
    fn minutes(&mut self, out: &mut Output) {
        let Some(now) = self.seen.slots().next_back().map(|slot| slot.start - slot.start.rem_euclid(60))
        else {
            return;
        };
        let Some(before) = self.minute.replace(now).filter(|before| *before != now) else { return };
        let over = self.seen.by(60).into_iter().rev().find(|minute| minute.start == before);
        if let Some(over) = over.map(|minute| minute.datapoint(60)) {
            if live::show(out.is_json()) != Show::Nothing {
                self.lines(out, &format!("CloudWatch reads {}", datapoint(&over)));
            }
            out.event(&StressEvent::Minute(over));
        }
    }

    /// Tells when what the alarm will do has changed: looked at with each slot of ten seconds that begins.
    fn alarm(&mut self, out: &mut Output, now: jiff::Timestamp) {
        let Some(alarm) = self.scene.alarm else { return };
        let begins = self.seen.slots().next_back().is_none_or(|slot| slot.secs < 1.5);
        if !begins && self.forecast.is_some() {
            return;
        }
        let now = now.as_millisecond() as f64 / 1000.0;
        let forecast = Forecast::of(&self.scene.question(&self.seen, self.began, now), &alarm);
        let key = |f: &Forecast| (f.verdict, f.fires.clone());
        if self.forecast.as_ref().map(key) != Some(key(&forecast)) {
            out.event(&StressEvent::Forecast(Box::new(forecast.clone())));
            self.lines(out, &sentence(&forecast));
        }
        self.forecast = Some(forecast);
    }

    fn second(&mut self, out: &mut Output, second: &Second) {
        let (busy, steal) = (second.host.busy_pct(), second.host.steal_pct());
        let worker = second.worker_pct;
        let due = second.elapsed.as_secs() >= self.next_line;
        if due {
            self.next_line += SECONDS_A_LINE;
            out.event(&StressEvent::Progress(Progress {
                elapsed_ms: u64::try_from(second.elapsed.as_millis()).unwrap_or(u64::MAX),
                worker_pct: hundredths(worker),
                host_busy_pct: hundredths(busy),
                host_steal_pct: hundredths(steal),
            }));
        }
        live::remember(&mut self.recent, busy);
        match live::show(out.is_json()) {
            _ if self.quiet => {}
            Show::Nothing => {}
            Show::Live { unicode } => {
                let shown = live::Second {
                    elapsed: second.elapsed,
                    total: self.scene.plan.secs,
                    worker_pct: worker,
                    busy_pct: busy,
                    steal_pct: steal,
                    recent: &self.recent,
                    alarm: self.count(),
                };
                let line = live::line(&shown, live::width_of(&std::io::stderr()), unicode);
                out.progress(format!("\r\x1b[K{line}"));
                self.drawn = true;
            }
            Show::Lines if due => {
                let elapsed = spoken(second.elapsed);
                let at = match self.scene.plan.secs {
                    Some(total) => format!("{elapsed} of {}", spoken(total)),
                    None => elapsed,
                };
                let alarm = self.count().map_or_else(String::new, |(alarm, _)| format!(" | {alarm}"));
                out.note(&format!(
                    "{at} | workers {worker:.1} % | host {busy:.1} % busy, {steal:.1} % steal{alarm}"
                ));
            }
            Show::Lines => {}
        }
    }

    /// How many of the alarm's datapoints are certain by what was seen.
    fn count(&self) -> Option<(String, String)> {
        let now = self.seen.slots().next_back().map_or(0, |slot| slot.start);
        let forecast = self.scene.after(&self.seen, jiff::Timestamp::from_second(now).ok()?)?;
        let (have, needs) = (forecast.certain_in_a_row.min(DATAPOINTS), forecast.host_needs_pct);
        let what = if forecast.period_secs == 60 { "minutes" } else { "datapoints" };
        Some((format!("{have} of {DATAPOINTS} {what} above {needs} %"), format!("{have}/{DATAPOINTS}")))
    }

    /// Lines that stay, above the one that is redrawn.
    fn lines(&mut self, out: &mut Output, text: &str) {
        wrap(text, live::width_of(&std::io::stderr())).iter().for_each(|row| self.note(out, row));
    }

    fn note(&mut self, out: &mut Output, row: &str) {
        if self.quiet {
            return;
        }
        self.erase(out);
        out.note(row);
    }

    fn erase(&mut self, out: &mut Output) {
        if std::mem::take(&mut self.drawn) {
            out.progress("\r\x1b[K".to_owned());
        }
    }

    pub(super) fn ended(&mut self, out: &mut Output, summary: &Summary) {
        self.erase(out);
        out.settle();
        out.event(&StressEvent::Summary(Box::new(summary.clone())));
        if !self.quiet {
            let width = live::width_of(&std::io::stdout());
            let rows = told(summary).into_iter().flat_map(|line| match line.starts_with(' ') {
                true => vec![line],
                false => wrap(&line, width),
            });
            rows.for_each(|row| out.text(&row));
        }
    }
}

/// The summary for people.
fn told(summary: &Summary) -> Vec<String> {
    let ran = Span::millis(summary.elapsed_ms / 100 * 100);
    let how = match summary.ended {
        Ending::Signal => ", interrupted",
        Ending::Deadline if summary.ended_by_alarm => ", until the alarm was decided",
        Ending::Deadline => "",
    };
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
    let workers =
        if summary.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", summary.workers) };
    let mut lines = vec![
        format!("{workers} for {ran}{how}: {held}."),
        format!("Host: {:.1} % busy, {:.1} % steal.", summary.host_busy_pct, summary.host_steal_pct),
        "What CloudWatch reads, by minute (UTC):".to_owned(),
    ];
    lines.extend(summary.minutes.iter().map(|minute| format!("  {}", datapoint(minute))));
    if summary.five_minutes.iter().any(|five| five.seen_secs > 60.0) {
        lines.push("With basic monitoring, by five minutes:".to_owned());
        lines.extend(summary.five_minutes.iter().map(|five| format!("  {}", datapoint(five))));
    }
    let by_alarm = summary.alarm.as_ref();
    lines.extend(by_alarm.map(sentence));
    if summary.ended != Ending::Signal {
        lines.extend(summary.reason.as_ref().map(|reason| format!("The load was not reached: {reason}.")));
        lines.extend(summary.note.as_ref().map(|note| format!("{note}.")));
        let certain = by_alarm.is_some_and(|alarm| alarm.verdict == Certainty::Certain);
        if certain && summary.reason.is_some() {
            lines.push("The alarm decides: exit code 0.".to_owned());
        }
    }
    lines
}

/// A datapoint, of which nobody knows what was in the seconds that weren't seen.
fn datapoint(point: &Datapoint) -> String {
    let clock = point.start.get(11..16).unwrap_or("");
    if point.high_pct - point.low_pct <= 2.0 {
        return format!("{clock} {:5.1} % busy {:5.1} % steal", point.busy_pct, point.steal_pct);
    }
    format!(
        "{clock} {:5.1} % busy {:5.1} % steal in the {:.0} s seen: at least {:.1} %",
        point.busy_pct, point.steal_pct, point.seen_secs, point.low_pct
    )
}
