//! A group that grows under load and shrinks after it, as clients see it: which instances come to answer, and which go
//! again, and when. Pure: `load` makes the load.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::about::About;
use super::latency::{self, PhaseReport};
use super::steps::{self, Causes, Point, Step};
use super::verdict::{Answer, Verdict, secs};
use super::window::{self, ms};
use crate::drill::client::sample::Book;
use crate::drill::schedule::pace::Lateness;
use crate::drill::schedule::phase::{Marks, Phase};
use crate::stress::forecast::Forecast;
use crate::stress::minutes::Datapoint;

/// An instance that hasn't answered for so long, with `usual` between its answers, is gone.
pub fn silence(usual: Duration) -> Duration {
    (20 * usual).max(Duration::from_secs(5))
}

/// One instance's time in the group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stay {
    /// What it calls itself.
    pub instance: String,
    /// Whether it was there before the load.
    pub before: bool,
    /// Its first answer, since the load began; 0 where it was there before.
    pub came_after_ms: f64,
    /// Its last answer, since the load began; `None` while it still answers.
    pub gone_after_ms: Option<f64>,
    /// Its answers.
    pub answers: u64,
    /// Its share of all answers that named somebody, from its first to its last, in percent.
    pub share_pct: f64,
}

/// What a drill of scaling came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Scaled {
    /// Every instance.
    pub instances: Vec<Stay>,
    /// Whether new ones came.
    pub out: bool,
    /// Whether all that came went again; unknown where none came.
    #[serde(rename = "in")]
    pub back: Option<bool>,
    /// When the first of them answered, since the load began.
    pub out_after_ms: Option<f64>,
    /// When the last of them answered last, since the load ended.
    pub in_after_ms: Option<f64>,
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

/// What the drill was told and what it ran on.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Facts {
    /// As every drill tells of itself.
    #[serde(flatten)]
    pub about: About,
    /// The load, in percent of this host.
    pub target_pct: f64,
    /// How long it was to last.
    pub secs: f64,
    /// The alarm's target, in percent, where one is named.
    pub alarm_pct: Option<f64>,
    /// From the alarm to the first answer of a new instance, at most.
    pub launch_secs: f64,
    /// The group's instance warm-up.
    pub warmup_secs: f64,
    /// How long the group was to be watched after it.
    pub watch_secs: f64,
    /// The header in which an answer names its instance.
    pub instance_header: String,
}

/// One node.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeReport {
    /// Its address.
    pub node: String,
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// How, by status or class, and how many so.
    pub failures: BTreeMap<String, u64>,
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Verdicts {
    /// Whether new instances came.
    #[serde(rename = "scaled_out")]
    pub out: Verdict,
    /// Whether they went again.
    #[serde(rename = "scaled_in")]
    pub back: Verdict,
    /// Whether it took as long as predicted; `None` where nothing was.
    pub hypothesis: Option<Verdict>,
}

impl Verdicts {
    /// All in one: no wins over unknown, that over yes.
    pub fn answer(&self) -> Answer {
        let hypothesis = self.hypothesis.as_ref().map_or(Answer::Yes, |verdict| verdict.answer);
        let all = [self.out.answer, self.back.answer, hypothesis];
        [Answer::No, Answer::Unknown].into_iter().find(|one| all.contains(one)).unwrap_or(Answer::Yes)
    }

    fn of(scaled: &Scaled, loaded: bool, hypothesis: Option<Verdict>) -> Self {
        let (mut out, mut back) = (Verdict::default(), Verdict::default());
        let time = |ms: Option<f64>| secs(Duration::from_secs_f64(ms.unwrap_or_default() / 1e3));
        match scaled.out {
            true => out.say(
                "out",
                Answer::Yes,
                format!("the first new instance answered {} after the load began", time(scaled.out_after_ms)),
            ),
            false if !loaded => out.say("out", Answer::No, "it ended before there was any load"),
            false => out.say("out", Answer::No, "no new instance came to answer"),
        }
        match scaled.back {
            Some(true) => back.say(
                "in",
                Answer::Yes,
                format!(
                    "the last answer of a new one came {} after the load ended",
                    time(scaled.in_after_ms)
                ),
            ),
            Some(false) => back.say("in", Answer::No, "not all that came have gone"),
            None => back.say("in", Answer::Unknown, "none had come"),
        }
        Self { out, back, hypothesis }
    }
}

