//! The picture: head, load, probes, clients, what happened, keys; as much of it as there is room for.

use super::frame::{Look, Pane, border, framed, inner};
use super::model::Model;
use super::panels::{
    clients, errors, happened, head, load, probes, probes_title, thresholds, title, verdict,
};
use super::picture::{Line, Picture, Tone, clean};
use super::rows::{Axis, hms};
use crate::serve::history::CELL_SECS;

/// Below this there is one line.
const LEAST: (usize, usize) = (60, 16);

/// Draws the model.
pub fn picture(model: &Model, look: &Look) -> Picture {
    let small = look.width < LEAST.0 || look.height.is_some_and(|height| height < LEAST.1);
    let mut lines = match () {
        () if look.help => framed("agent watch · help", help(), "? back", look),
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
        lines.push(border(look, '├', &probes_title(model), &thresholds(model), '┤'));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::clients::Answer;
    use super::super::facts::{Facts, Fault, Node};
    use super::super::picture::Charset;
    use super::*;
    use crate::drill::analysis::group::Group;
    use crate::drill::analysis::predict::{Check, Via};
    use crate::drill::analysis::report::{Source, Sources};
    use crate::fault::Mode;
    use crate::serve::history::NodeCount;
    use crate::sys::cpu::CpuShare;

    fn look(width: usize, height: usize, charset: Charset) -> Look {
        let (span, back, held, pane, help) = (5, 0, false, Pane::All, false);
        Look { width, height: Some(height), charset, span, back, held, pane, help }
    }

    /// Ten minutes in which a stress begins, and nginx is stopped for the last half minute.
    fn story() -> Model {
        let mut model = Model::default();
        let (second, assumed) = (Duration::from_secs(1), Source::Assumed);
        let (via, group) = (Via::Nginx, Group::default());
        let check = Check { interval: 5 * second, timeout: second, healthy: 5, unhealthy: 2, via, group };
        let sources = Sources {
            interval: assumed,
            timeout: assumed,
            healthy: assumed,
            unhealthy: assumed,
            routing_min: assumed,
        };
        model.asked.check = Some((check, sources));
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
                fault: down.then(|| Fault {
                    mode: "stop".into(),
                    kind: Some(Mode::Stop),
                    elapsed_ms: (second - 570) as u64 * 1000,
                    remaining_ms: 18_000,
                    ..Fault::default()
                }),
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
            "F 2, H 5 (assumed)",
            "______  6 failed: OUT",
            "stop, 18 s left",
            "502 x30",
            "outage for 29 s",
            "/health says 503",
            "stop ends",
            "in use again 22:",
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
