//! When a drill hurts more than was allowed. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::drill::client::sample::Sample;

/// The error rate is that of the last few seconds, and of no fewer requests than these.
const LAST: Duration = Duration::from_secs(5);
const ENOUGH: usize = 20;

/// What is allowed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// The part of requests that may fail, in percent.
    pub error_pct: Option<f64>,
    /// How long the outage window may get.
    pub outage: Option<Duration>,
}

/// Watches the requests of a fault.
#[derive(Debug, Default)]
pub struct Guard {
    limits: Limits,
    recent: VecDeque<(Duration, bool)>,
    failed: usize,
    first: Option<Duration>,
}

impl Guard {
    /// Holds a drill to these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes a request in that was sent during the fault; says why the fault has to end, if it has to.
    pub fn take(&mut self, sample: &Sample) -> Option<String> {
        let now = Duration::from_micros(sample.end_us);
        self.recent.push_back((now, sample.is_ok()));
        self.failed += usize::from(!sample.is_ok());
        while let Some((_, ok)) = self.recent.front().filter(|(at, _)| *at + LAST < now).copied() {
            self.failed -= usize::from(!ok);
            self.recent.pop_front();
        }
        if sample.is_ok() {
            return None;
        }
        let first = *self.first.get_or_insert(sample.start());
        let outage = sample.start().saturating_sub(first);
        if let Some(most) = self.limits.outage.filter(|most| outage > *most) {
            let (so_far, most) = (outage.as_secs_f64(), most.as_secs_f64());
            return Some(format!("the outage is {so_far:.1} s long, --max-outage allows {most} s"));
        }
        let pct = self.error_pct();
        let most = self.limits.error_pct.filter(|most| pct > *most && self.recent.len() >= ENOUGH)?;
        Some(format!("{pct:.1} % of the last requests failed, --max-error-pct allows {most} %"))
    }

    /// The error rate of the last seconds, in percent.
    pub fn error_pct(&self) -> f64 {
        100.0 * self.failed as f64 / self.recent.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::analysis::window::tests::sample;
    use crate::drill::client::sample::Outcome;

    fn bad(at_ms: u64) -> Sample {
        sample(at_ms, Outcome::Status(502), None)
    }

    fn good(at_ms: u64) -> Sample {
        sample(at_ms, Outcome::Status(200), None)
    }

    #[test]
    fn an_outage_over_its_limit_ends_the_fault() {
        let limits = Limits { outage: Some(Duration::from_secs(2)), ..Limits::default() };
        let mut guard = Guard::new(limits);
        assert_eq!(guard.take(&bad(1000)), None);
        assert_eq!(guard.take(&bad(3000)), None);
        assert_eq!(guard.take(&good(4000)), None);
        assert!(guard.take(&bad(3001)).unwrap().contains("--max-outage allows 2 s"));
    }

    #[test]
    fn the_error_rate_is_that_of_the_last_seconds() {
        let mut guard = Guard::new(Limits { error_pct: Some(50.0), ..Limits::default() });
        for n in 0..100 {
            assert_eq!(guard.take(&good(n * 50)), None);
        }
        let ended = (100..).find(|n| guard.take(&bad(n * 50)).is_some()).unwrap();
        assert!((150..155).contains(&ended), "after {ended} requests");
        let mut few = Guard::new(Limits { error_pct: Some(0.0), ..Limits::default() });
        assert_eq!((0..19).find_map(|n| few.take(&bad(n))), None);
        assert!(few.take(&bad(19)).is_some());
    }
}
