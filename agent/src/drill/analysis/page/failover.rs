//! A target that fails: what it cost, beside what it should have cost.

use std::time::Duration;

use serde_json::Value;

use super::chart::{Rows, Scale};
use super::html::{Cell, escaped, paragraph, section, table};
use super::{cards, facts, latency, legend, millis, page, secs, started};
use crate::drill::analysis::compare::shown;
use crate::drill::analysis::evidence::bounds;
use crate::drill::analysis::latency::Sketch;
use crate::drill::analysis::report::{Report, Run};
use crate::drill::analysis::verdict::{Answer, secs as time};

/// How many slices of time the curves have.
const SLICES: u32 = 120;

/// The page; `result` is the last line of its JSON.
pub fn failover(report: &Report, run: &Run, result: &Value) -> String {
    let about = &report.facts.about;
    let what = if report.facts.observed {
        "failover, observed".to_owned()
    } else {
        format!("failover: {} for {} s", report.facts.mode.name(), report.facts.secs)
    };
    let target = report.facts.instance.as_ref().map_or_else(String::new, |one| format!(" · target {one}"));
    let mut content = format!("<h1>Drill of a {}</h1>", escaped(&what));
    content.push_str(&paragraph(&format!("{} · {} · by {}{target}", about.url, about.started, about.by)));
    content.push_str(&cards(&[
        ("Did it go as predicted?", "hypothesis", Some(&report.hypothesis)),
        ("Is everything cleaned up?", "cleanup", report.cleanup.as_ref()),
        ("Was it safe?", "safety", Some(&report.safety)),
        ("Was it no worse than before?", "regression", report.regression.as_ref()),
    ]));
    content.push_str(&short(report));
    content.push_str(&timeline(report, run));
    content.push_str(&curves(report, run));
    content.push_str(&tables(report));
    content.push_str(&latency(&report.phases));
    content.push_str(&paragraph(&format!(
        "{} requests ({} %) were sent more than 20 ms late, {} ms at worst{}",
        report.schedule.late,
        report.schedule.late_pct,
        report.schedule.worst_ms,
        if report.schedule.blurred { ": this machine was too busy for exact figures." } else { "." }
    )));
    content.push_str(&compared(report));
    content.push_str(&facts(&result["facts"]));
    page(&format!("Drill: {}: {}", about.url, verdict(report).word()), &content, result, &run.book)
}

/// All answers in one.
fn verdict(report: &Report) -> Answer {
    let cleanup = report.cleanup.as_ref().map_or(Answer::Yes, |verdict| verdict.answer);
    let all = [report.hypothesis.answer, cleanup, report.safety.answer];
    if all.contains(&Answer::No) {
        Answer::No
    } else if all.contains(&Answer::Unknown) {
        Answer::Unknown
    } else {
        Answer::Yes
    }
}

fn short(report: &Report) -> String {
    let predicted = report.predicted.as_ref();
    let outage = predicted.map_or_else(
        || "–".to_owned(),
        |one| if one.visible { bounds(&one.outage) } else { "none".to_owned() },
    );
    let back = predicted
        .filter(|_| !report.facts.observed)
        .map_or_else(|| "–".to_owned(), |one| bounds(&one.readmission));
    let rows = [
        vec![
            Cell::text("Outage, all addresses"),
            Cell::keyed(secs(report.outage_ms), "outage_ms"),
            Cell::keyed(outage, "predicted_outage"),
        ],
        vec![
            Cell::text("Back in use at every address, after the recovery"),
            Cell::keyed(secs(report.readmitted_after_ms), "readmitted_after_ms"),
            Cell::keyed(back, "predicted_readmission"),
        ],
        vec![Cell::text("Requests"), Cell::keyed(report.requests.to_string(), "requests"), Cell::text("")],
        vec![
            Cell::text("Errors since the beginning of the fault"),
            Cell::keyed(report.errors.to_string(), "errors"),
            Cell::text(""),
        ],
    ];
    let note = format!(
        "A time may be {} shorter than predicted and {} longer: requests come one by one, and probes are not sent to the \
         millisecond.",
        secs(Some(report.below_ms)),
        secs(Some(report.above_ms))
    );
    section(
        "In short",
        &(table("Measured beside predicted", &["", "measured", "predicted"], &rows) + &paragraph(&note)),
    )
}

fn scale(report: &Report, run: &Run) -> Scale {
    Scale { end: run.marks.end.max(Duration::from_millis(1)), started: started(&report.facts.about) }
}

fn timeline(report: &Report, run: &Run) -> String {
    let scale = scale(report, run);
    let at = |ms: Option<f64>| ms.map(|ms| Duration::from_secs_f64(ms / 1e3));
    let marks: Vec<Duration> =
        [at(report.effective_ms), at(report.recovered_ms)].into_iter().flatten().collect();
    let usual = Duration::from_secs(1) / report.facts.about.rps.max(1);
    let instances = u32::try_from(report.instances.len()).unwrap_or(1).max(1);
    let each = usual * instances / u32::try_from(report.nodes.len()).unwrap_or(1).max(1);
    let rows = Rows::of(&run.book, (usual, each), scale.end);
    let mut html = String::new();
    for (node, row) in report.nodes.iter().zip(&rows.nodes) {
        let summary =
            node.outage.map_or_else(|| "no outage".to_owned(), |outage| format!("outage {}", time(outage)));
        html.push_str(&scale.requests(&node.node, &summary, row, &marks));
    }
    if let (Some(predicted), Some(first)) =
        (report.predicted.as_ref().filter(|one| one.visible), at(report.first_error_ms))
    {
        let measured = at(report.last_error_ms).map(|last| (first, last));
        let summary = format!("predicted {}, measured {}", bounds(&predicted.outage), secs(report.outage_ms));
        let span = (first + predicted.outage.least, first + predicted.outage.most);
        html.push_str(&scale.span("Last error", &summary, span, measured));
    }
    for (instance, row) in report.instances.iter().zip(&rows.instances) {
        let ours = Some(&instance.instance) == report.facts.instance.as_ref();
        let summary =
            format!("{} answers{}", instance.answers, if ours { ", the target that failed" } else { "" });
        html.push_str(&scale.requests(&instance.instance, &summary, row, &marks));
    }
    html.push_str(&scale.axis());
    html.push_str(&legend(&[("predicted", "predicted"), ("measured", "measured")]));
    html.push_str(&paragraph("The dashed lines: the target was seen to fail, and seen to answer again."));
    section("Timeline", &html)
}

