//! `--expect auto`: the interval that probes have. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Beat;

/// The shortest interval of a target group, with some room for jitter
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html>).
pub(super) const SHORTEST_MS: i64 = 4500;
/// Streams of one node that are told apart: in m of them every m-th probe is of the same one.
const MAX_STREAMS: usize = 8;
/// Whole seconds are what people set: an interval this near to one is that one.
const WHOLE: f64 = 0.02;

/// The interval of the steadiest node; `None` with fewer than `enough` intervals that agree. A rhythm faster than any
/// target group's is taken for several streams where that fits, and else for a test's.
pub(super) fn interval_ms(beats: &[Beat], enough: usize) -> Option<i64> {
    let mut by_node: BTreeMap<(IpAddr, u64), Vec<i64>> = BTreeMap::new();
    let mut coarse = false;
    for beat in beats {
        by_node.entry((beat.node, beat.key)).or_default().push(beat.at_ms);
        coarse |= beat.resolution_ms >= 1000;
    }
    let longest = by_node.values().max_by_key(|times| times.len())?;
    let slack = if coarse { 1000 } else { 0 };
    let steady = |m: usize| {
        let mut lags: Vec<i64> = longest.iter().zip(longest.iter().skip(m)).map(|(a, b)| b - a).collect();
        lags.sort_unstable();
        let middle = *lags.get(lags.len() / 2)?;
        let near = lags.iter().filter(|lag| (**lag - middle).abs() <= (middle / 10).max(slack)).count();
        let mean = || {
            let near = lags.iter().filter(|lag| (**lag - middle).abs() <= (middle / 10).max(slack));
            near.clone().sum::<i64>() as f64 / near.count().max(1) as f64
        };
        (lags.len() >= enough && near * 4 >= lags.len() * 3 && middle > 0).then(mean)
    };
    let found = (1..=MAX_STREAMS)
        .filter_map(&steady)
        .find(|mean| *mean >= SHORTEST_MS as f64)
        .or_else(|| steady(1).filter(|_| longest.len() > MAX_STREAMS + enough))?;
    let whole = (found / 1000.0).round() * 1000.0;
    Some(if whole > 0.0 && (found - whole).abs() <= whole * WHOLE { whole } else { found.round() } as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(times: impl IntoIterator<Item = i64>) -> Vec<Beat> {
        let node = "10.0.0.1".parse().unwrap();
        times.into_iter().map(|at_ms| Beat { node, key: 0, at_ms, resolution_ms: 1, ok: true }).collect()
    }

    #[test]
    fn a_rhythm_is_found_and_rounded_to_what_people_set() {
        assert_eq!(interval_ms(&beats((0..6).map(|n| n * 10_014)), 3), Some(10_000));
        assert_eq!(interval_ms(&beats((0..6).map(|n| n * 5014).filter(|t| *t != 15_042)), 3), Some(5000));
        assert_eq!(interval_ms(&beats((0..3).map(|n| n * 5000)), 3), None, "too few");
        assert_eq!(interval_ms(&beats([0, 1000, 7000, 8500, 30_000]), 3), None, "no rhythm");
    }

    #[test]
    fn two_streams_of_five_seconds_are_not_one_of_two_and_a_half() {
        assert_eq!(interval_ms(&beats((0..10).map(|n| n * 2500)), 3), Some(5000));
        assert_eq!(interval_ms(&beats((0..10).flat_map(|n| [n * 5000, n * 5000 + 1300])), 3), Some(5000));
    }

    #[test]
    fn a_tests_rhythm_is_found_too() {
        assert_eq!(interval_ms(&beats((0..20).map(|n| n * 200)), 3), Some(200));
    }
}