/// What the load told.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// When it began, by the clock on the wall.
    pub started: Option<Timestamp>,
    /// What the alarm was said to do then.
    pub forecast: Option<Forecast>,
    /// The minutes that were full.
    pub minutes: Vec<Datapoint>,
    /// The CPU over time.
    pub curve: Vec<Point>,
}

/// The result.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// `scale`, to tell it from a drill of failing over.
    pub drill: &'static str,
    /// Who came and who went.
    #[serde(flatten)]
    pub scaled: Scaled,
    /// What each of it comes to.
    #[serde(flatten)]
    pub verdicts: Verdicts,
    /// The chain of causes.
    pub steps: Vec<Step>,
    /// The minutes as CloudWatch has them.
    pub minutes: Vec<Datapoint>,
    /// The CPU of this host over time.
    pub curve: Vec<Point>,
    /// When the load began, since the start.
    pub load_ms: Option<f64>,
    /// When it ended.
    pub unloaded_ms: Option<f64>,
    /// The signal that ended it early.
    pub signal: Option<i32>,
    /// Every node.
    pub nodes: Vec<NodeReport>,
    /// Every phase, with its latency.
    pub phases: Vec<PhaseReport>,
    /// How well the schedule was kept.
    pub schedule: Lateness,
    /// What it was told and what it ran on.
    pub facts: Facts,
}

/// Adds everything up.
pub fn build(
    book: &Book,
    watch: &Watch,
    marks: &Marks,
    signal: Option<i32>,
    facts: Facts,
    loaded: Loaded,
) -> Report {
    let at = |phase| marks.phases().find(|(one, ..)| *one == phase);
    let load = at(Phase::Load);
    let scaled = watch.at(book, marks.end);
    let gone = scaled.instances.iter().filter(|stay| !stay.before).map(|stay| stay.gone_after_ms);
    let gone = gone.collect::<Option<Vec<f64>>>().and_then(|all| all.into_iter().reduce(f64::max));
    let causes = Causes {
        started: loaded.started.unwrap_or_default(),
        target_pct: facts.target_pct,
        lasted: load.map_or(Duration::ZERO, |(_, start, end)| end - start),
        forecast: loaded.forecast.as_ref().filter(|_| load.is_some()),
        launch: Duration::from_secs_f64(facts.launch_secs),
        warmup: Duration::from_secs_f64(facts.warmup_secs),
        curve: &loaded.curve,
        load_ms: load.map_or(0.0, |(_, start, _)| ms(start)),
        minutes: &loaded.minutes,
        out_after_ms: scaled.out_after_ms,
        gone_after_ms: gone,
    };
    let (steps, hypothesis) = steps::steps(&causes);
    Report {
        drill: "scale",
        verdicts: Verdicts::of(&scaled, load.is_some(), hypothesis),
        steps,
        scaled,
        minutes: loaded.minutes,
        curve: loaded.curve,
        load_ms: load.map(|(_, start, _)| ms(start)),
        unloaded_ms: load.map(|(_, _, end)| ms(end)),
        signal,
        nodes: nodes(book),
        phases: latency::phases(book.samples(), marks),
        schedule: Lateness::of(book.samples()),
        facts,
    }
}

fn nodes(book: &Book) -> Vec<NodeReport> {
    let empty = |addr: &SocketAddr| NodeReport {
        node: addr.to_string(),
        requests: 0,
        errors: 0,
        failures: BTreeMap::new(),
    };
    let mut all: Vec<NodeReport> = book.nodes().iter().map(empty).collect();
    for sample in book.samples().iter() {
        let Some(one) = all.get_mut(usize::from(sample.node)) else { continue };
        one.requests += 1;
        if !sample.is_ok() {
            one.errors += 1;
            *one.failures.entry(window::name(sample.outcome)).or_insert(0) += 1;
        }
    }
    all
}

/// Follows the instances.
#[derive(Debug)]
pub struct Watch {
    /// When the load began.
    pub from: Duration,
    /// When it ended.
    pub until: Duration,
    /// Longer than an instance in use goes without an answer.
    pub silence: Duration,
}

