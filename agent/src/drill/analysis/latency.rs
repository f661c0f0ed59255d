//! How long answers took, by phase. Pure.

use std::time::Duration;

use serde::Serialize;

use super::window::ms;
use crate::drill::client::sample::Sample;
use crate::drill::schedule::phase::{Marks, Phase};

/// The answers of one phase. Requests count by when they were sent; percentiles are of those that were answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PhaseReport {
    /// Which.
    pub phase: Phase,
    /// Its beginning, since the start.
    pub start_ms: f64,
    /// Its end.
    pub end_ms: f64,
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Half were as fast.
    pub p50_ms: Option<f64>,
    /// Nine of ten were.
    pub p90_ms: Option<f64>,
    /// 99 of a hundred were.
    pub p99_ms: Option<f64>,
    /// The slowest.
    pub max_ms: Option<f64>,
}

/// Every phase.
pub fn phases(samples: &[Sample], marks: &Marks) -> Vec<PhaseReport> {
    let one = |(phase, start, end): (Phase, Duration, Duration)| {
        // What was sent in the last moment belongs to the last phase.
        let last = end >= marks.end;
        let within = |at: Duration| at >= start && (at < end || last);
        let mine = || samples.iter().filter(|one| within(one.start()));
        let mut took: Vec<Duration> = mine().filter(|one| one.is_ok()).map(Sample::latency).collect();
        took.sort_unstable();
        let at = |percent| percentile(&took, percent).map(ms);
        PhaseReport {
            phase,
            start_ms: ms(start),
            end_ms: ms(end),
            requests: mine().count() as u64,
            errors: mine().filter(|one| !one.is_ok()).count() as u64,
            p50_ms: at(50),
            p90_ms: at(90),
            p99_ms: at(99),
            max_ms: at(100),
        }
    };
    marks.phases().map(one).collect()
}

/// The smallest value that `percent` of them don't exceed (nearest rank); they are sorted.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::sample;
    use super::*;
    use crate::drill::client::sample::Outcome;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let all: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let at = |percent| percentile(&all, percent).unwrap().as_millis();
        assert_eq!((at(50), at(90), at(99), at(100)), (100, 180, 198, 200));
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&all[..1], 99), Some(all[0]));
    }

    #[test]
    fn a_request_belongs_to_the_phase_in_which_it_was_sent() {
        let mut marks = Marks { end: Duration::from_secs(2), ..Marks::default() };
        marks.begin(Phase::Baseline, Duration::ZERO);
        marks.begin(Phase::Hold, Duration::from_secs(1));
        let ok = Outcome::Status(200);
        let all = [(999, ok), (1000, Outcome::Status(502)), (2000, ok)]
            .map(|(at, outcome)| sample(at, outcome, None));
        let found = phases(&all, &marks);
        assert_eq!(found.iter().map(|p| (p.requests, p.errors)).collect::<Vec<_>>(), [(1, 0), (2, 1)]);
        assert_eq!(found[1].p50_ms, Some(5.0));
    }
}
