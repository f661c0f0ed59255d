//! What the other instances did beside the one that failed: the control group. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::Sketch;
use crate::drill::client::sample::Book;
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
    let mut all: BTreeMap<(u8, usize), (u64, Sketch)> = BTreeMap::new();
    for one in book.samples().iter() {
        let Some(key) = one.instance.zip(marks.place(one.start())) else { continue };
        let (answers, took) = all.entry(key).or_default();
        *answers += 1;
        if one.is_ok() {
            took.take(one.latency());
        }
    }
    let group = |((instance, phase), (answers, took)): (&(u8, usize), &(u64, Sketch))| {
        let name = book.instances().get(usize::from(*instance))?;
        Some(Group {
            instance: name.clone(),
            target: us == Some(name),
            phase: marks.phases.get(*phase)?.0.name().to_owned(),
            answers: *answers,
            errors: answers - took.count(),
            p50_ms: took.percentile_ms(50),
            p99_ms: took.percentile_ms(99),
        })
    };
    all.iter().filter_map(group).collect()
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
        book.extend(
            [(0, ok, us), (100, ok, other), (1100, ok, other), (1200, bad, other)]
                .map(|(at, outcome, who)| sample(at, outcome, who)),
        );
        let mut marks = Marks { end: Duration::from_secs(2), ..Marks::default() };
        marks.begin(Phase::Baseline, Duration::ZERO);
        marks.begin(Phase::Hold, Duration::from_secs(1));
        let found = groups(&book, &marks, Some("i-us"));
        let told: Vec<_> =
            found.iter().map(|one| (one.target, one.phase.as_str(), one.answers, one.errors)).collect();
        assert_eq!(told, [(true, "baseline", 1, 0), (false, "baseline", 1, 0), (false, "hold", 2, 1)]);
    }
}
