//! A drill for a pull request: Markdown that stands without anything else. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::evidence::bounds;
use super::report::Report;
use super::scale;
use super::verdict::{Verdict, secs};

/// Text off the network, or a URL, in a cell of a table: nothing in it begins markup or another cell.
fn cell(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '!' | '~' | '&' => {
                safe.push('\\');
                safe.push(c);
            }
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

fn time(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), |ms| secs(Duration::from_secs_f64(ms / 1e3)))
}

/// A question, its answer, and each reason with its own.
fn ask(text: &mut String, question: &str, verdict: Option<&Verdict>) {
    let Some(verdict) = verdict else { return };
    let _ = writeln!(text, "| {question} | **{}** |", verdict.answer.word());
    for reason in &verdict.reasons {
        let (about, answer, why) = (cell(&reason.about), reason.answer.word(), cell(&reason.text));
        let _ = writeln!(text, "| {about} | {answer}: {why} |");
    }
    if let Some(hint) = &verdict.hint {
        let _ = writeln!(text, "| | {} |", cell(hint));
    }
}

/// A drill of scaling.
pub fn scale(report: &scale::Report) -> String {
    let (facts, scaled) = (&report.facts, &report.scaled);
    let about = &facts.about;
    let mut text = format!(
        "## Drill: scaling, {} % for {} s\n\n{} · {}\n\n| | |\n|---|---|\n",
        facts.target_pct,
        facts.secs,
        cell(&about.url),
        about.started
    );
    ask(&mut text, "Scaled out?", Some(&report.verdicts.out));
    ask(&mut text, "Scaled in again?", Some(&report.verdicts.back));
    ask(&mut text, "As predicted?", report.verdicts.hypothesis.as_ref());
    text.push_str("\n| since the load began | predicted | measured | as predicted |\n|---|---:|---:|---|\n");
    for step in &report.steps {
        let answer = step.answer.map_or("", |answer| answer.word());
        let (predicted, measured) = (step.predicted_text(), time(step.measured_ms));
        let _ = writeln!(text, "| {} | {predicted} | {measured} | {answer} |", cell(&step.what));
    }
    text.push_str("\n| instance | answers | share | came | gone |\n|---|---:|---:|---:|---:|\n");
    for stay in &scaled.instances {
        let came = if stay.before { "before".to_owned() } else { time(Some(stay.came_after_ms)) };
        let (name, gone) = (cell(&stay.instance), time(stay.gone_after_ms));
        let _ = writeln!(text, "| {name} | {} | {:.0} % | {came} | {gone} |", stay.answers, stay.share_pct);
    }
    if !report.minutes.is_empty() {
        text.push_str("\n| minute | busy |\n|---|---:|\n");
    }
    for minute in &report.minutes {
        let _ = writeln!(text, "| {} | {:.1} % |", minute.start, minute.busy_pct);
    }
    let _ = writeln!(text, "\n{} requests, {} failed.", scaled.requests, scaled.errors);
    text
}

/// A target that failed.
pub fn failover(report: &Report) -> String {
    let facts = &report.facts;
    let what = if facts.observed {
        "observed".to_owned()
    } else {
        format!("{} for {} s", facts.mode.name(), facts.secs)
    };
    let mut text = format!("## Drill: {what}\n\n{} · {}\n\n", cell(&facts.about.url), facts.about.started);
    text.push_str("| | |\n|---|---|\n");
    ask(&mut text, "As predicted?", Some(&report.hypothesis));
    ask(&mut text, "Cleaned up?", report.cleanup.as_ref());
    ask(&mut text, "Safe?", Some(&report.safety));
    ask(&mut text, "No worse than before?", report.regression.as_ref());
    text.push_str("\n| | measured | predicted |\n|---|---:|---:|\n");
    let predicted = report.predicted.as_ref();
    let outage = predicted
        .map_or_else(|| "–".to_owned(), |one| if one.visible { bounds(&one.outage) } else { "none".into() });
    let back = predicted.map_or_else(|| "–".to_owned(), |one| bounds(&one.readmission));
    let _ = writeln!(text, "| outage | {} | {outage} |", time(report.outage_ms));
    let _ = writeln!(text, "| back in use | {} | {back} |", time(report.readmitted_after_ms));
    let _ = writeln!(text, "| requests | {} | |\n| errors | {} | |", report.requests, report.errors);
    text.push_str(
        "\n| address | requests | errors | outage | drained | back |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for node in &report.nodes {
        let short = |value: Option<Duration>| value.map_or_else(|| "–".to_owned(), secs);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            cell(&node.node),
            node.requests,
            node.errors,
            short(node.outage),
            short(node.drained_after),
            short(node.readmitted_after)
        );
    }
    if let Some(comparison) = &report.comparison {
        let when = comparison.started.as_deref().unwrap_or("an earlier drill");
        let _ = writeln!(text, "\n| | {} | now | |\n|---|---:|---:|---|", cell(when));
        for item in &comparison.items {
            let (before, now) = (super::compare::shown(&item.before), super::compare::shown(&item.now));
            let worse = if item.regressed { "**worse**" } else { "" };
            let _ = writeln!(text, "| {} | {} | {} | {worse} |", cell(&item.what), cell(&before), cell(&now));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_off_the_network_is_text_in_a_table() {
        assert_eq!(cell("a|b\n<i>`x`"), "a\\|b \\<i\\>\\`x\\`");
    }
}
