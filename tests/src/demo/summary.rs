//! What the clients' answers add up to: pure.

use std::time::Duration;

use super::traffic::Seen;

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

    #[test]
    fn the_median_and_the_worst_are_of_all_answers() {
        let all: Vec<Seen> = [(9, 200), (5, 0), (6, 200)]
            .map(|(ms, status)| Seen { took: Duration::from_millis(ms), status })
            .into();
        assert_eq!(latency(&all), Some((6.0, 9.0, 1)));
        assert_eq!(latency(&[]), None);
    }
}