impl Watch {
    /// What is known at `now`.
    pub fn at(&self, book: &Book, now: Duration) -> Scaled {
        let since = |time: Duration, zero: Duration| time.saturating_sub(zero).as_micros() as f64 / 1e3;
        let stays = book.named().map(|(name, one)| Stay {
            instance: name.to_owned(),
            before: one.first < self.from,
            came_after_ms: since(one.first, self.from),
            gone_after_ms: (one.last + self.silence < now).then(|| since(one.last, self.from)),
            answers: one.count,
            share_pct: one.share_pct(),
        });
        let stays: Vec<Stay> = stays.collect();
        let newcomers = || stays.iter().zip(book.named()).filter(|(stay, _)| !stay.before);
        let out_after = newcomers().map(|(stay, _)| stay.came_after_ms).reduce(f64::min);
        let back = out_after.map(|_| newcomers().all(|(stay, _)| stay.gone_after_ms.is_some()));
        let last = newcomers().map(|(_, (_, one))| one.last).max();
        Scaled {
            out: out_after.is_some(),
            back,
            out_after_ms: out_after,
            in_after_ms: last.filter(|_| back == Some(true)).map(|last| since(last, self.until)),
            requests: book.samples().len() as u64,
            errors: book.samples().errors(),
            instances: stays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::sample;
    use super::*;
    use crate::drill::client::sample::Outcome;

    #[test]
    fn an_instance_comes_with_its_first_answer_and_goes_with_its_last() {
        let mut book = Book::default();
        let (old, new) = (book.instance("i-old"), book.instance("i-new"));
        let ok = Outcome::Status(200);
        let seconds = |secs: std::ops::Range<u64>, who| secs.map(move |s| sample(s * 1000, ok, who));
        book.extend(seconds(0..30, old));
        book.extend((30..60).flat_map(|s| [old, new].map(|who| sample(s * 1000, ok, who))));
        book.extend(seconds(60..100, old));
        let secs = Duration::from_secs;
        let watch = Watch { from: secs(10), until: secs(40), silence: secs(20) };
        let during = watch.at(&book, secs(70));
        assert_eq!((during.out, during.back, during.out_after_ms), (true, Some(false), Some(20_000.0)));
        let after = watch.at(&book, secs(100));
        assert_eq!((after.back, after.in_after_ms), (Some(true), Some(19_000.0)));
        assert_eq!(after.instances[0].gone_after_ms, None);
        assert_eq!(after.instances.iter().map(|stay| stay.share_pct).collect::<Vec<_>>(), [76.9, 50.8]);
        let mut alone = Book::default();
        let old = alone.instance("i-old");
        alone.extend(seconds(0..100, old));
        assert_eq!((watch.at(&alone, secs(100)).out, watch.at(&alone, secs(100)).back), (false, None));
    }

    #[test]
    fn the_report_tells_of_the_load_and_of_every_node() {
        let mut book = Book::default();
        book.node("127.0.0.1:80".parse().unwrap());
        let who = book.instance("i-a");
        book.extend(
            [(100, 200), (1500, 502), (2500, 200)]
                .map(|(at, status)| sample(at, Outcome::Status(status), who)),
        );
        let secs = Duration::from_secs;
        let mut marks = Marks { end: secs(3), ..Marks::default() };
        for (phase, at) in [(Phase::Baseline, 0), (Phase::Load, 1), (Phase::Watch, 2)] {
            marks.begin(phase, secs(at));
        }
        let facts = Facts {
            about: About::default(),
            target_pct: 90.0,
            alarm_pct: None,
            launch_secs: 300.0,
            warmup_secs: 300.0,
            secs: 1.0,
            watch_secs: 1.0,
            instance_header: String::new(),
        };
        let watch = Watch { from: secs(1), until: secs(2), silence: secs(20) };
        let found = build(&book, &watch, &marks, None, facts, Loaded::default());
        assert_eq!((found.load_ms, found.unloaded_ms), (Some(1000.0), Some(2000.0)));
        assert_eq!((found.nodes[0].requests, found.nodes[0].errors), (3, 1));
        assert_eq!(found.nodes[0].failures["502"], 1);
        assert_eq!(found.phases.iter().map(|phase| phase.errors).collect::<Vec<_>>(), [0, 1, 0]);
    }
}
