//! What the public listener counts. Atomics, as the serving thread writes and the admin listener reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::wrong::WrongClients;

/// The statuses that the listener answers, each with a counter of its own; the last one is for any other.
const CODES: [u16; 7] = [200, 204, 400, 404, 405, 503, 0];
/// The upper bounds of the latency histogram, in microseconds.
pub(super) const BOUNDS_US: [u64; 10] = [50, 100, 250, 500, 1000, 2500, 5000, 25_000, 100_000, 1_000_000];

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    codes: [AtomicU64; CODES.len()],
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    latency_ns: AtomicU64,
    /// Connections taken.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections closed to make room for newer ones.
    pub evicted: AtomicU64,
    /// Connections closed at once, as every other was being served.
    pub refused: AtomicU64,
    /// Connections cut off because the client was too slow.
    pub timed_out: AtomicU64,
    /// What wrong clients sent.
    pub wrong: WrongClients,
    /// Times that a flood began.
    pub floods: AtomicU64,
    /// Whether the serving thread has real-time priority right now.
    pub realtime: AtomicBool,
}

impl Counters {
    /// An answer with `status`, written `latency` after its request was read.
    pub(super) fn answered(&self, status: u16) {
        let index = CODES.iter().position(|c| *c == status).unwrap_or(CODES.len() - 1);
        self.codes[index].fetch_add(1, Relaxed);
    }

    /// The time from a request read to its answer written.
    pub(super) fn took(&self, latency: Duration) {
        let us = latency.as_micros() as u64;
        let index = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        self.buckets[index].fetch_add(1, Relaxed);
        self.latency_ns.fetch_add(latency.as_nanos() as u64, Relaxed);
    }

    /// Answers by status; `"other"` for what has no counter.
    pub(super) fn by_code(&self) -> impl Iterator<Item = (String, u64)> {
        CODES.iter().zip(&self.codes).map(|(code, count)| {
            (if *code == 0 { "other".to_owned() } else { code.to_string() }, count.load(Relaxed))
        })
    }

    /// Counts by bucket, not cumulated, the last one without a bound; and the sum of all latencies in seconds.
    pub(super) fn latencies(&self) -> (Vec<u64>, f64) {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        (buckets, self.latency_ns.load(Relaxed) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_counted_once() {
        let counters = Counters::default();
        for status in [200, 200, 503, 431] {
            counters.answered(status);
        }
        let counts: Vec<_> = counters.by_code().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counts, [("200".to_owned(), 2), ("503".to_owned(), 1), ("other".to_owned(), 1)]);
        counters.took(Duration::from_micros(50));
        counters.took(Duration::from_secs(2));
        let (buckets, sum) = counters.latencies();
        assert_eq!((buckets[0], buckets[BOUNDS_US.len()], sum), (1, 1, 2.000_05));
    }
}
