//! What the other instances did beside the one that failed: the control group. Pure.

use serde::{Deserialize, Serialize};

use super::latency::percentile;
use super::window::ms;
use crate::drill::client::sample::{Book, Sample};
use crate::drill::schedule::phase::Marks;

/// Answers of one instance in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Group {
    /// What it calls itself.
    pub instance: String,
    /// Whether it is the one that failed.
    pub target: bool,
    /// The phase.
    pub phase: String,
    /// Answers.
    pub answers: u64,
    /// Those that were errors.
    pub errors: u64,
    /// Half of the others were as fast.
    pub p50_ms: Option<f64>,
    /// 99 of a hundred were.
    pub p99_ms: Option<f64>,
}

/// Every instance in every phase in which it answered.
pub fn groups(book: &Book, marks: &Marks, us: Option<&str>) -> Vec<Group> {
    let mut all = Vec::new();
    for (place, name) in book.instances().iter().enumerate() {
        for (phase, start, end) in marks.phases() {
            let mine = |one: &&Sample| {
                one.instance.map(usize::from) == Some(place) && one.start() >= start && one.start() < end
            };
            let mut took: Vec<_> =
                book.samples.iter().filter(mine).filter(|one| one.is_ok()).map(Sample::latency).collect();
            let answers = book.samples.iter().filter(mine).count();
            if answers == 0 {
                continue;
            }
            took.sort_unstable();
            all.push(Group {
                instance: name.clone(),
                target: us == Some(name),
                phase: phase.name().to_owned(),
                answers: answers as u64,
                errors: (answers - took.len()) as u64,
                p50_ms: percentile(&took, 50).map(ms),
                p99_ms: percentile(&took, 99).map(ms),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::drill::analysis::window::tests::sample;
    use crate::drill::client::sample::Outcome;
    use crate::drill::schedule::phase::Phase;

    #[test]
    fn each_instance_is_told_by_phase_and_who_failed_is_marked() {
        let mut book = Book::default();
        let (us, other) = (book.instance("i-us"), book.instance("i-other"));
        let (ok, bad) = (Outcome::Status(200), Outcome::Status(500));
        book.samples = [(0, ok, us), (100, ok, other), (1100, ok, other), (1200, bad, other)]
            .map(|(at, outcome, who)| sample(at, outcome, who))
            .to_vec();
        let mut marks = Marks { end: Duration::from_secs(2), ..Marks::default() };
        marks.begin(Phase::Baseline, Duration::ZERO);
        marks.begin(Phase::Hold, Duration::from_secs(1));
        let found = groups(&book, &marks, Some("i-us"));
        let told: Vec<_> =
            found.iter().map(|one| (one.target, one.phase.as_str(), one.answers, one.errors)).collect();
        assert_eq!(told, [(true, "baseline", 1, 0), (false, "baseline", 1, 0), (false, "hold", 2, 1)]);
    }
}
