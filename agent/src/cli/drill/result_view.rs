//! The end of a drill of failing over, for people: tables, timelines, and three answers.

use std::path::Path;
use std::time::Duration;

use super::ends::last_line;
use super::live::{NAME, columns, cut, paint};
use super::paper::{say, table};
use crate::cli::output::Output;
use crate::drill::analysis::compare::{Item, shown};
use crate::drill::analysis::latency::PhaseReport;
use crate::drill::analysis::report::{Report, Run};
use crate::drill::analysis::strip::{Row, slice};
use crate::drill::analysis::verdict::{Answer, Verdict, secs};
use crate::drill::analysis::window::NodeReport;
use crate::drill::events::Outcome;

/// The first column of a table.
const LEFT: isize = -(NAME as isize);
/// Cells of a timeline.
const WIDTH: usize = 80;

/// The end.
pub(super) fn report(out: &mut Output, result: &Report, run: &Run, page: Option<&Path>) {
    if out.is_json() {
        return out.event(&last_line(Outcome::Failover(result), page));
    }
    nodes(out, result);
    timeline(out, result, run);
    phases(out, result);
    if result.schedule.blurred {
        say(
            out,
            &format!(
                "this machine was late: {} % of the requests were sent more than 20 ms after they were due, {} ms at worst",
                result.schedule.late_pct, result.schedule.worst_ms
            ),
        );
    }
    if result.unfinished > 0 {
        say(out, &format!("about {} requests were under way at the end", result.unfinished));
    }
    out.text("");
    answer(out, "hypothesis", Some(&result.hypothesis));
    answer(out, "clean-up", result.cleanup.as_ref());
    answer(out, "safety", Some(&result.safety));
    compared(out, result);
    answer(out, "regression", result.regression.as_ref());
    if let Some(path) = page {
        say(out, &format!("report      {}", path.display()));
    }
}

fn nodes(out: &mut Output, result: &Report) {
    out.text("");
    let short = |value: Option<Duration>| value.map_or_else(|| "-".to_owned(), secs);
    let row = |node: &NodeReport| {
        let failures: Vec<String> =
            node.failures.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
        let gone = if node.present { "" } else { " (left the name)" };
        vec![
            node.node.clone(),
            node.requests.to_string(),
            node.errors.to_string(),
            short(node.outage),
            short(node.drained_after),
            short(node.readmitted_after),
            format!("{}{gone}", failures.join(", ")),
        ]
    };
    let heads = [
        ("node", LEFT),
        ("requests", 8),
        ("errors", 7),
        ("outage", 9),
        ("drained", 9),
        ("back", 9),
        ("failed with", 0),
    ];
    table(out, &heads, &result.nodes.iter().map(row).collect::<Vec<_>>());
    if let Some(node) = result.nodes.iter().max_by_key(|node| node.outage) {
        say(
            out,
            &format!(
                "new connections: {} errors, {} of outage; kept ones: {} errors, {} (at {})",
                node.new.errors,
                short(node.new.outage),
                node.kept.errors,
                short(node.kept.outage),
                node.node
            ),
        );
    }
}

fn timeline(out: &mut Output, result: &Report, run: &Run) {
    // No wider than the terminal, where it is one.
    let names = columns().map_or(NAME, |columns| NAME.min(columns / 2));
    let room = columns().map_or(WIDTH, |columns| columns.saturating_sub(names + 2).clamp(1, WIDTH));
    let name = |text: &str| {
        format!("{:<names$}", if columns().is_some() { cut(text, names) } else { text.to_owned() })
    };
    let slice = slice(run.marks.end, room);
    let count = usize::try_from(run.marks.end.as_millis() / slice.as_millis().max(1)).unwrap_or(0) + 1;
    out.text("");
    say(
        out,
        &format!(
            "{:<NAME$} a mark is {} s: . answered, x some failed, X all failed",
            "timeline",
            slice.as_secs_f64()
        ),
    );
    let colours = out.colours();
    let rows = |count_of: usize| vec![Row::new(slice, count); count_of];
    let (mut nodes, mut instances) = (rows(result.nodes.len()), rows(result.instances.len()));
    for one in run.book.samples().iter() {
        if let Some(row) = nodes.get_mut(usize::from(one.node)) {
            row.take(&one);
        }
        if let Some(row) = one.instance.and_then(|place| instances.get_mut(usize::from(place))) {
            row.take(&one);
        }
    }
    for (node, row) in result.nodes.iter().zip(nodes) {
        say(out, &format!("{} {}", name(&node.node), paint(&row.cells, colours)));
    }
    for (instance, row) in result.instances.iter().zip(instances) {
        let us = if Some(&instance.instance) == result.facts.instance.as_ref() { "*" } else { "" };
        let name = name(&format!("{}{us}", instance.instance));
        say(out, &format!("{name} {}", paint(&row.cells, colours)));
    }
}

/// The earlier drill beside this one.
fn compared(out: &mut Output, result: &Report) {
    let Some(comparison) = &result.comparison else { return };
    let when = comparison.started.as_deref().unwrap_or("earlier");
    out.text("");
    let row = |item: &Item| {
        let worse = if item.regressed { "worse" } else { "" };
        vec![item.what.clone(), shown(&item.before), shown(&item.now), worse.to_owned()]
    };
    let heads = [("beside an earlier drill", -26), (when, 24), ("now", 14), ("", 0)];
    table(out, &heads, &comparison.items.iter().map(row).collect::<Vec<_>>());
}

fn phases(out: &mut Output, result: &Report) {
    out.text("");
    let short = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let row = |phase: &PhaseReport| {
        vec![
            phase.phase.name().to_owned(),
            phase.requests.to_string(),
            phase.errors.to_string(),
            short(phase.p50_ms),
            short(phase.p90_ms),
            short(phase.p99_ms),
            short(phase.max_ms),
        ]
    };
    let heads =
        [("phase", LEFT), ("requests", 8), ("errors", 7), ("p50", 9), ("p90", 9), ("p99", 9), ("max", 9)];
    table(out, &heads, &result.phases.iter().map(row).collect::<Vec<_>>());
}

pub(super) fn answer(out: &mut Output, question: &str, verdict: Option<&Verdict>) {
    let Some(verdict) = verdict else { return };
    say(out, &format!("{question:<11} {}", word(out, verdict.answer)));
    for reason in &verdict.reasons {
        let pad = " ".repeat(12_usize.saturating_sub(reason.answer.word().chars().count()));
        say(out, &format!("  {}{pad}{}", word(out, reason.answer), reason.text));
    }
    if let Some(hint) = &verdict.hint {
        say(out, &format!("              {hint}"));
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
