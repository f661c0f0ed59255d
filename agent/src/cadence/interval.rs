//! Which interval probes have, where it isn't the expected one or none is expected. Pure.

use super::arrival::Window;
use super::expected::Expected;
use super::phases::Phases;

/// The shortest interval of a target group, with some room for jitter
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html>).
pub(super) const SHORTEST_MS: i64 = 4500;
/// Streams of one node that are told apart: in m of them every m-th probe is of the same one.
const MAX_STREAMS: usize = 8;
/// What people set: multiples of five seconds, where a mean of a few intervals can be meant as one.
const USUAL_MS: i64 = 5000;
/// How much a load balancer's own period and jitter move such a mean.
const JITTER_MS: i64 = 400;
/// Whole seconds are all that can be set; a shorter rhythm is a test's, and this near to one is one.
const WHOLE: f64 = 0.02;
/// How much the lengths of answers differ that aren't known, mostly.
const ANSWER_MS: i64 = 2000;
/// A mean below this is no interval.
const SHORTEST_MEAN_MS: f64 = 100.0;

/// The setting behind a mean of so many intervals, whose ends are known to so many milliseconds.
fn setting_ms(mean_ms: f64, intervals: usize, unsure_ms: i64) -> i64 {
    let whole = ((mean_ms / 1000.0).round() * 1000.0) as i64;
    if mean_ms < SHORTEST_MS as f64 {
        let near = whole > 0 && (mean_ms - whole as f64).abs() <= whole as f64 * WHOLE;
        return if near { whole } else { (mean_ms.round() as i64).max(1) };
    }
    let usual = ((mean_ms / USUAL_MS as f64).round() as i64 * USUAL_MS).max(USUAL_MS);
    let slack = (unsure_ms + JITTER_MS) as f64 / intervals.max(1) as f64 + usual as f64 * 0.005;
    if (mean_ms - usual as f64).abs() <= slack { usual } else { whole }
}

/// The setting behind the mean interval of these probes.
pub(super) fn mean_setting(windows: impl Iterator<Item = Window> + Clone) -> Option<Expected> {
    let intervals = windows.clone().count().checked_sub(1).filter(|count| *count > 0)?;
    let (first, last) = (windows.clone().next()?, windows.clone().last()?);
    let mean = (last.middle() - first.middle()) as f64 / intervals as f64;
    let resolution_ms = windows.map(|window| window.resolution_ms()).max()?;
    (mean >= SHORTEST_MEAN_MS).then(|| Expected::new(setting_ms(mean, intervals, resolution_ms), None))
}

/// These probes, where every one of them keeps this interval.
pub(super) fn of_one(windows: impl Iterator<Item = Window> + Clone, expected: Expected) -> Option<Phases> {
    let mut phases = Phases::new(expected);
    for window in windows.clone() {
        phases.observe(window, &|_| true);
    }
    (phases.is_plain() && phases.intervals() + 1 == windows.count() as u64).then_some(phases)
}

/// The interval of a series of ends, of which some may be missing or of several streams; `None` with fewer than
/// `enough` intervals that agree. `known` says that answers of unknown length aren't in them. A rhythm faster than any target group's is taken for several streams where that
/// fits, and else for a test's.
pub(super) fn of_many(ends: &[Window], known: bool, enough: usize) -> Option<i64> {
    let resolution_ms = ends.iter().map(Window::resolution_ms).max()?;
    let unsure_ms = resolution_ms + if known { 0 } else { ANSWER_MS };
    let steady = |m: usize| {
        let mut lags: Vec<i64> =
            ends.iter().zip(ends.iter().skip(m)).map(|(a, b)| b.middle() - a.middle()).collect();
        lags.sort_unstable();
        let middle = *lags.get(lags.len() / 2)?;
        let slack = (middle / 10).max(if middle >= SHORTEST_MS { unsure_ms + JITTER_MS } else { 0 });
        let is_near = |lag: &&i64| (**lag - middle).abs() <= slack;
        let near = lags.iter().filter(is_near).count();
        let mean = || lags.iter().filter(is_near).sum::<i64>() as f64 / near.max(1) as f64;
        (lags.len() >= enough && near * 4 >= lags.len() * 3 && middle > 0).then(|| (mean(), near))
    };
    let (mean, intervals) = (1..=MAX_STREAMS)
        .filter_map(&steady)
        .find(|(mean, _)| *mean >= SHORTEST_MS as f64)
        .or_else(|| steady(1).filter(|_| ends.len() > MAX_STREAMS + enough))?;
    Some(setting_ms(mean, intervals, unsure_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(resolution_ms: i64, times: impl IntoIterator<Item = i64>) -> Vec<Window> {
        times.into_iter().map(|at| Window::stamped(at, resolution_ms)).collect()
    }

    fn found(times: impl IntoIterator<Item = i64>) -> Option<i64> {
        of_many(&ends(1, times), true, 3)
    }

    #[test]
    fn a_rhythm_is_found_and_named_as_people_set_it() {
        assert_eq!(found((0..6).map(|n| n * 10_014)), Some(10_000));
        assert_eq!(found((0..6).map(|n| n * 5014).filter(|t| *t != 15_042)), Some(5000));
        assert_eq!(found((0..3).map(|n| n * 5000)), None, "too few");
        assert_eq!(found([0, 1000, 7000, 8500, 30_000]), None, "no rhythm");
        assert_eq!(of_many(&ends(1000, [20_000, 25_000, 30_000, 36_000]), false, 3), Some(5000));
        for seconds in [5, 6, 7, 10, 12, 15, 20, 30, 60, 120, 300] {
            assert_eq!(found((0..6).map(|n| n * seconds * 1000 + n % 3 * 60)), Some(seconds * 1000));
        }
    }

    #[test]
    fn two_streams_of_five_seconds_are_not_one_of_two_and_a_half() {
        assert_eq!(found((0..10).map(|n| n * 2500)), Some(5000));
        assert_eq!(found((0..10).flat_map(|n| [n * 5000, n * 5000 + 1300])), Some(5000));
    }

    #[test]
    fn a_tests_rhythm_is_found_too() {
        assert_eq!(found((0..20).map(|n| n * 200)), Some(200));
    }

    #[test]
    fn what_all_of_them_keep_is_one_interval() {
        let interval = |windows: &[Window]| {
            let windows = windows.iter().copied();
            of_one(windows.clone(), mean_setting(windows)?).map(|phases| phases.expected.interval_ms)
        };
        assert_eq!(interval(&ends(1000, (0..9).map(|n| n * 30_000))), Some(30_000));
        assert_eq!(interval(&ends(1, [0, 5000, 15_000, 20_000])), None);
        assert_eq!(interval(&ends(1, [0])), None);
    }
}
