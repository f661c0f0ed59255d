//! What CloudWatch will read: busy and steal by minutes of the wall clock, and by five minutes, as basic monitoring
//! has them. Pure; the times are handed in. An instance's CPUUtilization is published a minute at a time with
//! detailed and every five minutes with basic monitoring
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/manage-detailed-monitoring.html>).

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::host::Share;
use crate::sys::clock::rfc3339;

/// The finest that is kept, in seconds: the shortest datapoint of high resolution; all others are made of it.
const SLOT: i64 = 10;
/// A day and what is cut by its ends; a run without an end keeps the last of them.
const MOST_KEPT: usize = 8642;

/// What was seen of one datapoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Its first second, since the epoch.
    pub start: i64,
    /// How many of its seconds were seen.
    pub secs: f64,
    /// What became of the CPU time in those seconds.
    pub share: Share,
}

/// A datapoint as programs read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Datapoint {
    /// Its first second.
    pub start: String,
    /// Seconds of it that were seen: fewer than it has at the ends of a run and where the host slept.
    pub seen_secs: f64,
    /// What CPUUtilization counts, in the seconds that were seen.
    pub busy_pct: f64,
    /// Of the whole datapoint CPUUtilization reads at least this,
    pub low_pct: f64,
    /// and at most this: nobody knows what was in the seconds that weren't seen.
    pub high_pct: f64,
    /// What the hypervisor withheld.
    pub steal_pct: f64,
}

impl Bucket {
    /// Whether (nearly) all of a datapoint of this many seconds was seen.
    pub fn is_whole(&self, length: i64) -> bool {
        self.secs >= length as f64 * 59.0 / 60.0
    }

    /// As programs read it, of a datapoint of `length` seconds.
    pub fn datapoint(&self, length: i64) -> Datapoint {
        let (length, secs) = (length as f64, self.secs.min(length as f64));
        let low = self.share.busy_pct() * secs / length;
        Datapoint {
            low_pct: hundredths(low),
            high_pct: hundredths((low + 100.0 * (length - secs) / length).min(100.0)),
            start: Timestamp::from_second(self.start).map(rfc3339).unwrap_or_default(),
            seen_secs: hundredths(self.secs),
            busy_pct: hundredths(self.share.busy_pct()),
            steal_pct: hundredths(self.share.steal_pct()),
        }
    }
}

/// To two decimals, as figures for people and programs are given.
pub fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The time of a run by the clock, in its order.
#[derive(Debug, Clone, Default)]
pub struct Minutes {
    buckets: VecDeque<Bucket>,
}

impl Minutes {
    /// Counts the `secs` that ended at `until` by the wall clock. A span over the turn of a minute belongs to both in
    /// proportion. Nothing is assumed of the wall clock: where it was set, or leapt over a suspend, the seconds
    /// belong where it says they ended.
    pub fn add(&mut self, until: Timestamp, secs: f64, share: Share) {
        let until = until.as_millisecond() as f64 / 1000.0;
        let mut from = until - secs;
        while secs > 0.0 && from < until {
            let start = (from / SLOT as f64).floor() * SLOT as f64;
            let end = until.min(start + SLOT as f64);
            self.bucket(start as i64, end - from, share.scaled((end - from) / secs));
            from = end;
        }
    }

    fn bucket(&mut self, start: i64, secs: f64, share: Share) {
        let place = self.buckets.partition_point(|b| b.start < start);
        match self.buckets.get_mut(place) {
            Some(bucket) if bucket.start == start => {
                bucket.secs += secs;
                bucket.share += share;
            }
            _ => self.buckets.insert(place, Bucket { start, secs, share }),
        }
        if self.buckets.len() > MOST_KEPT {
            self.buckets.pop_front();
        }
    }

    /// What was seen, ten seconds by ten seconds.
    pub fn slots(&self) -> impl DoubleEndedIterator<Item = &Bucket> {
        self.buckets.iter()
    }

