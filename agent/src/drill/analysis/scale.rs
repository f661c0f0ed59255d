//! A group that grows under load and shrinks after it, as clients see it: which instances come to answer, and which go
//! again, and when. Pure: `load` makes the load.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::about::About;
use super::latency::{self, PhaseReport};
use super::window::{self, ms};
use crate::drill::client::sample::Book;
use crate::drill::schedule::pace::Lateness;
use crate::drill::schedule::phase::{Marks, Phase};

/// An instance that hasn't answered for so long, with `usual` between its answers, is gone.
pub fn silence(usual: Duration) -> Duration {
    (20 * usual).max(Duration::from_secs(5))
}

/// One instance's time in the group.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
}

/// What a drill of scaling came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
pub struct Facts {
    /// As every drill tells of itself.
    #[serde(flatten)]
    pub about: About,
    /// The load, in percent of this host.
    pub target_pct: f64,
    /// How long it was to last.
    pub secs: f64,
    /// How long the group was to be watched after it.
    pub watch_secs: f64,
    /// The header in which an answer names its instance.
    pub instance_header: String,
}

/// One node.
#[derive(Debug, Clone, Serialize)]
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

/// The result.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `scale`, to tell it from a drill of failing over.
    pub drill: &'static str,
    /// Who came and who went.
    #[serde(flatten)]
    pub scaled: Scaled,
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
pub fn build(book: &Book, watch: &Watch, marks: &Marks, signal: Option<i32>, facts: Facts) -> Report {
    let at = |phase| marks.phases().find(|(one, ..)| *one == phase);
    let load = at(Phase::Load);
    Report {
        drill: "scale",
        scaled: watch.at(book, marks.end),
        load_ms: load.map(|(_, start, _)| ms(start)),
        unloaded_ms: load.map(|(_, _, end)| ms(end)),
        signal,
        nodes: nodes(book),
        phases: latency::phases(&book.samples, marks),
        schedule: Lateness::of(&book.samples),
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
    for sample in &book.samples {
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
        let seen = seen(book);
        let stays = book.instances().iter().zip(&seen).map(|(name, one)| Stay {
            instance: name.clone(),
            before: one.first < self.from,
            came_after_ms: since(one.first, self.from),
            gone_after_ms: (one.last + self.silence < now).then(|| since(one.last, self.from)),
            answers: one.answers,
        });
        let stays: Vec<Stay> = stays.collect();
        let newcomers = || stays.iter().zip(&seen).filter(|(stay, _)| !stay.before);
        let out_after = newcomers().map(|(stay, _)| stay.came_after_ms).reduce(f64::min);
        let back = out_after.map(|_| newcomers().all(|(stay, _)| stay.gone_after_ms.is_some()));
        let last = newcomers().map(|(_, one)| one.last).max();
        Scaled {
            out: out_after.is_some(),
            back,
            out_after_ms: out_after,
            in_after_ms: last.filter(|_| back == Some(true)).map(|last| since(last, self.until)),
            requests: book.samples.len() as u64,
            errors: book.samples.iter().filter(|one| !one.is_ok()).count() as u64,
            instances: stays,
        }
    }
}

/// The answers of one instance.
struct Answers {
    first: Duration,
    last: Duration,
    answers: u64,
}

/// Those of every instance, in the book's order.
fn seen(book: &Book) -> Vec<Answers> {
    let none = || Answers { first: Duration::MAX, last: Duration::ZERO, answers: 0 };
    let mut all: Vec<Answers> = book.instances().iter().map(|_| none()).collect();
    for sample in &book.samples {
        if let Some(one) = sample.instance.and_then(|place| all.get_mut(usize::from(place))) {
            let at = sample.start();
            (one.first, one.last) = (one.first.min(at), one.last.max(at));
            one.answers += 1;
        }
    }
    all
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
        book.samples = seconds(0..100, old).chain(seconds(30..60, new)).collect();
        let secs = Duration::from_secs;
        let watch = Watch { from: secs(10), until: secs(40), silence: secs(20) };
        let during = watch.at(&book, secs(70));
        assert_eq!((during.out, during.back, during.out_after_ms), (true, Some(false), Some(20_000.0)));
        let after = watch.at(&book, secs(100));
        assert_eq!((after.back, after.in_after_ms), (Some(true), Some(19_000.0)));
        assert_eq!(after.instances[0].gone_after_ms, None);
        let mut alone = Book::default();
        let old = alone.instance("i-old");
        alone.samples = seconds(0..100, old).collect();
        assert_eq!((watch.at(&alone, secs(100)).out, watch.at(&alone, secs(100)).back), (false, None));
    }

    #[test]
    fn the_report_tells_of_the_load_and_of_every_node() {
        let mut book = Book::default();
        book.node("127.0.0.1:80".parse().unwrap());
        let who = book.instance("i-a");
        book.samples = [(100, 200), (1500, 502), (2500, 200)]
            .map(|(at, status)| sample(at, Outcome::Status(status), who))
            .to_vec();
        let secs = Duration::from_secs;
        let mut marks = Marks { end: secs(3), ..Marks::default() };
        for (phase, at) in [(Phase::Baseline, 0), (Phase::Load, 1), (Phase::Watch, 2)] {
            marks.begin(phase, secs(at));
        }
        let facts = Facts {
            about: About::default(),
            target_pct: 90.0,
            secs: 1.0,
            watch_secs: 1.0,
            instance_header: String::new(),
        };
        let watch = Watch { from: secs(1), until: secs(2), silence: secs(20) };
        let found = build(&book, &watch, &marks, None, facts);
        assert_eq!((found.load_ms, found.unloaded_ms), (Some(1000.0), Some(2000.0)));
        assert_eq!((found.nodes[0].requests, found.nodes[0].errors), (3, 1));
        assert_eq!(found.nodes[0].failures["502"], 1);
        assert_eq!(found.phases.iter().map(|phase| phase.errors).collect::<Vec<_>>(), [0, 1, 0]);
    }
}
