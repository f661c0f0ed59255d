//! Charts: bars in SVG that stretch with the page, and all text beside them as HTML, so that it is as large on a telephone as
//! on a desk, and no line ever goes through it. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::html::escaped;
use crate::drill::client::sample::{Book, Sample};

/// Ticks are at multiples of these.
const STEPS: [u64; 14] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400];
/// As many fit, in whole.
const MOST_TICKS: u64 = 8;
/// Units of the picture from left to right.
const WIDTH: f64 = 1000.0;
/// Runs shorter than this part of the whole aren't told apart.
const FINE: u32 = 300;
/// Nor are holes shorter than this part.
const FINEST: u32 = 1000;

/// What time it is where.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The whole.
    pub end: Duration,
    /// When it began, by the clock on the wall.
    pub started: Timestamp,
}

/// What happened for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything was answered.
    Good,
    /// Now this, now that.
    Mixed,
    /// Everything failed.
    Bad,
}

/// A while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// From.
    pub from: Duration,
    /// To.
    pub to: Duration,
    /// What.
    pub kind: Kind,
    /// Requests that were answered.
    pub good: u64,
    /// Requests that failed.
    pub bad: u64,
}

/// The whiles of one row, from its samples in the order in which they were sent. A clean edge stays one: only where answers and
/// errors really alternate it is both. However many samples there are, the whiles are as many as can be seen.
#[derive(Debug)]
pub struct Runs {
    usual: Duration,
    /// Samples further apart have a hole between them.
    long: Duration,
    fine: Duration,
    end: Duration,
    /// The newest: how long it stands for isn't known yet.
    newest: Option<(Duration, bool)>,
    current: Option<Run>,
    all: Vec<Run>,
}

impl Runs {
    /// Of samples whose usual distance is `usual`, up to `end`.
    pub fn new(usual: Duration, end: Duration) -> Self {
        let long = (usual * 4).max(Duration::from_millis(200)).max(end / FINEST);
        Self { usual, long, fine: end / FINE, end, newest: None, current: None, all: Vec::new() }
    }

    /// Takes a request in.
    pub fn take(&mut self, one: &Sample) {
        let at = one.start();
        if let Some(newest) = self.newest.replace((at, one.is_ok())) {
            self.close(newest, at);
        }
    }

    /// All of them.
    pub fn finish(mut self) -> Vec<Run> {
        if let Some(newest) = self.newest {
            self.close(newest, newest.0 + self.usual);
        }
        if let Some(run) = self.current.take() {
            self.add(run);
        }
        self.all
    }

    fn close(&mut self, (from, ok): (Duration, bool), next: Duration) {
        let to = next.min(from + self.long).min(self.end.max(from));
        let kind = if ok { Kind::Good } else { Kind::Bad };
        let (good, bad) = (u64::from(ok), u64::from(!ok));
        match self.current.as_mut().filter(|last| last.to >= from && last.kind == kind) {
            Some(last) => (last.to, last.good, last.bad) = (to, last.good + good, last.bad + bad),
            None => {
                if let Some(run) = self.current.replace(Run { from, to, kind, good, bad }) {
                    self.add(run);
                }
            }
        }
    }

    /// What is too short to be seen beside its like is mixed with it.
    fn add(&mut self, run: Run) {
        let least = self.fine.max(self.long);
        let short = |one: &Run| one.kind == Kind::Mixed || one.to - one.from < least;
        match self
            .all
            .last_mut()
            .filter(|last| last.to >= run.from && short(last) && short(&run) && last.kind != run.kind)
        {
            Some(last) => {
                (last.to, last.kind) = (run.to, Kind::Mixed);
                (last.good, last.bad) = (last.good + run.good, last.bad + run.bad);
            }
            None => self.all.push(run),
        }
    }
}

/// The rows of a picture: each node's, and each instance's.
#[derive(Debug)]
pub struct Rows {
    /// By node.
    pub nodes: Vec<Vec<Run>>,
    /// By instance.
    pub instances: Vec<Vec<Run>>,
}