fn curves(report: &Report, run: &Run) -> String {
    let scale = scale(report, run);
    let slice = scale.end / SLICES;
    let (mut errors, mut latency) = (Vec::new(), Vec::new());
    let mut all = vec![(0_u64, Sketch::default()); SLICES as usize + 1];
    for one in run.book.samples().iter() {
        let place = (one.start().as_nanos() / slice.as_nanos().max(1)) as usize;
        let Some((failed, took)) = all.get_mut(place) else { continue };
        *failed += u64::from(!one.is_ok());
        if one.is_ok() {
            took.take(one.latency());
        }
    }
    for (place, (failed, took)) in all.iter().enumerate() {
        let from = slice * u32::try_from(place).unwrap_or(0);
        let to = from + slice;
        errors.push((from, to, *failed as f64 / slice.as_secs_f64().max(1e-9)));
        latency.push((from, to, took.percentile_ms(99).unwrap_or_default()));
    }
    let most =
        |values: &[(Duration, Duration, f64)]| values.iter().map(|(.., value)| *value).fold(0.0, f64::max);
    let html = scale.bars("Errors a second", &format!("{:.1} at most", most(&errors)), &errors, "bad")
        + &scale.bars(
            "Latency of answers, p99",
            &format!("{} at most", millis(Some(most(&latency)))),
            &latency,
            "value",
        )
        + &scale.axis();
    section("Errors and latency over time", &html)
}

fn tables(report: &Report) -> String {
    let short = |value: Option<Duration>| secs(value.map(|value| value.as_secs_f64() * 1e3));
    let node = |node: &crate::drill::analysis::window::NodeReport| {
        let failures: Vec<String> =
            node.failures.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
        vec![
            Cell::text(format!("{}{}", node.node, if node.present { "" } else { " (left the name)" })),
            Cell::text(node.requests.to_string()),
            Cell::text(node.errors.to_string()),
            Cell::keyed(short(node.outage), "node_outage_ms"),
            Cell::text(short(node.new.outage)),
            Cell::text(short(node.kept.outage)),
            Cell::text(short(node.drained_after)),
            Cell::text(short(node.readmitted_after)),
            Cell::text(failures.join(", ")),
        ]
    };
    let heads = [
        "address",
        "requests",
        "errors",
        "outage",
        "new connections",
        "kept",
        "drained",
        "back in use",
        "failed with",
    ];
    let rows: Vec<_> = report.nodes.iter().map(node).collect();
    let mut html = section("Addresses", &table("Each address of the load balancer", &heads, &rows));
    let control = |one: &crate::drill::analysis::control::Group| {
        vec![
            Cell::text(format!("{}{}", one.instance, if one.target { " (failed)" } else { "" })),
            Cell::text(one.phase.clone()),
            Cell::text(one.answers.to_string()),
            Cell::text(one.errors.to_string()),
            Cell::text(millis(one.p50_ms)),
            Cell::text(millis(one.p99_ms)),
        ]
    };
    let rows: Vec<_> = report.control.iter().map(control).collect();
    let body = if rows.is_empty() {
        paragraph("No answer named its instance.")
    } else {
        let heads = ["instance", "phase", "answers", "errors", "p50", "p99"];
        table("What the others did beside the target that failed", &heads, &rows)
    };
    html.push_str(&section("Instances", &body));
    let probe = |node: &crate::cadence::NodeReport| {
        let ms = |value: Option<i64>| secs(value.map(|value| value as f64));
        vec![
            Cell::text(node.node.to_string()),
            Cell::text(node.probes.to_string()),
            Cell::text(node.missed.to_string()),
            Cell::text(ms(node.interval_min_ms)),
            Cell::text(ms(node.interval_p50_ms)),
            Cell::text(ms(node.interval_max_ms)),
            Cell::text(node.not_ok.to_string()),
        ]
    };
    let rows: Vec<_> = report.probes.iter().map(probe).collect();
    let body = if rows.is_empty() {
        paragraph("None, or no log to see them in.")
    } else {
        let heads = ["from", "probes", "missed", "interval min", "p50", "max", "not 2xx"];
        table("The load balancer's health checks in the access log here", &heads, &rows)
    };
    html.push_str(&section("Probes that this target saw", &body));
    html
}

fn compared(report: &Report) -> String {
    let Some(comparison) = &report.comparison else { return String::new() };
    let row = |item: &crate::drill::analysis::compare::Item| {
        vec![
            Cell::text(item.what.replace('_', " ")),
            Cell::text(shown(&item.before)),
            Cell::text(shown(&item.now)),
            Cell::text(if item.regressed { "worse" } else { "" }),
        ]
    };
    let rows: Vec<_> = comparison.items.iter().map(row).collect();
    let when = comparison.started.as_deref().unwrap_or("an earlier drill");
    section(
        "Beside an earlier drill",
        &table(&format!("Then: {when}"), &["", "then", "now", "verdict"], &rows),
    )
}
