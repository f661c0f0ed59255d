//! The parts of the picture: each is what one thing says of itself.

use super::clients::Row as ClientRow;
use super::coming::coming;
use super::facts::{Facts, Node, clock};
use super::frame::{Look, inner};
use super::model::Model;
use super::picture::{Line, Tone, clean};
use super::rows::{Axis, Cells, cloudwatch, hms};
use super::standing::Standing;
use crate::drill::analysis::report::Source;
use crate::serve::history::CELL_SECS;

/// The verdict in a word.
pub fn verdict(facts: &Facts) -> &'static str {
    if facts.healthy { "HEALTHY" } else { "UNHEALTHY" }
}

/// Who this is.
pub fn title(model: &Model) -> String {
    let Some(facts) = &model.facts else { return "agent watch · no daemon".to_owned() };
    let known = [&facts.instance, &facts.zone, &facts.kind, &facts.lifecycle];
    let known = known.into_iter().filter(|text| !matches!(text.as_str(), "" | "none" | "unknown"));
    let mut title = vec!["agent watch".to_owned()];
    title.extend(known.cloned());
    title.push(format!("up {}", clock(facts.up_ms / 1000)));
    title.join(" · ")
}

/// The verdict, since when, and why.
pub fn head(model: &Model, look: &Look) -> Line {
    let mut line = Line::default();
    match (&model.facts, &model.no_daemon) {
        (_, Some(why)) => {
            line.push("NO DAEMON", Tone::Warn);
            line.push(
                format!("  {}: CPU alone is shown; start it with `agent serve`", clean(why)),
                Tone::Plain,
            );
        }
        (Some(facts), None) => {
            let tone = if facts.healthy { Tone::Good } else { Tone::Bad };
            line.push(verdict(facts), tone);
            if let Some(since) = facts.since_ms {
                line.push(format!(" {}", clock(since / 1000)), tone);
            }
            line.push(format!("   {}", facts.cause), Tone::Plain);
        }
        (None, None) => line.push("asking the daemon", Tone::Dim),
    }
    inner(line, look)
}

/// CPU, CloudWatch's minutes, a stress.
pub fn load(model: &Model, axis: &Axis) -> Vec<Line> {
    let cells = Cells::new(model, axis.span);
    let busy = model.cpu.map_or("not known yet".to_owned(), |cpu| match cpu.steal_pct {
        steal if steal >= 0.5 => format!("{:.0} % busy, {steal:.0} % stolen", cpu.busy_pct),
        _ => match model.facts.as_ref().and_then(|facts| facts.baseline_pct) {
            Some(baseline) => format!("{:.0} % busy, baseline {baseline} %", cpu.busy_pct),
            None => format!("{:.0} % busy", cpu.busy_pct),
        },
    });
    let stress = model.facts.iter().flat_map(|facts| &facts.stress).next();
    vec![
        axis.row("CPU, host", |at| cells.cpu(axis.charset, at), &busy, Tone::Plain),
        cloudwatch(model, axis),
        axis.row(
            "stress",
            |at| cells.lasted(at, Tone::Warn, |cell| cell.stress),
            stress.map_or("none", String::as_str),
            Tone::Plain,
        ),
    ]
}

/// How often probes come.
pub fn probes_title(model: &Model) -> String {
    match model.facts.as_ref().and_then(|facts| facts.expected_ms) {
        Some(ms) => format!("probes, every {} s", ms as f64 / 1000.0),
        None => "probes".to_owned(),
    }
}

/// The thresholds of the target group's health check: `F 2, H 5 (assumed)`.
pub fn thresholds(model: &Model) -> String {
    let Some((check, sources)) = &model.asked.check else { return String::new() };
    let assumed = |source: Source| if source == Source::Assumed { " (assumed)" } else { "" };
    let (f, h) = (assumed(sources.unhealthy), assumed(sources.healthy));
    // Said once where it is so of both.
    let f = if f == h { "" } else { f };
    format!("F {}{f}, H {}{h}", check.unhealthy, check.healthy)
}

fn standing(model: &Model, place: usize) -> Standing {
    let Some((check, _)) = &model.asked.check else { return Standing::default() };
    Standing::of(&model.history, place, check.unhealthy, check.healthy)
}

/// What is to be said of a node. Whether it has taken this target out is inferred from its probes.
fn node_words(node: &Node, standing: Standing) -> (String, Tone) {
    match (standing, node.on_time, node.missed) {
        (Standing::Out { failed, good: 0, .. }, ..) => (format!("{failed} failed: OUT"), Tone::Bad),
        (Standing::Out { good, needed, .. }, ..) => (format!("OUT, {good} of {needed} came"), Tone::Warn),
        (_, Some(false), 0) => ("out of rhythm".to_owned(), Tone::Bad),
        (_, Some(false), missed) => (format!("{missed} missing"), Tone::Bad),
        (_, _, 0) if node.count.not_ok > 0 => (format!("{} not 2xx", node.count.not_ok), Tone::Warn),
        (_, _, missed) if missed > 0 => (format!("{missed} missing"), Tone::Warn),
        _ => match node.p50_ms {
            Some(ms) => {
                let code = node.code.map_or(String::new(), |code| format!(", {code}"));
                (format!("every {:.2} s{code}", ms as f64 / 1000.0), Tone::Plain)
            }
            None => (format!("{} probes", node.count.probes), Tone::Plain),
        },
    }
}

