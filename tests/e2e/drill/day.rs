//! A day at a thousand requests a second: the memory of a minute, and windows that are exact.

use std::fs;
use std::time::Duration;

use asg_agent::drill::analysis::scale::Watch;
use asg_agent::drill::analysis::{control, latency, window};
use asg_agent::drill::client::sample::{Book, Outcome, Sample, Stream};
use asg_agent::drill::schedule::pace::Lateness;
use asg_agent::drill::schedule::phase::{Marks, Phase};

/// The most memory that this process ever had, in MiB.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Requests to two nodes with two instances; every request of ours from `fails` on for ten seconds fails.
fn day(requests: u64, each: Duration, fails: Duration, book: &mut Book) {
    let nodes = [1, 2].map(|last| book.node(([127, 0, 0, last], 80).into()));
    let names = ["i-us", "i-other"].map(|name| book.instance(name));
    book.extend((0..requests).map(|n| {
        let at = each * u32::try_from(n).unwrap();
        let us = n % 4 < 2;
        let failed = us && at >= fails && at < fails + Duration::from_secs(10);
        let start_us = at.as_micros() as u64;
        Sample {
            due_us: start_us,
            start_us,
            end_us: start_us + 400 + n % 700,
            node: nodes[(n % 2) as usize],
            instance: if failed { None } else { names[usize::from(!us)] },
            stream: if n % 3 == 0 { Stream::Kept } else { Stream::New },
            outcome: Outcome::Status(if failed { 502 } else { 200 }),
            own: false,
        }
    }));
}

#[test]
#[ignore = "86 million requests: many minutes, and 2 GB of disk; DAY_REQUESTS is how many else"]
fn a_day_at_a_thousand_requests_a_second_takes_the_memory_of_a_minute() {
    let requests = std::env::var("DAY_REQUESTS").map_or(86_400_000, |count| count.parse().unwrap());
    let each = Duration::from_millis(1);
    let (end, fails) = (each * u32::try_from(requests).unwrap(), each * u32::try_from(requests / 2).unwrap());
    let mut book = Book::default();
    day(requests, each, fails, &mut book);
    let mut marks = Marks { end, ..Marks::default() };
    marks.begin(Phase::Baseline, Duration::ZERO);
    marks.begin(Phase::Observe, Duration::from_secs(5));
    let us = book.place_of("i-us");
    let nodes = window::nodes(&book, &marks, us, book.nodes());
    for node in &nodes {
        assert_eq!(node.outage, Some(Duration::from_millis(9996)), "{node:?}");
    }
    let phases = latency::phases(book.samples(), &marks);
    assert_eq!(phases.iter().map(|phase| phase.requests).sum::<u64>(), requests);
    assert_eq!(control::groups(&book, &marks, Some("i-us")).len(), 4);
    assert_eq!(Lateness::of(book.samples()).late, 0);
    let watch = Watch { from: Duration::from_secs(1), until: end, silence: Duration::from_secs(5) };
    assert_eq!(watch.at(&book, end).requests, requests);
    assert!(most_memory() < 150, "{} MiB", most_memory());
}
