//! How long answers took, by phase. Pure.

use std::time::Duration;

use serde::Serialize;
use sketches_ddsketch::{Config, DDSketch};

use super::window::ms;
use crate::drill::client::samples::Samples;
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

/// How long many answers took, in a memory that doesn't grow with them (DDSketch, <https://arxiv.org/abs/1908.10693>).
#[derive(Clone)]
pub struct Sketch(DDSketch);

/// A percentile is this part off, at most.
const PART: f64 = 0.005;
/// Enough for a microsecond to an hour.
const BINS: u32 = 2304;
/// In milliseconds.
const LEAST: f64 = 1e-3;

impl Default for Sketch {
    fn default() -> Self {
        Self(DDSketch::new(Config::new(PART, BINS, LEAST)))
    }
}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sketch of {}", self.0.count())
    }
}

impl Sketch {
    /// Takes one in.
    pub fn take(&mut self, took: Duration) {
        self.0.add(ms(took));
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.count() as u64
    }

    /// The smallest that `percent` of them don't exceed (nearest rank), in milliseconds.
    pub fn percentile_ms(&self, percent: u8) -> Option<f64> {
        let (least, most) = (self.0.min()?, self.0.max()?);
        let found = self.0.quantile(f64::from(percent) / 100.0).ok()??;
        Some((found.clamp(least, most) * 1e3).round() / 1e3)
    }
}

/// Every phase.
pub fn phases(samples: &Samples, marks: &Marks) -> Vec<PhaseReport> {
    let all: Vec<(Phase, Duration, Duration)> = marks.phases().collect();
    let mut of = vec![(0, Sketch::default()); all.len()];
    for one in samples.iter() {
        if let Some((requests, took)) = marks.place(one.start()).and_then(|place| of.get_mut(place)) {
            *requests += 1;
            if one.is_ok() {
                took.take(one.latency());
            }
        }
    }
    let report =
        |((phase, start, end), (requests, took)): ((Phase, Duration, Duration), (u64, Sketch))| PhaseReport {
            phase,
            start_ms: ms(start),
            end_ms: ms(end),
            requests,
            errors: requests - took.count(),
            p50_ms: took.percentile_ms(50),
            p90_ms: took.percentile_ms(90),
            p99_ms: took.percentile_ms(99),
            max_ms: took.percentile_ms(100),
        };
    all.into_iter().zip(of).map(report).collect()
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::sample;
    use super::*;
    use crate::drill::client::sample::Outcome;

    #[test]
    fn percentiles_are_off_by_half_a_percent_at_most() {
        let mut all = Sketch::default();
        assert_eq!(all.percentile_ms(50), None);
        for n in (1..=20_000).rev() {
            all.take(Duration::from_micros(n * 100));
        }
        for percent in [50, 90, 99] {
            let (found, right) = (all.percentile_ms(percent).unwrap(), f64::from(percent) * 20.0);
            assert!((found / right - 1.0).abs() <= PART + 1e-4, "{percent}: {found}, {right} is right");
        }
        assert_eq!(all.percentile_ms(100), Some(2000.0));
        let mut extremes = Sketch::default();
        [1, 3_600_000_000].into_iter().for_each(|us| extremes.take(Duration::from_micros(us)));
        assert_eq!(
            (extremes.percentile_ms(50), extremes.percentile_ms(100)),
            (Some(0.001), Some(3_600_000.0))
        );
    }

    #[test]
    fn a_request_belongs_to_the_phase_in_which_it_was_sent() {
        let mut marks = Marks { end: Duration::from_secs(2), ..Marks::default() };
        marks.begin(Phase::Baseline, Duration::ZERO);
        marks.begin(Phase::Hold, Duration::from_secs(1));
        let ok = Outcome::Status(200);
        let mut all = Samples::default();
        all.extend(
            [(999, ok), (1000, Outcome::Status(502)), (2000, ok)]
                .map(|(at, outcome)| sample(at, outcome, None)),
        );
        let found = phases(&all, &marks);
        assert_eq!(found.iter().map(|p| (p.requests, p.errors)).collect::<Vec<_>>(), [(1, 0), (2, 1)]);
        assert_eq!(found[1].p50_ms, Some(5.0));
    }
}
