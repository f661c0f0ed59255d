//! Which settings of the health check would have led to what was measured, where the ones given didn't. Pure.

use std::time::Duration;

use super::predict::{Check, Failure, predict};
use super::verdict::secs;

/// AWS's thresholds go from 2 to 10 (`CreateTargetGroup`); other load balancers' begin at 1.
const THRESHOLDS: std::ops::RangeInclusive<u32> = 1..=10;
/// Intervals that people set, in seconds.
const INTERVALS: [u64; 8] = [2, 5, 10, 15, 20, 30, 60, 120];
/// More than so many settings fit: that says nothing.
const FEW: usize = 3;

/// What was measured, and how exactly.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The outage.
    pub outage: Option<Duration>,
    /// From the recovery until every node used the target again.
    pub readmitted: Option<Duration>,
    /// How far a figure may be below its bounds.
    pub below: Duration,
    /// And above.
    pub above: Duration,
}

/// The settings that fit, in words; `None` where none do, or too many. Without any outage nothing can be said.
pub fn fits(check: &Check, failure: &Failure, measured: &Measured) -> Option<String> {
    let outage = measured.outage?;
    let same = |check: &Check| settings(check, failure, measured, outage);
    if let Some((unhealthy, healthy)) = same(check) {
        let (figures, settings) = match (measured.readmitted, healthy) {
            (Some(back), Some(healthy)) => (
                format!("{} and {} fit", secs(outage), secs(back)),
                format!("{unhealthy} unhealthy, {healthy} healthy"),
            ),
            _ => (format!("{} fits", secs(outage)), format!("{unhealthy} unhealthy")),
        };
        return Some(format!("{figures} {settings}"));
    }
    // Another interval, with the thresholds as they were given.
    let given = format!("{}", check.unhealthy);
    let fitting: Vec<u64> = INTERVALS
        .into_iter()
        .filter(|secs| {
            let other = Check { interval: Duration::from_secs(*secs), ..*check };
            same(&other).is_some_and(|(unhealthy, _)| unhealthy == given)
        })
        .collect();
    match fitting[..] {
        [one] => Some(format!("{} fits an interval of {one} s with {given} unhealthy", secs(outage))),
        _ => None,
    }
}

/// The thresholds that fit: unhealthy, and healthy where that can be said.
fn settings(
    check: &Check,
    failure: &Failure,
    measured: &Measured,
    outage: Duration,
) -> Option<(String, Option<String>)> {
    let Measured { below, above, .. } = *measured;
    let unhealthy: Vec<u32> = THRESHOLDS
        .filter(|unhealthy| {
            let found = predict(&Check { unhealthy: *unhealthy, ..*check }, failure);
            found.outage.holds(outage, below, above)
        })
        .collect();
    let first = *unhealthy.first()?;
    let healthy: Vec<u32> = measured.readmitted.map_or_else(Vec::new, |back| {
        let fits = |healthy: &u32| {
            let found = predict(&Check { unhealthy: first, healthy: *healthy, ..*check }, failure);
            found.readmission.holds(back, below, above)
        };
        THRESHOLDS.filter(fits).collect()
    });
    Some((few(&unhealthy)?, few(&healthy)))
}

fn few(all: &[u32]) -> Option<String> {
    let texts: Vec<String> = all.iter().map(u32::to_string).collect();
    (1..=FEW).contains(&all.len()).then(|| texts.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::super::group::Group;
    use super::super::predict::{Range, Via};
    use super::*;
    use crate::fault::Mode;

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn said(interval: u64, outage: f64, back: f64) -> Option<String> {
        let check = Check {
            interval: Duration::from_secs(interval),
            timeout: secs(2.0),
            healthy: 2,
            unhealthy: 2,
            via: Via::Nginx,
            group: Group::default(),
        };
        let failure = Failure {
            mode: Mode::Stop,
            lasts: Range::new(secs(60.0), secs(60.0)),
            delay: Duration::ZERO,
            deadline: secs(5.0),
            of_health: false,
            targets: Some(2),
            elsewhere: false,
            rps: 20,
        };
        let measured = Measured {
            outage: Some(secs(outage)),
            readmitted: Some(secs(back)),
            below: secs(0.2),
            above: secs(0.3),
        };
        fits(&check, &failure, &measured)
    }

    #[test]
    fn the_thresholds_that_fit_are_named() {
        assert_eq!(said(2, 5.5, 9.0).as_deref(), Some("5.5 s and 9.0 s fit 3 unhealthy, 5 healthy"));
        assert_eq!(said(5, 12.0, 23.0).as_deref(), Some("12.0 s and 23.0 s fit 3 unhealthy, 5 healthy"));
    }

    #[test]
    fn an_end_between_two_settings_names_both() {
        assert!(said(2, 4.0, 8.1).unwrap().contains("2 or 3 unhealthy"));
    }

    #[test]
    fn what_fits_nothing_is_not_explained() {
        assert_eq!(said(5, 59.9, 300.0), None);
    }
}
