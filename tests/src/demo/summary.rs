//! What the clients' answers add up to: pure.

use std::time::{Duration, Instant};

use super::traffic::Seen;

/// From the first to the last client error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outage {
    /// When the first request was sent that failed.
    pub(super) first: Instant,
    /// When the last one was.
    pub(super) last: Instant,
    /// How many failed.
    pub(super) errors: usize,
}

/// The outage window, if there was an error at all.
pub(super) fn outage<'a>(seen: impl Iterator<Item = &'a Seen>) -> Option<Outage> {
    seen.filter(|one| one.status != 200).fold(None, |sum, one| match sum {
        None => Some(Outage { first: one.at, last: one.at, errors: 1 }),
        Some(sum) => {
            Some(Outage { first: sum.first.min(one.at), last: sum.last.max(one.at), errors: sum.errors + 1 })
        }
    })
}

/// One mark for each `column` of time since `zero`: `mark` where a request that `picks` was sent, else `.`.
pub(super) fn strip(
    seen: &[&Seen],
    zero: Instant,
    column: Duration,
    columns: usize,
    mark: char,
    picks: impl Fn(&Seen) -> bool,
) -> String {
    let mut marks = vec!['.'; columns];
    for one in seen.iter().filter(|one| one.at >= zero && picks(one)) {
        let place = (one.at - zero).as_nanos() / column.as_nanos().max(1);
        if let Some(place) = usize::try_from(place).ok().and_then(|place| marks.get_mut(place)) {
            *place = mark;
        }
    }
    marks.into_iter().collect()
}

/// The median and the longest time of answers, in milliseconds, and how many were no 200.
pub(super) fn latency(seen: &[Seen]) -> Option<(f64, f64, usize)> {
    let mut took: Vec<Duration> = seen.iter().map(|one| one.took).collect();
    took.sort_unstable();
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let failed = seen.iter().filter(|one| one.status != 200).count();
    Some((ms(took.get(took.len() / 2)?), ms(took.last()?), failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(zero: Instant, tenths: u32, status: u16) -> Seen {
        let took = Duration::from_millis(tenths.into());
        Seen { at: zero + Duration::from_millis(100) * tenths, took, status, instance: None }
    }

    #[test]
    fn the_outage_goes_from_the_first_to_the_last_error() {
        let zero = Instant::now();
        let all: Vec<Seen> =
            [(0, 200), (5, 502), (6, 200), (9, 0), (12, 200)].map(|(t, s)| seen(zero, t, s)).into();
        let outage = outage(all.iter()).unwrap();
        assert_eq!((outage.first, outage.last, outage.errors), (all[1].at, all[3].at, 2));
        assert_eq!(super::outage(all[4..].iter()), None);
        assert_eq!(latency(&all), Some((6.0, 12.0, 2)));
    }

    #[test]
    fn a_strip_marks_when_something_was_seen() {
        let zero = Instant::now();
        let all = [(0, 200), (15, 502), (16, 502), (31, 200), (99, 502)].map(|(t, s)| seen(zero, t, s));
        let all: Vec<&Seen> = all.iter().collect();
        let second = Duration::from_secs(1);
        assert_eq!(strip(&all, zero, second, 5, '#', |one| one.status == 502), ".#...");
        assert_eq!(strip(&all, zero, second, 5, '#', |one| one.status == 200), "#..#.");
    }
}
