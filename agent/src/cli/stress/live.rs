//! The line that is redrawn each second: what fits into one row of the terminal.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::process::getpgrp;
use rustix::termios::{isatty, tcgetpgrp, tcgetwinsize};

use super::spoken;

/// Seconds in the small graph.
const GRAPH: usize = 8;
/// Characters of the bar.
const BAR: usize = 10;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// A line that is redrawn; with more than ASCII or not.
    Live { unicode: bool },
    /// A line every ten seconds: no terminal, or one that can't go back.
    Lines,
    /// Nothing: we are in the background of a terminal that somebody else uses, or programs read us on it.
    Nothing,
}

/// What stderr can show now; a job may go to the background and come back.
pub(super) fn show(json: bool) -> Show {
    let stderr = std::io::stderr();
    if !isatty(&stderr) {
        return Show::Lines;
    }
    if json || tcgetpgrp(&stderr).is_ok_and(|group| group != getpgrp()) {
        return Show::Nothing;
    }
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    if variable("TERM").is_none_or(|term| term == "dumb") {
        return Show::Lines;
    }
    // setlocale(3): the first of them that is set.
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).unwrap_or_default().to_lowercase();
    Show::Live { unicode: locale.contains("utf-8") || locale.contains("utf8") }
}

/// The columns of a terminal, and 80 where there is none.
pub(super) fn width_of(out: &impl AsFd) -> usize {
    let columns = if isatty(out) { tcgetwinsize(out).map_or(0, |size| usize::from(size.ws_col)) } else { 0 };
    if columns == 0 { 80 } else { columns.max(20) }
}

/// What there is to show of a second.
#[derive(Debug, Clone)]
pub(super) struct Second<'a> {
    pub(super) elapsed: Duration,
    pub(super) total: Option<Duration>,
    pub(super) worker_pct: f64,
    pub(super) busy_pct: f64,
    pub(super) steal_pct: f64,
    /// The host of the last seconds.
    pub(super) recent: &'a [f64],
    /// "2 of 3 minutes above 30 %", and how it looks where there is little room.
    pub(super) alarm: Option<(String, String)>,
}

/// Keeps the last seconds.
pub(super) fn remember(recent: &mut Vec<f64>, busy: f64) {
    if recent.len() == GRAPH {
        recent.remove(0);
    }
    recent.push(busy);
}

/// One row of less than `width` columns.
pub(super) fn line(second: &Second<'_>, width: usize, unicode: bool) -> String {
    let whole = |time: Duration| Duration::from_secs(time.as_secs());
    let elapsed = spoken(whole(second.elapsed));
    let time = match second.total {
        Some(total) => format!("{elapsed} of {}", spoken(total)),
        None => elapsed.clone(),
    };
    let left = second.total.map(|total| whole(total.saturating_sub(second.elapsed)));
    let bar = second.total.map_or_else(String::new, |total| bar(second.elapsed, total));
    let host = format!("host {:.1} %", second.busy_pct);
    let workers = format!("workers {:.0} %", second.worker_pct);
    let steal = format!("steal {:.1} %", second.steal_pct);
    let graph = graph(second.recent, unicode);
    let (alarm, short) = second.alarm.clone().unwrap_or_default();
    // Who waits for an alarm wants to know how long it still takes.
    let time = match left.filter(|_| !alarm.is_empty()) {
        Some(left) => format!("{elapsed}, {} left", spoken(left)),
        None => time,
    };
    let dot = if unicode { " · " } else { " | " };
    // From all there is to the least.
    let forms: [&[&str]; 6] = [
        &[&bar, &time, &workers, &host, &steal, &alarm, &graph],
        &[&time, &workers, &host, &steal, &alarm],
        &[&time, &host, &steal, &alarm],
        &[&time, &host, &short],
        &[&elapsed, &host, &short],
        &[&elapsed, &host],
    ];
    let join = |form: &[&str]| {
        let parts: Vec<&str> = form.iter().copied().filter(|part| !part.is_empty()).collect();
        parts.join(dot)
    };
    // A row that is full to its last column may wrap.
    let fits = forms.iter().map(|form| join(form)).find(|line| line.chars().count() < width);
    fits.unwrap_or_else(|| host.chars().take(width.saturating_sub(1)).collect())
}

fn bar(elapsed: Duration, total: Duration) -> String {
    let part = (elapsed.as_secs_f64() / total.as_secs_f64().max(1e-3)).min(1.0);
    let full = (part * BAR as f64).round() as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR.saturating_sub(full)))
}

/// One character a second, from nothing to 100 %.
fn graph(values: &[f64], unicode: bool) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 8] = ['_', '.', ',', '-', '=', '+', '*', '#'];
    let levels = if unicode { BLOCKS } else { ASCII };
    let level =
        |value: &f64| levels.get((value / 100.0 * 7.0).round() as usize).copied().unwrap_or(levels[7]);
    values.iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(alarm: bool) -> Second<'static> {
        Second {
            elapsed: Duration::from_millis(185_400),
            total: Some(Duration::from_secs(86_400)),
            worker_pct: 99.7,
            busy_pct: 100.0,
            steal_pct: 12.3,
            recent: &[0.0, 50.0, 100.0, 100.0],
            alarm: alarm.then(|| ("2 of 3 minutes above 30.0 %".to_owned(), "2/3".to_owned())),
        }
    }

    #[test]
    fn one_row_at_any_width() {
        for width in 20..200 {
            for alarm in [false, true] {
                for unicode in [false, true] {
                    let line = line(&second(alarm), width, unicode);
                    assert!(line.chars().count() < width && line.contains("host"), "{width}: {line}");
                    assert!(unicode || line.is_ascii(), "{line}");
                }
            }
        }
        let usual = line(&second(true), 80, true);
        assert!(
            usual.contains("2 of 3 minutes above 30.0 %") && usual.contains("3m 5s, 23h 56m left"),
            "{usual}"
        );
    }

    #[test]
    fn the_graph_goes_from_nothing_to_all() {
        assert_eq!(graph(&[0.0, 100.0, 120.0], true), "▁██");
        assert_eq!(graph(&[0.0, 100.0], false), "_#");
    }
}