impl Rows {
    /// Of all of these; `usual` is from one request to the next at a node, and of an instance.
    pub fn of(book: &Book, usual: (Duration, Duration), end: Duration) -> Self {
        let rows = |count: usize, usual| (0..count).map(|_| Runs::new(usual, end)).collect::<Vec<_>>();
        let (mut nodes, mut instances) =
            (rows(book.nodes().len(), usual.0), rows(book.instances().len(), usual.1));
        for one in book.samples().by_start() {
            if let Some(row) = nodes.get_mut(usize::from(one.node)) {
                row.take(&one);
            }
            if let Some(row) = one.instance.and_then(|place| instances.get_mut(usize::from(place))) {
                row.take(&one);
            }
        }
        let finish = |all: Vec<Runs>| all.into_iter().map(Runs::finish).collect();
        Self { nodes: finish(nodes), instances: finish(instances) }
    }
}

impl Scale {
    fn x(&self, at: Duration) -> f64 {
        WIDTH * at.min(self.end).as_secs_f64() / self.end.as_secs_f64().max(1e-9)
    }

    fn rect(
        &self,
        from: Duration,
        to: Duration,
        (y, height): (f64, f64),
        class: &str,
        title: &str,
    ) -> String {
        let (left, right) = (self.x(from), self.x(to));
        format!(
            "<rect class=\"{class}\" x=\"{left:.2}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"{height:.1}\"><title>{}</title></rect>",
            (right - left).max(1.0),
            escaped(title)
        )
    }

    /// A lane with a name above it.
    fn lane(&self, name: &str, summary: &str, inner: &str) -> String {
        format!(
            "<div class=\"lane\"><div class=\"name\">{} <span class=\"soft\">{}</span></div><svg viewBox=\"0 0 1000 20\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}: {}\">{inner}</svg></div>",
            escaped(name),
            escaped(summary),
            escaped(name),
            escaped(summary)
        )
    }

    /// Requests: how high a bar is says what happened, as well as its colour.
    pub fn requests(&self, name: &str, summary: &str, all: &[Run], marks: &[Duration]) -> String {
        let mut inner = String::new();
        for run in all {
            let (place, class) = match run.kind {
                Kind::Good => ((7.0, 6.0), "good"),
                Kind::Mixed => ((3.5, 13.0), "mixed"),
                Kind::Bad => ((0.0, 20.0), "bad"),
            };
            let title = format!(
                "{:.1} to {:.1} s: {} answered, {} failed",
                run.from.as_secs_f64(),
                run.to.as_secs_f64(),
                run.good,
                run.bad
            );
            inner.push_str(&self.rect(run.from, run.to, place, class, &title));
        }
        inner.push_str(&self.marks(marks));
        self.lane(name, summary, &inner)
    }

    /// A span, such as a prediction, and what was measured in it.
    pub fn span(
        &self,
        name: &str,
        summary: &str,
        predicted: (Duration, Duration),
        measured: Option<(Duration, Duration)>,
    ) -> String {
        let mut inner = self.rect(predicted.0, predicted.1, (0.0, 20.0), "predicted", "predicted");
        if let Some((from, to)) = measured {
            inner.push_str(&self.rect(from, to, (8.0, 4.0), "measured", "measured"));
        }
        self.lane(name, summary, &inner)
    }

    /// Bars of a value over time; the highest is named.
    pub fn bars(
        &self,
        name: &str,
        summary: &str,
        values: &[(Duration, Duration, f64)],
        class: &str,
    ) -> String {
        let most = values.iter().map(|(.., value)| *value).fold(0.0, f64::max).max(1e-9);
        let mut inner = String::new();
        for (from, to, value) in values.iter().filter(|(.., value)| *value > 0.0) {
            let height = (20.0 * value / most).max(0.5);
            inner.push_str(&self.rect(*from, *to, (20.0 - height, height), class, &format!("{value:.1}")));
        }
        format!("<div class=\"tall\">{}</div>", self.lane(name, summary, &inner))
    }

