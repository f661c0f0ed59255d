//! Random rhythms, and random ways to break one: a right rhythm is always confirmed, a broken one never. A few hundred
//! of each run with the other tests, and thousands with `make soak-cadence`.

use super::order::{Order, Ordered};
use super::verdict::{Log, Reason, Verdict, judge};
use super::*;

/// SplitMix64: a case is its number, and runs again by it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Both ends included.
    fn within(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.next() % (to - from + 1).unsigned_abs()).unwrap()
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answers {
    /// All of them take so long.
    Even(i64),
    /// Up to so long.
    Up(i64),
    /// Mostly a millisecond, at times up to so long.
    Rarely(i64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// One probe doesn't come.
    Missing(i64),
    /// From this one on all come so much later.
    Late(i64, i64),
    /// Another interval.
    Interval(i64),
}

#[derive(Debug, Clone)]
struct Case {
    nodes: i64,
    probes: i64,
    jitter_ms: i64,
    period_ms: i64,
    /// The next probe is timed from the last, whose jitter adds up.
    walks: bool,
    whole_seconds: bool,
    request_time: bool,
    answers: Answers,
    /// Of the first node.
    fault: Fault,
}

impl Case {
    fn new(random: &mut Random) -> Self {
        let probes = if random.one_in(100) { random.within(2000, 17_280) } else { random.within(60, 400) };
        let slow = random.within(0, 2000);
        let walks = random.one_in(3);
        Self {
            nodes: random.within(1, 8),
            probes,
            jitter_ms: random.within(3, 200),
            period_ms: random.within(5000, 5014),
            walks,
            whole_seconds: random.one_in(2),
            request_time: random.one_in(2),
            answers: match random.within(0, 2) {
                0 => Answers::Even(slow),
                1 => Answers::Up(slow),
                _ => Answers::Rarely(slow),
            },
            fault: Fault::None,
        }
    }

    /// A lateness that slow answers, whole seconds and a phase that goes astray by itself can't explain.
    fn late_by(&self, random: &mut Random) -> i64 {
        let walked = if self.walks { 5 * self.jitter_ms } else { 0 };
        let stamps = if self.whole_seconds { 2400 } else { 1500 };
        let answers = match self.answers {
            Answers::Up(ms) if !self.request_time => ms + if self.whole_seconds { 1100 } else { 400 },
            _ => 0,
        };
        random
            .within(stamps.max(answers) + walked, 3500.max(answers + walked + 100).max(stamps + walked + 100))
    }

    fn arrivals(&self, random: &mut Random) -> Vec<ProbeArrival> {
        let mut all = Vec::new();
        for number in 0..self.nodes {
            let node = IpAddr::from([172, 31, 0, u8::try_from(number).unwrap() + 1]);
            let fault = if number == 0 { self.fault } else { Fault::None };
            let phase = 1_700_000_000_000 + random.within(0, 4999);
            let (period, probes) = match fault {
                Fault::Interval(ms) => (ms, self.probes * 5000 / ms),
                _ => (self.period_ms, self.probes),
            };
            let mut at = phase;
            for n in 0..probes {
                let jitter = random.within(-self.jitter_ms, self.jitter_ms);
                at += if n > 0 { period } else { 0 } + if self.walks { jitter } else { 0 };
                let mut began = if self.walks { at } else { at + jitter };
                match fault {
                    Fault::Missing(missing) if missing == n => continue,
                    Fault::Late(from, by_ms) if n >= from => began += by_ms,
                    _ => {}
                }
                let took = match self.answers {
                    Answers::Even(ms) => ms,
                    Answers::Up(ms) => random.within(0, ms),
                    Answers::Rarely(ms) if random.one_in(15) => random.within(0, ms),
                    Answers::Rarely(_) => 1,
                };
                let ended = match self.whole_seconds {
                    true => Window::stamped((began + took) / 1000 * 1000, 1000),
                    false => Window::stamped(began + took, 1),
                };
                let took_ms = self.request_time.then_some(took);
                all.push(ProbeArrival { node, stream: 0, ended, took_ms, status: Some(200) });
            }
        }
        // The log ends for all of them at the same time.
        let last = |all: &[ProbeArrival], node: IpAddr| {
            all.iter().filter(|arrival| arrival.node == node).map(|arrival| arrival.ended.from_ms).max()
        };
        let nodes: std::collections::BTreeSet<IpAddr> = all.iter().map(|arrival| arrival.node).collect();
        let end = nodes.iter().filter_map(|node| last(&all, *node)).min();
        all.retain(|arrival| end.is_none_or(|end| arrival.ended.from_ms <= end));
        all.sort_by_key(|arrival| arrival.ended.from_ms);
        all
    }

    fn judge(&self, random: &mut Random, expect: Option<i64>) -> Verdict {
        verdict_of(&self.arrivals(random), expect)
    }
}

fn verdict_of(arrivals: &[ProbeArrival], expect: Option<i64>) -> Verdict {
    let mut cadence = Cadence::new(expect, None);
    let mut order = Order::new(60_000);
    let mut observe = |ordered: Ordered| match ordered {
        Ordered::Probe(arrival) => {
            cadence.observe(arrival);
        }
        Ordered::SetBack => panic!("set back"),
    };
    arrivals.iter().for_each(|arrival| order.push(*arrival, &mut observe));
    order.ripe(i64::MAX, &mut observe);
    cadence.settle_now(true);
    let times = || arrivals.iter().map(|arrival| arrival.ended.from_ms);
    let log = Log {
        there: true,
        whole: true,
        lines: arrivals.len() as u64,
        first_ms: times().min(),
        last_ms: times().max(),
        out_of_order: order.is_broken(None),
        ..Log::default()
    };
    judge(&cadence, &log, &Period::until(times().max().unwrap_or(0)))
}

fn cases() -> u64 {
    std::env::var("CADENCE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// Where to begin, to run some cases alone.
fn first_case() -> u64 {
    std::env::var("CADENCE_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Runs as many cases as asked for; each is told by its number.
fn each(seed: u64, check: impl Fn(Case, &mut Random) -> Result<(), String>) {
    let failed: Vec<String> = (first_case()..cases())
        .filter_map(|number| {
            let mut random = Random(seed << 32 | number);
            let case = Case::new(&mut random);
            check(case, &mut random).err().map(|told| format!("case {number}: {told}"))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {}",
        failed.len(),
        cases(),
        failed[..failed.len().min(8)].join("\n")
    );
}

fn told(case: &Case, verdict: &Verdict) -> String {
    format!("{case:?}\n  {:?} {}\n  {:?}", verdict.reason, verdict.explanation, verdict.nodes.first())
}

#[test]
fn every_right_rhythm_is_confirmed() {
    each(1, |case, random| {
        let expect = (!random.one_in(3)).then_some(5000);
        let verdict = case.judge(random, expect);
        let right = verdict.reason == Reason::OnTime
            && verdict.expected.is_some_and(|expected| expected.interval_ms == 5000)
            && verdict.nodes.iter().all(|node| node.missed == 0);
        right.then_some(()).ok_or_else(|| told(&case, &verdict))
    });
}

#[test]
fn one_missing_probe_is_found_and_counted() {
    each(2, |mut case, random| {
        case.fault = Fault::Missing(random.within(1, case.probes - 5));
        let verdict = case.judge(random, Some(5000));
        let node = &verdict.nodes[0];
        let right = verdict.reason == Reason::OffRhythm
            && (node.missed..=node.missed_max.unwrap_or(node.missed)).contains(&1);
        right.then_some(()).ok_or_else(|| told(&case, &verdict))
    });
}

#[test]
fn a_node_that_is_late_for_good_is_found() {
    each(3, |mut case, random| {
        let from = random.within(case.probes / 4, case.probes * 3 / 4);
        case.fault = Fault::Late(from, case.late_by(random));
        let verdict = case.judge(random, Some(5000));
        (verdict.reason == Reason::OffRhythm).then_some(()).ok_or_else(|| told(&case, &verdict))
    });
}

#[test]
fn a_node_with_another_interval_is_found_and_its_interval_named() {
    each(4, |mut case, random| {
        let seconds = [6, 7, 8, 10, 12, 15, 20, 30][usize::try_from(random.within(0, 7)).unwrap()];
        case.fault = Fault::Interval(seconds * 1000);
        let verdict = case.judge(random, Some(5000));
        let reason = if case.nodes == 1 { Reason::OtherInterval } else { Reason::OffRhythm };
        (verdict.reason == reason).then_some(()).ok_or_else(|| told(&case, &verdict))
    });
}

#[test]
fn too_little_is_never_confirmed() {
    each(5, |mut case, random| {
        case.probes = random.within(1, 2);
        let expect = random.one_in(2).then_some(5000);
        let verdict = case.judge(random, expect);
        (verdict.reason == Reason::TooFew).then_some(()).ok_or_else(|| told(&case, &verdict))
    });
}
