//! When requests are due: an absolute schedule that no answer can delay (an open loop: a client that waits for a slow
//! answer before it asks again doesn't see the outage it sits in). Pure.

use std::time::Duration;

use crate::drill::client::sample::Stream;
use crate::drill::client::samples::Samples;

/// A request this late isn't where the schedule wanted it: 20 requests a second are 50 ms apart.
pub const LATE: Duration = Duration::from_millis(20);

/// The schedule of one node.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    period: Duration,
    offset: Duration,
}

impl Pace {
    /// `rps` requests a second; `node` shifts the schedule, so that nodes aren't asked in the same instant.
    pub fn new(rps: u32, node: u16) -> Self {
        let period = Duration::from_secs(1) / rps.max(1);
        // The golden ratio spreads any number of nodes evenly over the period.
        let offset = period.mul_f64((f64::from(node) * 0.618_033_988_749_895).fract());
        Self { period, offset }
    }

    /// From one request to the next.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// When request `number` is due, since the start.
    pub fn due(&self, number: u64) -> Duration {
        let nanos = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX);
        self.offset + Duration::from_nanos(nanos.saturating_mul(number))
    }

    /// The first request that is due at `now` or later.
    pub fn next_after(&self, now: Duration) -> u64 {
        let since = now.saturating_sub(self.offset).as_nanos();
        u64::try_from(since.div_ceil(self.period.as_nanos().max(1))).unwrap_or(u64::MAX)
    }

    /// Which kind of connection request `number` uses. Of each two in a row one is new and one is kept, in an order
    /// that looks random: a load balancer that sends requests to two targets in turn would otherwise give all new
    /// connections to one and all kept ones to the other.
    pub fn stream(number: u64) -> Stream {
        let mut z = (number / 2).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let coin = (z >> 40) & 1;
        if number % 2 == coin { Stream::New } else { Stream::Kept }
    }
}

/// How well the schedule was kept.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lateness {
    /// Requests that were sent more than [`LATE`] after they were due.
    pub late: u64,
    /// The same in percent of all.
    pub late_pct: f64,
    /// The latest, in milliseconds.
    pub worst_ms: f64,
    /// Whether that blurs the figures: more than one in a hundred.
    pub blurred: bool,
}

impl Lateness {
    /// Of these samples.
    pub fn of(samples: &Samples) -> Self {
        let late = samples.iter().filter(|one| one.late() > LATE).count();
        let late_pct = 100.0 * late as f64 / samples.len().max(1) as f64;
        let worst_ms = (samples.latest().as_secs_f64() * 1e4).round() / 10.0;
        Self {
            late: late as u64,
            late_pct: (late_pct * 100.0).round() / 100.0,
            worst_ms,
            blurred: late_pct > 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_absolute_and_nodes_have_their_own() {
        let pace = Pace::new(20, 0);
        assert_eq!(pace.due(40), Duration::from_secs(2));
        assert_eq!(pace.next_after(Duration::from_millis(1001)), 21);
        assert_eq!(pace.next_after(Duration::from_secs(1)), 20);
        let other = Pace::new(20, 1);
        assert!(other.due(0) > Duration::ZERO && other.due(0) < other.period());
        assert_eq!(other.next_after(other.due(7)), 7);
    }

    #[test]
    fn each_two_requests_have_one_of_each_kind_in_either_order() {
        let first: Vec<Stream> = (0..400).step_by(2).map(Pace::stream).collect();
        for (number, stream) in (0..400).step_by(2).zip(&first) {
            assert_ne!(Pace::stream(number + 1), *stream);
        }
        let new = first.iter().filter(|s| **s == Stream::New).count();
        assert!((60..140).contains(&new), "{new} of 200 begin with a new connection");
    }
}