    fn marks(&self, marks: &[Duration]) -> String {
        let line = |at: &Duration| {
            let x = self.x(*at);
            format!("<line class=\"mark\" x1=\"{x:.2}\" x2=\"{x:.2}\" y1=\"0\" y2=\"20\"/>")
        };
        marks.iter().map(line).collect()
    }

    /// The axis: round seconds, and the clock on the wall.
    pub fn axis(&self) -> String {
        let whole = self.end.as_secs_f64();
        let step =
            STEPS.into_iter().find(|step| whole / (*step as f64) <= MOST_TICKS as f64).unwrap_or(28_800);
        let mut html = "<div class=\"axis\" aria-hidden=\"true\">".to_owned();
        for tick in 0..=MOST_TICKS {
            let at = Duration::from_secs(tick * step);
            // The last label ends where the picture does.
            if at.as_secs_f64() > whole * 0.85 {
                break;
            }
            let wall = self.started + at;
            let label = if step % 60 == 0 {
                format!("{} min", tick * step / 60)
            } else {
                format!("{} s", tick * step)
            };
            let _ = write!(
                html,
                "<span style=\"left:{:.2}%\">{label}<br><small>{}</small></span>",
                self.x(at) / 10.0,
                wall.strftime("%H:%M:%S")
            );
        }
        html.push_str("</div>");
        html
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::analysis::window::tests::sample;
    use crate::drill::client::sample::Outcome;

    const USUAL: Duration = Duration::from_millis(100);

    fn told(outcomes: &[(u64, bool)]) -> Vec<(u64, u64, Kind)> {
        let mut runs = Runs::new(USUAL, Duration::from_secs(10));
        for (at, ok) in outcomes {
            runs.take(&sample(*at, Outcome::Status(if *ok { 200 } else { 502 }), None));
        }
        let found = runs.finish();
        found.iter().map(|run| (run.from.as_millis() as u64, run.to.as_millis() as u64, run.kind)).collect()
    }

    #[test]
    fn a_clean_edge_stays_clean() {
        let all: Vec<(u64, bool)> = (0..100).map(|n| (n * 100, n < 50)).collect();
        assert_eq!(told(&all), [(0, 5000, Kind::Good), (5000, 10_000, Kind::Bad)]);
    }

    #[test]
    fn what_alternates_is_mixed_and_only_where_it_does() {
        let all: Vec<(u64, bool)> =
            (0..100).map(|n| (n * 100, !(30..60).contains(&n) || n % 2 == 0)).collect();
        let found = told(&all);
        let mixed: Vec<_> = found.iter().filter(|(.., kind)| *kind == Kind::Mixed).collect();
        assert_eq!(mixed.len(), 1, "{found:?}");
        assert!((2900..3300).contains(&mixed[0].0) && (5700..6100).contains(&mixed[0].1), "{found:?}");
    }

    #[test]
    fn a_day_has_no_more_whiles_than_can_be_seen() {
        let mut runs = Runs::new(USUAL, Duration::from_secs(86_400));
        for n in 0..86_400_u64 {
            // Errors and holes now and then.
            if n % 7 != 0 {
                runs.take(&sample(n * 1000, Outcome::Status(if n % 5 == 0 { 502 } else { 200 }), None));
            }
        }
        assert!(runs.finish().len() < 2000);
    }

    #[test]
    fn a_hole_is_empty() {
        assert_eq!(told(&[(0, true), (100, true), (5000, true)]).len(), 2);
    }

    #[test]
    fn ticks_are_at_round_seconds_with_the_clock_on_the_wall() {
        let scale = Scale { end: Duration::from_secs(47), started: "2026-11-27T18:59:50Z".parse().unwrap() };
        let axis = scale.axis();
        for label in ["0 s<br><small>18:59:50", "10 s<br><small>19:00:00", "30 s"] {
            assert!(axis.contains(label), "{label} is not in {axis}");
        }
    }
}
