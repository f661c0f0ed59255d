//! A group that is loaded: which instances come, and which go again. Times of instances are since the load began.

use std::time::Duration;

use serde_json::Value;

use super::chart::{Rows, Scale};
use super::html::{Cell, escaped, paragraph, section, table};
use super::{cards, facts, latency, legend, page, secs, started};
use crate::drill::analysis::scale::{Report, Stay};
use crate::drill::client::sample::Book;

/// The page; `result` is the last line of its JSON.
pub fn scale(report: &Report, book: &Book, result: &Value) -> String {
    let facts_of = &report.facts;
    let about = &facts_of.about;
    let mut content = format!(
        "<h1>Drill of scaling: {} % for {} s</h1>",
        facts_of.target_pct,
        escaped(&facts_of.secs.to_string())
    );
    content.push_str(&paragraph(&format!("{} · {} · by {}", about.url, about.started, about.by)));
    content.push_str(&cards(&[
        ("Did the group scale out?", "out", Some(&report.verdicts.out)),
        ("Did it scale in again?", "in", Some(&report.verdicts.back)),
        ("Did it take as long as predicted?", "hypothesis", report.verdicts.hypothesis.as_ref()),
    ]));
    content.push_str(&short(report));
    content.push_str(&steps(report));
    content.push_str(&timeline(report, book));
    content.push_str(&tables(report));
    content.push_str(&latency(&report.phases));
    content.push_str(&facts(&result["facts"]));
    let answer = report.verdicts.answer().word();
    page(&format!("Drill: {}: {answer}", about.url), &content, result, book)
}

fn short(report: &Report) -> String {
    let scaled = &report.scaled;
    let before = scaled.instances.iter().filter(|stay| stay.before).count();
    let row = |name: &str, text: String, key| vec![Cell::text(name), Cell::keyed(text, key)];
    let rows = [
        row("First new instance, since the load began", secs(scaled.out_after_ms), "out_after_ms"),
        row("Last answer of a new instance, since the load ended", secs(scaled.in_after_ms), "in_after_ms"),
        row("Instances before the load", before.to_string(), "before"),
        row("New instances", (scaled.instances.len() - before).to_string(), "came"),
        row("Requests", scaled.requests.to_string(), "requests"),
        row("Errors", scaled.errors.to_string(), "errors"),
    ];
    section("In short", &table("What was measured", &["", "measured"], &rows))
}

/// The chain of causes, each link measured beside predicted; and the minutes as CloudWatch has them.
fn steps(report: &Report) -> String {
    let rows: Vec<_> = report
        .steps
        .iter()
        .map(|step| {
            vec![
                Cell::text(step.what.clone()),
                Cell::text(step.predicted_text()),
                Cell::text(secs(step.measured_ms)),
                Cell::text(step.answer.map_or("", |answer| answer.word())),
            ]
        })
        .collect();
    let heads = ["step", "predicted", "measured", "as predicted"];
    let mut html = section(
        "From the load to the new instance and back",
        &table("Times since the load began", &heads, &rows),
    );
    let rows: Vec<_> = report
        .minutes
        .iter()
        .map(|minute| {
            vec![
                Cell::text(minute.start.clone()),
                Cell::text(format!("{:.1} %", minute.busy_pct)),
                Cell::text(format!("{:.1} %", minute.steal_pct)),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let caption = "CPUUtilization of this instance, a full minute each, as CloudWatch has it with detailed monitoring";
        html.push_str(&section("The minutes", &table(caption, &["minute", "busy", "stolen"], &rows)));
    }
    html
}

fn timeline(report: &Report, book: &Book) -> String {
    let end = report.phases.iter().map(|phase| phase.end_ms).fold(1.0, f64::max);
    let scale = Scale { end: Duration::from_secs_f64(end / 1e3), started: started(&report.facts.about) };
    let at = |ms: Option<f64>| ms.map(|ms| Duration::from_secs_f64(ms / 1e3));
    let marks: Vec<Duration> = [at(report.load_ms), at(report.unloaded_ms)].into_iter().flatten().collect();
    let usual = Duration::from_secs(1) / report.facts.about.rps.max(1);
    let mut html = String::new();
    if !report.curve.is_empty() {
        let bars: Vec<_> = report
            .curve
            .iter()
            .map(|point| {
                let time = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
                (time(point.from_ms), time(point.to_ms), point.busy_pct)
            })
            .collect();
        let most = report.curve.iter().map(|point| point.busy_pct).fold(0.0, f64::max);
        html.push_str(&scale.bars("CPU of this host", &format!("{most:.0} % at most"), &bars, "value"));
    }
    let each = usual * u32::try_from(report.scaled.instances.len()).unwrap_or(1).max(1);
    let rows = Rows::of(book, (usual, each), scale.end);
    for (node, row) in report.nodes.iter().zip(&rows.nodes) {
        html.push_str(&scale.requests(&node.node, &format!("{} errors", node.errors), row, &marks));
    }
    for (stay, row) in report.scaled.instances.iter().zip(&rows.instances) {
        html.push_str(&scale.requests(&stay.instance, &summary(stay), row, &marks));
    }
    html.push_str(&scale.axis());
    html.push_str(&legend(&[]));
    html.push_str(&paragraph("The dashed lines: the load began and ended."));
    section("Timeline", &html)
}

fn summary(stay: &Stay) -> String {
    let came = if stay.before {
        "there before".to_owned()
    } else {
        format!("came after {}", secs(Some(stay.came_after_ms)))
    };
    stay.gone_after_ms.map_or(came.clone(), |gone| format!("{came}, gone after {}", secs(Some(gone))))
}

fn tables(report: &Report) -> String {
    let stay = |stay: &Stay| {
        let came = if stay.before { "before".to_owned() } else { secs(Some(stay.came_after_ms)) };
        vec![
            Cell::text(stay.instance.clone()),
            Cell::text(stay.answers.to_string()),
            Cell::keyed(came, "came_after_ms"),
            Cell::keyed(secs(stay.gone_after_ms), "gone_after_ms"),
            Cell::text(format!("{:.0} %", stay.share_pct)),
        ]
    };
    let rows: Vec<_> = report.scaled.instances.iter().map(stay).collect();
    let heads = ["instance", "answers", "came", "gone", "share of answers"];
    let mut html = section(
        "Instances",
        &table("Times since the load began; shares are of the time that it was there", &heads, &rows),
    );
    let node = |node: &crate::drill::analysis::scale::NodeReport| {
        let failures: Vec<String> =
            node.failures.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
        vec![
            Cell::text(node.node.clone()),
            Cell::text(node.requests.to_string()),
            Cell::text(node.errors.to_string()),
            Cell::text(failures.join(", ")),
        ]
    };
    let rows: Vec<_> = report.nodes.iter().map(node).collect();
    html.push_str(&section(
        "Addresses",
        &table("Each address of the load balancer", &["address", "requests", "errors", "failed with"], &rows),
    ));
    html
}
