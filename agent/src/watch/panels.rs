//! The picture: head, load, probes, clients, what happened, keys; as much of it as there is room for.

use super::clients::Row as ClientRow;
use super::facts::{Facts, clock};
use super::model::Model;
use super::picture::{Charset, Line, Picture, Tone, clean};
use super::rows::{Axis, Cells, cloudwatch, hms, hour_minute};
use crate::serve::history::CELL_SECS;

/// Below this there is one line.
const LEAST: (usize, usize) = (60, 16);
/// Spans of a cell that can be chosen, in seconds.
pub const SPANS: [i64; 5] = [CELL_SECS, 10, 30, 60, 300];

/// A part that can stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// All of them.
    #[default]
    All,
    /// The load.
    Load,
    /// Probes, nginx, health, fault.
    Probes,
    /// Through the load balancer.
    Clients,
    /// What happened.
    Happened,
}

impl Pane {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::All => Self::Load,
            Self::Load => Self::Probes,
            Self::Probes => Self::Clients,
            Self::Clients => Self::Happened,
            Self::Happened => Self::All,
        }
    }
}

/// How the model is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Lines; `None` for as many as it takes.
    pub height: Option<usize>,
    /// What can be shown.
    pub charset: Charset,
    /// Seconds a cell.
    pub span: i64,
    /// How many seconds the picture ends before now.
    pub back: i64,
    /// Whether it is held.
    pub held: bool,
    /// Which part.
    pub pane: Pane,
    /// Whether the keys are explained instead.
    pub help: bool,
}

/// Draws the model.
pub fn picture(model: &Model, look: &Look) -> Picture {
    let small = look.width < LEAST.0 || look.height.is_some_and(|height| height < LEAST.1);
    let mut lines = match () {
        () if look.help => framed(help(), look),
        () if small => vec![Line::of(look.charset.text(&one_line(model)), Tone::Plain).fit(look.width, ' ')],
        () => all(model, look),
    };
    if let Some(height) = look.height {
        lines.truncate(height);
        lines.resize_with(height, || Line::default().fit(look.width, ' '));
    }
    Picture { lines }
}

/// The state in one line, for a screen that has no room and for a reader that reads aloud.
fn one_line(model: &Model) -> String {
    let cpu = model.cpu.map(|cpu| format!("CPU {:.0} %", cpu.busy_pct));
    let Some(facts) = &model.facts else {
        let why = model.no_daemon.as_deref().unwrap_or("not asked yet");
        return format!("no daemon: {} {}", clean(why), cpu.unwrap_or_default());
    };
    let mut parts = vec![verdict(facts).to_owned(), facts.instance.clone()];
    parts.extend(
        facts.fault.as_ref().map(|fault| format!("{} {} s left", fault.mode, fault.remaining_ms / 1000)),
    );
    parts.extend(cpu);
    parts.push(facts.probes.clone());
    parts.join(" · ")
}

fn verdict(facts: &Facts) -> &'static str {
    if facts.healthy { "HEALTHY" } else { "UNHEALTHY" }
}

fn all(model: &Model, look: &Look) -> Vec<Line> {
    let inside = look.width - 4;
    let axis = Axis::new(inside, look.span, model.cell(look.span) - look.back, look.charset);
    let shows = |pane: Pane| look.pane == Pane::All || look.pane == pane;
    let mut lines =
        vec![border(look, '┌', &title(model), &format!("{} UTC", hms(model.now)), '┐'), head(model, look)];
    let unit = match look.span {
        CELL_SECS => "one cell = 5 s = one probe".to_owned(),
        span => format!("one cell = {} s", span),
    };
    let now = if look.back > 0 { format!("{} s ago", look.back) } else { "now".to_owned() };
    let held = if look.held { "held" } else { &now };
    lines.push(border(look, '├', &unit, held, '┤'));
    lines.push(inner(axis.times(model.now), look));
    if shows(Pane::Load) {
        lines.extend(load(model, &axis).into_iter().map(|line| inner(line, look)));
    }
    if shows(Pane::Probes) {
        lines.push(border(look, '├', &probes_title(model), "", '┤'));
        lines.extend(probes(model, &axis, look).into_iter().map(|line| inner(line, look)));
    }
    let keys = border(
        look,
        '└',
        "q quit · space hold · ←→ back · +- cell · tab pane · w save · ? help",
        "only looks",
        '┘',
    );
    let room = look.height.map_or(usize::MAX, |height| height.saturating_sub(lines.len() + 1));
    let clients = clients(model, &axis);
    let wide = look.width >= 100 || look.pane == Pane::Clients;
    if shows(Pane::Clients) && !clients.is_empty() && wide && room > 2 {
        let url = model.asked.url.as_deref().unwrap_or_default();
        lines.push(border(look, '├', &format!("clients, {}", clean(url)), &errors(model), '┤'));
        lines.extend(clients.into_iter().take(room - 1).map(|line| inner(line, look)));
    }
    let room = look.height.map_or(8, |height| height.saturating_sub(lines.len() + 1));
    if shows(Pane::Happened) && room > 1 {
        lines.push(border(look, '├', "happened", "should happen", '┤'));
        lines.extend(happened(model, inside, room - 1).into_iter().map(|line| inner(line, look)));
    }
    let room = look.height.map_or(0, |height| height.saturating_sub(lines.len() + 1));
    lines.extend((0..room).map(|_| inner(Line::default(), look)));
    // The keys stay whatever has to go.
    if let Some(height) = look.height {
        lines.truncate(height.saturating_sub(1));
    }
    lines.push(keys);
    lines
}