    /// The same by datapoints of `length` seconds, a multiple of ten; the ends may be cut.
    pub fn by(&self, length: i64) -> Vec<Bucket> {
        let mut all: Vec<Bucket> = Vec::new();
        for slot in &self.buckets {
            let start = slot.start - slot.start.rem_euclid(length);
            match all.last_mut() {
                Some(last) if last.start == start => {
                    last.secs += slot.secs;
                    last.share += slot.share;
                }
                _ => all.push(Bucket { start, ..*slot }),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(busy: f64) -> Share {
        Share { busy, steal: 0.0, total: 1.0 }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Seconds one by one from `from` on, each busy by `busy`.
    fn run(minutes: &mut Minutes, from: Timestamp, secs: i64, busy: f64) {
        for second in 1..=secs {
            let until = Timestamp::from_millisecond(from.as_millisecond() + second * 1000).unwrap();
            minutes.add(until, 1.0, share(busy));
        }
    }

    fn starts(minutes: &Minutes) -> Vec<(String, f64)> {
        minutes.by(60).iter().map(|b| (b.datapoint(60).start, hundredths(b.secs))).collect()
    }

    #[test]
    fn minutes_are_the_clocks_and_not_the_runs_over_midnight_too() {
        let mut minutes = Minutes::default();
        run(&mut minutes, at("2026-12-31T23:59:30.500Z"), 90, 0.5);
        let got = starts(&minutes);
        assert_eq!(got[0], ("2026-12-31T23:59:00.000Z".into(), 29.5));
        assert_eq!(got[1], ("2027-01-01T00:00:00.000Z".into(), 60.0));
        assert_eq!(got[2], ("2027-01-01T00:01:00.000Z".into(), 0.5));
        assert!(minutes.by(60).iter().all(|b| (b.share.busy_pct() - 50.0).abs() < 1e-6));
        assert_eq!(minutes.by(60).iter().filter(|b| b.is_whole(60)).count(), 1);
    }

    #[test]
    fn what_was_not_seen_of_a_datapoint_leaves_bounds() {
        let mut minutes = Minutes::default();
        run(&mut minutes, at("2026-01-01T10:00:10Z"), 50, 0.999);
        let point = minutes.by(60)[0].datapoint(60);
        assert_eq!((point.busy_pct, point.low_pct, point.high_pct), (99.9, 83.25, 99.92));
        let five = minutes.by(300)[0].datapoint(300);
        assert_eq!((five.low_pct, five.high_pct), (16.65, 99.98));
    }

    #[test]
    fn a_clock_set_back_fills_the_minute_again_in_its_place() {
        let mut minutes = Minutes::default();
        run(&mut minutes, at("2026-01-01T10:05:00Z"), 70, 1.0);
        run(&mut minutes, at("2026-01-01T10:03:50Z"), 80, 0.0);
        let got: Vec<_> = minutes.by(60).iter().map(|b| (b.start % 3600 / 60, b.secs.round())).collect();
        assert_eq!(got, [(3, 10.0), (4, 60.0), (5, 70.0), (6, 10.0)]);
    }

    #[test]
    fn a_leap_of_suspend_leaves_the_minutes_between_unseen() {
        let mut minutes = Minutes::default();
        run(&mut minutes, at("2026-01-01T10:00:00Z"), 30, 1.0);
        run(&mut minutes, at("2026-01-01T12:00:10Z"), 5, 1.0);
        let got = starts(&minutes);
        assert_eq!(got.len(), 2);
        assert_eq!(got[1], ("2026-01-01T12:00:00.000Z".into(), 5.0));
    }

    #[test]
    fn five_minutes_are_aligned_and_weighted_by_what_was_seen() {
        let mut minutes = Minutes::default();
        run(&mut minutes, at("2026-01-01T10:03:00Z"), 120, 1.0);
        run(&mut minutes, at("2026-01-01T10:05:00Z"), 60, 0.5);
        let fives = minutes.by(300);
        assert_eq!(fives.iter().map(|b| b.start % 3600 / 60).collect::<Vec<_>>(), [0, 5]);
        assert!((fives[0].share.busy_pct() - 100.0).abs() < 1e-6 && (fives[0].secs - 120.0).abs() < 1e-6);
        assert!((fives[1].share.busy_pct() - 50.0).abs() < 1e-6);
    }

    #[test]
    fn a_run_without_an_end_keeps_a_day() {
        let mut minutes = Minutes::default();
        for slot in 0..20_000_i64 {
            minutes.add(Timestamp::from_second(slot * 10 + 5).unwrap(), 1.0, share(1.0));
        }
        assert_eq!(minutes.slots().count(), MOST_KEPT);
        assert_eq!(minutes.slots().next_back().unwrap().start, 199_990);
    }
}