/// Nodes, nginx, `/health`, a fault.
pub fn probes(model: &Model, axis: &Axis, look: &Look) -> Vec<Line> {
    let cells = Cells::new(model, axis.span);
    let facts = model.facts.as_ref();
    let mut lines = Vec::new();
    // Where there is little room, two rows of nodes are shown and the rest is counted.
    let room = look.height.map_or(8, |height| height.saturating_sub(14)).max(2);
    let nodes = facts.map_or(&[][..], |facts| facts.nodes.as_slice());
    for node in nodes.iter().take(room) {
        let place = model.history.nodes.iter().position(|name| *name == node.count.node);
        let standing = place.map_or(Standing::default(), |place| standing(model, place));
        let (words, tone) = node_words(node, standing);
        let cell = |at| place.map_or((' ', Tone::Plain), |place| cells.node(at, place));
        lines.push(axis.row(&node.count.node, cell, &words, tone));
    }
    if nodes.len() > room {
        lines.push(axis.row(
            "",
            |_| (' ', Tone::Plain),
            &format!("and {} more nodes", nodes.len() - room),
            Tone::Dim,
        ));
    }
    if nodes.is_empty() {
        let why = facts.map_or("", |facts| facts.probes.as_str());
        lines.push(Line::of(axis.charset.text(&format!("no probes     {why}")), Tone::Dim));
    }
    let up = facts.and_then(|facts| facts.nginx_up);
    let words = match up {
        Some(true) => match model.traffic.others_a_second(model.now) {
            Some(rate) => format!("answers; others {rate:.1}/s"),
            None => "answers".to_owned(),
        },
        Some(false) => facts.map(|facts| facts.nginx.clone()).unwrap_or_default(),
        None => "not asked".to_owned(),
    };
    let tone = |good: Option<bool>| if good == Some(false) { Tone::Bad } else { Tone::Plain };
    lines.push(axis.row("nginx check", |at| cells.held(at, |cell| cell.nginx), &words, tone(up)));
    for (name, detail, tone) in facts.iter().flat_map(|facts| &facts.unwell) {
        lines.push(axis.row(name, |_| (' ', Tone::Plain), detail, *tone));
    }
    let healthy = facts.map(|facts| facts.healthy);
    let says = healthy.map_or("", |healthy| if healthy { "200" } else { "503" });
    lines.push(axis.row("/health says", |at| cells.held(at, |cell| cell.health), says, tone(healthy)));
    let (words, tone) = match facts.and_then(|facts| facts.fault.as_ref()) {
        Some(fault) if fault.overdue => (format!("{}, overdue", fault.mode), Tone::Bad),
        Some(fault) => (format!("{}, {} s left", fault.mode, fault.remaining_ms / 1000), Tone::Warn),
        None => ("none".to_owned(), Tone::Plain),
    };
    lines.push(axis.row(
        "fault",
        |at| cells.lasted(at, Tone::Bad, |cell| cell.fault.is_some()),
        &words,
        tone,
    ));
    lines
}

/// What clients get, by node and by instance.
pub fn clients(model: &Model, axis: &Axis) -> Vec<Line> {
    let cells = Cells::new(model, axis.span);
    let us = model.facts.as_ref().map(|facts| facts.instance.as_str()).unwrap_or_default();
    let node = |row: &ClientRow| match &row.failing {
        Some((error, times)) => (format!("{error} x{times}"), Tone::Bad),
        None => ("answers".to_owned(), Tone::Plain),
    };
    let instance = |row: &ClientRow| match model.now - row.last {
        quiet if quiet > 2 * CELL_SECS => (format!("not since {}", hms(row.last)), Tone::Warn),
        _ => ("in use".to_owned(), Tone::Plain),
    };
    let mut lines = Vec::new();
    for row in &model.clients.nodes {
        let (words, tone) = node(row);
        lines.push(axis.row(&row.name, |at| cells.clients(at, row), &words, tone));
    }
    for row in &model.clients.instances {
        let (words, tone) = instance(row);
        // The end of an id tells instances apart.
        let tail: String = row.name.chars().rev().take(10).collect::<Vec<_>>().into_iter().rev().collect();
        let ours = if row.name == us { " *" } else { "" };
        lines.push(axis.row(&format!("{tail}{ours}"), |at| cells.clients(at, row), &words, tone));
    }
    lines
}

/// How many of them failed.
pub fn errors(model: &Model) -> String {
    match (model.clients.outage_since, model.clients.error_pct(model.now)) {
        (Some(since), _) => format!("outage for {} s", model.now - since),
        (None, Some(pct)) => format!("{pct:.1} % failed in the last minute"),
        (None, None) => "no answer yet".to_owned(),
    }
}

/// What happened, and beside it what should.
pub fn happened(model: &Model, width: usize, room: usize) -> Vec<Line> {
    let left = width * 3 / 5;
    let mut coming = coming(model).into_iter();
    let mut past = model.happened.iter().rev().take(room);
    let mut lines = Vec::new();
    for _ in 0..room {
        let (past, next) = (past.next(), coming.next());
        if past.is_none() && next.is_none() {
            break;
        }
        let mut line = match past {
            Some(event) => {
                let mut line = Line::of(format!("{} {:<8}", hms(event.at), event.what), Tone::Dim);
                line.push(event.text.clone(), Tone::Plain);
                line.fit(left - 1, ' ')
            }
            None => Line::default().fit(left - 1, ' '),
        };
        line.push(" ", Tone::Plain);
        line.push(next.unwrap_or_default(), Tone::Plain);
        lines.push(line);
    }
    lines
}