fn title(model: &Model) -> String {
    let Some(facts) = &model.facts else { return "agent watch · no daemon".to_owned() };
    let known = [&facts.instance, &facts.zone, &facts.kind, &facts.lifecycle];
    let known = known.into_iter().filter(|text| !matches!(text.as_str(), "" | "none" | "unknown"));
    let mut title = vec!["agent watch".to_owned()];
    title.extend(known.cloned());
    title.push(format!("up {}", clock(facts.up_ms / 1000)));
    title.join(" · ")
}

fn head(model: &Model, look: &Look) -> Line {
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

fn load(model: &Model, axis: &Axis) -> Vec<Line> {
    let cells = Cells::new(model, axis.span);
    let busy = model.cpu.map_or("not known yet".to_owned(), |cpu| match cpu.steal_pct {
        steal if steal >= 0.5 => format!("{:.0} % busy, {steal:.0} % stolen", cpu.busy_pct),
        _ => format!("{:.0} % busy", cpu.busy_pct),
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

fn probes_title(model: &Model) -> String {
    match model.facts.as_ref().and_then(|facts| facts.expected_ms) {
        Some(ms) => format!("probes, every {} s", ms as f64 / 1000.0),
        None => "probes".to_owned(),
    }
}

fn probes(model: &Model, axis: &Axis, look: &Look) -> Vec<Line> {
    let cells = Cells::new(model, axis.span);
    let facts = model.facts.as_ref();
    let mut lines = Vec::new();
    // Where there is little room, two rows of nodes are shown and the rest is counted.
    let room = look.height.map_or(8, |height| height.saturating_sub(14)).max(2);
    let nodes = facts.map_or(&[][..], |facts| facts.nodes.as_slice());
    for node in nodes.iter().take(room) {
        let place = model.history.nodes.iter().position(|name| *name == node.count.node);
        let (words, tone) = match (node.on_time, node.missed) {
            (Some(false), 0) => ("out of rhythm".to_owned(), Tone::Bad),
            (Some(false), missed) => (format!("{missed} missing"), Tone::Bad),
            (_, 0) if node.count.not_ok > 0 => (format!("{} not 2xx", node.count.not_ok), Tone::Warn),
            (_, missed) if missed > 0 => (format!("{missed} missing"), Tone::Warn),
            _ => match node.p50_ms {
                Some(ms) => {
                    let code = node.code.map_or(String::new(), |code| format!(", {code}"));
                    (format!("every {:.2} s{code}", ms as f64 / 1000.0), Tone::Plain)
                }
                None => (format!("{} probes", node.count.probes), Tone::Plain),
            },
        };
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
        Some(true) => "answers".to_owned(),
        Some(false) => facts.map(|facts| facts.nginx.clone()).unwrap_or_default(),
        None => "not asked".to_owned(),
    };
    let tone = |good: Option<bool>| if good == Some(false) { Tone::Bad } else { Tone::Plain };
    lines.push(axis.row("nginx check", |at| cells.held(at, |cell| cell.nginx), &words, tone(up)));
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

fn clients(model: &Model, axis: &Axis) -> Vec<Line> {
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

fn errors(model: &Model) -> String {
    match (model.clients.outage_since, model.clients.error_pct(model.now)) {
        (Some(since), _) => format!("outage for {} s", model.now - since),
        (None, Some(pct)) => format!("{pct:.1} % failed in the last minute"),
        (None, None) => "no answer yet".to_owned(),
    }
}

fn happened(model: &Model, width: usize, room: usize) -> Vec<Line> {
    let left = width * 3 / 5;
    let mut coming = should_happen(model).into_iter();
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

/// What follows from what is known; what is assumed says so.
fn should_happen(model: &Model) -> Vec<String> {
    let mut coming = Vec::new();
    if let Some(fault) = model.facts.as_ref().and_then(|facts| facts.fault.as_ref()) {
        let end = model.now + i64::try_from(fault.remaining_ms / 1000).unwrap_or(0);
        coming.push(format!("{} ends {}", fault.mode, hms(end)));
        if let Some(interval) = model.facts.as_ref().and_then(|facts| facts.expected_ms) {
            // "Health checks for your target groups": a target is back after its healthy threshold of probes, 5 by
            // default, https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
            let most = end + 5 * interval / 1000;
            coming.push(format!("in use again by {} (H 5 assumed)", hms(most)));
        }
    }
    if let Some(pct) = model.asked.alarm_pct {
        let all = super::minutes::minutes(&model.history);
        let have = super::minutes::in_a_row(&all, pct);
        let needed = super::minutes::DATAPOINTS;
        let running = all.last().filter(|minute| !minute.whole && f64::from(minute.busy_pct) > pct);
        match (have >= needed, running) {
            (true, _) => coming.push(format!("alarm: {needed} datapoints above {pct} %")),
            (false, Some(minute)) => {
                let left = i64::try_from(needed - have).unwrap_or(0);
                coming.push(format!("alarm after {}, if it stays", hour_minute(minute.start + 60 * left)));
            }
            _ => {}
        }
    }
    coming
}

fn help() -> Vec<Line> {
    [
        "q, Ctrl-C   quit",
        "space       hold the picture; again: go on",
        "left right  look back in time, and forward again",
        "+ -         more or less time in a cell",
        "tab         one part alone, the next, all",
        "w           save the picture: agent-watch.txt and agent-watch.svg in this folder",
        "?           this page, and back",
        "",
        "Marks: · well   x failed   X all failed   _ a probe that did not come   █ lasting",
        "A cell shows the worst of its seconds. * is this instance. ~ is a minute that is not over.",
        "",
        "Nothing can be changed from here. In another shell, as root:",
        "  agent stress --cpu 1 --secs 600       load one CPU",
        "  agent fail --mode stop --secs 60      stop nginx for a minute",
        "  agent recover                         end a fault now",
    ]
    .map(|text| Line::of(text, Tone::Plain))
    .into()
}

fn framed(lines: Vec<Line>, look: &Look) -> Vec<Line> {
    let mut all = vec![border(look, '┌', "agent watch · help", "", '┐')];
    all.extend(lines.into_iter().map(|line| inner(line, look)));
    all.push(border(look, '└', "? back", "", '┘'));
    all
}

fn border(look: &Look, left: char, title: &str, right: &str, end: char) -> Line {
    let room = look.width.saturating_sub(4);
    let mut line = Line::of(format!("{left}─ "), Tone::Dim);
    let right: String = right.chars().take(room / 2).collect();
    let right_width = if right.is_empty() { 0 } else { right.chars().count() + 3 };
    let title: String = title.chars().take(room.saturating_sub(right_width + 1)).collect();
    line.push(title, Tone::Bold);
    line.push(" ", Tone::Dim);
    let mut line = line.fit(look.width.saturating_sub(right_width + 1), '─');
    if right_width > 0 {
        line.push(format!(" {right} ─"), Tone::Dim);
    }
    line.push(end.to_string(), Tone::Dim);
    in_charset(line, look.charset)
}

fn inner(line: Line, look: &Look) -> Line {
    let mut framed = Line::of("│ ", Tone::Dim);
    for run in line.0 {
        framed.push(run.text, run.tone);
    }
    let mut framed = framed.fit(look.width.saturating_sub(2), ' ');
    framed.push(" │", Tone::Dim);
    in_charset(framed, look.charset)
}

fn in_charset(mut line: Line, charset: Charset) -> Line {
    line.0.iter_mut().for_each(|run| run.text = charset.text(&run.text));
    line
}

#[cfg(test)]
mod tests {
    use super::super::clients::Answer;
    use super::super::facts::{Fault, Node};
    use super::*;
    use crate::serve::history::NodeCount;
    use crate::sys::cpu::CpuShare;

    fn look(width: usize, height: usize, charset: Charset) -> Look {
        let (span, back, held, pane, help) = (5, 0, false, Pane::All, false);
        Look { width, height: Some(height), charset, span, back, held, pane, help }
    }

    /// Ten minutes in which a stress begins, and nginx is stopped for the last half minute.
    fn story() -> Model {
        let mut model = Model::default();
        model.asked.alarm_pct = Some(50.0);
        model.asked.url = Some("http://alb.example/".into());
        let start = 1_699_999_980;
        for second in 0..600 {
            let now = start + second;
            let down = second >= 570;
            let probes = (second / 5) as u64;
            let count =
                |missed| NodeCount { node: "10.0.0.1".into(), probes: probes - missed, not_ok: 0, missed };
            let missed = if down { (second - 565) as u64 / 5 } else { 0 };
            let facts = Facts {
                instance: "i-0a5cade0000000001".into(),
                healthy: !down,
                cause: "nginx: refuses connections".into(),
                nginx_up: Some(!down),
                expected_ms: Some(5000),
                nodes: vec![Node { count: count(missed), missed, on_time: Some(!down), ..Node::default() }],
                fault: down.then(|| Fault { mode: "stop".into(), remaining_ms: 18_000, ..Fault::default() }),
                stress: if second > 300 { vec!["1 x 70 %, 5:48 left".into()] } else { vec![] },
                ..Facts::default()
            };
            let busy_pct = if second > 300 { 71.0 } else { 3.0 };
            model.observe(now, Some(CpuShare { busy_pct, steal_pct: 0.0 }), Ok(facts));
            let error = down.then(|| "502".to_owned());
            let instance = (!down).then(|| "i-0a5cade0000000001".to_owned());
            model.answered(&Answer { at: now, node: "52.18.4.7".into(), instance, error });
        }
        model
    }

    #[test]
    fn every_size_is_filled_exactly_and_shows_the_verdict() {
        let model = story();
        for width in (20..=200).step_by(7).chain([60, 79, 80, 100, 120]) {
            for height in [1, 10, 16, 24, 40, 100] {
                for charset in [Charset::Unicode, Charset::Ascii] {
                    let picture = picture(&model, &look(width, height, charset));
                    assert_eq!(picture.lines.len(), height);
                    assert!(picture.lines.iter().all(|line| line.width() == width), "{width}x{height}");
                    let text = picture.text();
                    assert!(text.contains("UNHEALTHY"), "{width}x{height}: {text}");
                    assert!(charset == Charset::Unicode || text.is_ascii(), "{width}x{height}: {text}");
                }
            }
        }
    }

    #[test]
    fn the_story_stands_in_the_picture() {
        let text = picture(&story(), &look(120, 40, Charset::Unicode)).text();
        for part in [
            "71 % busy",
            "3 of 3 > 50 %",
            "1 x 70 %, 5:48 left",
            "probes, every 5 s",
            "6 missing",
            "______  6 missing",
            "stop, 18 s left",
            "502 x30",
            "outage for 29 s",
            "/health says 503",
            "stop ends",
            "in use again by",
            "only looks",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn each_pane_stands_alone_and_the_clients_go_first_where_it_is_narrow() {
        let model = story();
        let shows = |pane, part: &str| {
            picture(&model, &Look { pane, ..look(120, 40, Charset::Ascii) }).text().contains(part)
        };
        assert!(shows(Pane::Load, "CloudWatch") && !shows(Pane::Load, "nginx check"));
        assert!(shows(Pane::Probes, "nginx check") && !shows(Pane::Probes, "CloudWatch"));
        assert!(shows(Pane::Clients, "52.18.4.7") && !shows(Pane::Clients, "nginx check"));
        assert!(shows(Pane::Happened, "/health says 503"));
        let narrow = picture(&model, &look(80, 24, Charset::Ascii)).text();
        assert!(!narrow.contains("clients, http") && narrow.contains("happened"), "{narrow}");
    }

    #[test]
    fn without_a_daemon_the_host_is_shown_and_it_is_said() {
        let mut model = Model::default();
        model.observe(1000, Some(CpuShare { busy_pct: 12.0, steal_pct: 3.0 }), Err("refused".into()));
        let text = picture(&model, &look(100, 30, Charset::Unicode)).text();
        assert!(text.contains("NO DAEMON  refused") && text.contains("12 % busy, 3 % stolen"), "{text}");
    }
}
