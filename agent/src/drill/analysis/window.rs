//! What clients lost: the outage window of a node, and which instance answered when. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::drill::client::sample::{Book, By, Outcome, Sample, Stream};
use crate::drill::schedule::phase::Marks;

/// From the first to the last client error, by when the requests were sent: whoever asked at such a time got none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first request that failed.
    pub first: Duration,
    /// The last.
    pub last: Duration,
    /// How many did.
    pub errors: u64,
}

impl Window {
    /// The window of these samples, in any order.
    pub fn of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<Self> {
        samples.filter(|one| !one.is_ok()).fold(None, |sum: Option<Self>, one| {
            let at = one.start();
            let sum = sum.unwrap_or(Self { first: at, last: at, errors: 0 });
            Some(Self { first: sum.first.min(at), last: sum.last.max(at), errors: sum.errors + 1 })
        })
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        self.last - self.first
    }
}

/// Answers so close together are of the same moment.
const MOMENT: Duration = Duration::from_secs(1);

/// Milliseconds with three places, as all figures in the report.
pub fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

fn as_ms<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    duration.map(ms).serialize(to)
}

/// One kind of connection at one node.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StreamReport {
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// From the first to the last error.
    #[serde(rename = "outage_ms", serialize_with = "as_ms")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub outage: Option<Duration>,
}

/// One node.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeReport {
    /// Its address.
    pub node: String,
    /// Whether the name still had it at the end.
    pub present: bool,
    /// Whether it sent requests to this target before the trouble.
    pub used_before: bool,
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// The first that failed, since the start.
    #[serde(rename = "first_error_ms", serialize_with = "as_ms")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub first_error: Option<Duration>,
    /// The last.
    #[serde(rename = "last_error_ms", serialize_with = "as_ms")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub last_error: Option<Duration>,
    /// From the one to the other.
    #[serde(rename = "outage_ms", serialize_with = "as_ms")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub outage: Option<Duration>,
    /// This target's last answer before the fault was over, since the fault began; `None` when that was before it was seen.
    #[serde(rename = "drained_after_ms", serialize_with = "as_ms")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub drained_after: Option<Duration>,
    /// This target's first answer since the recovery.
    #[serde(rename = "readmitted_after_ms", serialize_with = "as_ms")]
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub readmitted_after: Option<Duration>,
    /// How requests failed, by status or class, and how many so.
    pub failures: BTreeMap<String, u64>,
    /// Those that failed as a target did, by what the answer tells.
    pub by_target: u64,
    /// Those that the load balancer answered itself, as it had no target to send them to.
    pub by_no_target: u64,
    /// Those that its own address refused or cut off.
    pub by_load_balancer: u64,
    /// New connections.
    pub new: StreamReport,
    /// Kept ones.
    pub kept: StreamReport,
}

/// An instance that answered.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InstanceReport {
    /// What it calls itself.
    pub instance: String,
    /// Answers, errors among them.
    pub answers: u64,
    /// Its first, since the start.
    pub first_ms: f64,
    /// Its last.
    pub last_ms: f64,
    /// Whether it answered during the baseline.
    pub before: bool,
}

/// Every node, as it was from the beginning of the trouble on. `us` is the target's place among the instances, `present`
/// what the name has at the end.
pub fn nodes(book: &Book, marks: &Marks, us: Option<u8>, present: &[SocketAddr]) -> Vec<NodeReport> {
    let since = marks.trouble().unwrap_or(Duration::MAX);
    let node = |(place, addr): (usize, &SocketAddr)| {
        let of_node = |one: &&Sample| usize::from(one.node) == place;
        let all: Vec<&Sample> = book.samples.iter().filter(of_node).collect();
        let troubled = || all.iter().copied().filter(|one| one.start() >= since);
        let window = Window::of(troubled());
        let ours = || all.iter().filter(|one| us.is_some() && one.instance == us && one.is_ok());
        let drained_after = marks.effective.zip(marks.begun()).and_then(|(effective, begun)| {
            let over = marks.recovering.unwrap_or(marks.end);
            // A request sent during a hang and answered after it proves nothing.
            let before = ours().filter(|one| one.start() < over && one.end() <= over);
            let last = before.map(|one| one.start()).max()?;
            (last > effective).then(|| last - begun.min(effective))
        });
        let readmitted_after = marks.recovered.and_then(|recovered| {
            let first = ours().map(|one| one.start()).filter(|at| *at >= recovered).min()?;
            Some(first - recovered)
        });
        let used_before = all.iter().any(|one| us.is_some() && one.instance == us && one.start() < since);
        let failed_by = |by: By| troubled().filter(|one| one.failed_by() == Some(by)).count() as u64;
        // Where others were answered in the same moment there were targets, and this was the one that failed.
        let mut answered: Vec<Duration> =
            all.iter().filter(|one| one.is_ok()).map(|one| one.start()).collect();
        answered.sort_unstable();
        let alone = |one: &&Sample| {
            let from = answered.partition_point(|at| *at + MOMENT < one.start());
            answered.get(from).is_none_or(|at| *at > one.start() + MOMENT)
        };
        let no_target =
            troubled().filter(|one| one.failed_by() == Some(By::NoTarget)).filter(alone).count() as u64;
        let mut failures = BTreeMap::new();
        for one in troubled().filter(|one| !one.is_ok()) {
            *failures.entry(name(one.outcome)).or_insert(0) += 1;
        }
        let stream = |kind: Stream| {
            let mine = || troubled().filter(move |one| one.stream == kind);
            let window = Window::of(mine());
            StreamReport {
                requests: mine().count() as u64,
                errors: window.map_or(0, |w| w.errors),
                outage: window.map(|w| w.length()),
            }
        };
        NodeReport {
            node: addr.to_string(),
            present: present.contains(addr),
            used_before,
            requests: all.len() as u64,
            errors: window.map_or(0, |w| w.errors),
            first_error: window.map(|w| w.first),
            last_error: window.map(|w| w.last),
            outage: window.map(|w| w.length()),
            drained_after,
            readmitted_after,
            failures,
            by_target: failed_by(By::Target) + failed_by(By::NoTarget) - no_target,
            by_no_target: no_target,
            by_load_balancer: failed_by(By::LoadBalancer),
            new: stream(Stream::New),
            kept: stream(Stream::Kept),
        }
    };
    book.nodes().iter().enumerate().map(node).collect()
}

/// Every instance that said its name; `baseline` is when that was over.
pub fn instances(book: &Book, baseline: Duration) -> Vec<InstanceReport> {
    let one = |(place, name): (usize, &String)| {
        let mine = || book.samples.iter().filter(move |one| one.instance.map(usize::from) == Some(place));
        let starts = || mine().map(Sample::start);
        InstanceReport {
            instance: name.clone(),
            answers: mine().count() as u64,
            first_ms: ms(starts().min().unwrap_or_default()),
            last_ms: ms(starts().max().unwrap_or_default()),
            before: starts().any(|at| at < baseline),
        }
    };
    book.instances().iter().enumerate().map(one).collect()
}

/// The longest that a node went without an answer of `us` before `until`: how finely an end of the outage can be seen.
/// `None` when it never answered.
pub fn gap(book: &Book, us: Option<u8>, until: Duration) -> Option<Duration> {
    let us = us?;
    let longest = |node: usize| {
        let mine = book
            .samples
            .iter()
            .filter(|one| usize::from(one.node) == node && one.instance == Some(us) && one.start() < until);
        let mut starts: Vec<Duration> = mine.map(Sample::start).collect();
        starts.sort_unstable();
        starts.windows(2).map(|pair| pair[1] - pair[0]).max()
    };
    (0..book.nodes().len()).filter_map(longest).max()
}

/// A failure's name: the status, or the class.
pub fn name(outcome: Outcome) -> String {
    match outcome {
        Outcome::Status(status) => status.to_string(),
        Outcome::Failed(class) => class.name().to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::drill::client::sample::Class;
    use crate::drill::schedule::phase::Phase;

    /// A sample at `at_ms`, answered 5 ms later.
    pub(crate) fn sample(at_ms: u64, outcome: Outcome, instance: Option<u8>) -> Sample {
        let (start_us, end_us) = (at_ms * 1000, at_ms * 1000 + 5000);
        Sample {
            due_us: start_us,
            start_us,
            end_us,
            node: 0,
            instance,
            stream: Stream::New,
            outcome,
            own: false,
        }
    }

    const OK: Outcome = Outcome::Status(200);
    const BAD: Outcome = Outcome::Failed(Class::Refused);

    #[test]
    fn the_window_goes_from_the_first_to_the_last_error_in_any_order() {
        let all =
            [(300, OK), (900, BAD), (500, BAD), (700, OK)].map(|(at, outcome)| sample(at, outcome, None));
        let window = Window::of(all.iter()).unwrap();
        assert_eq!((window.first.as_millis(), window.length().as_millis(), window.errors), (500, 400, 2));
        assert_eq!(Window::of(all[..1].iter()), None);
    }

    #[test]
    fn a_node_tells_when_the_target_went_and_came_back() {
        let mut book = Book::default();
        book.node("127.0.0.1:80".parse().unwrap());
        let us = book.instance("i-us");
        let other = book.instance("i-other");
        book.samples = vec![
            sample(100, BAD, None), // before the trouble
            sample(500, OK, us),
            sample(1200, Outcome::Status(502), None),
            sample(1300, OK, us),
            sample(2000, BAD, None),
            sample(2500, OK, other),
            sample(5000, OK, us),
        ];
        let mut marks = Marks { end: Duration::from_secs(6), ..Marks::default() };
        marks.begin(Phase::Baseline, Duration::ZERO);
        let at = |ms| Some(Duration::from_millis(ms));
        (marks.armed, marks.effective, marks.recovering, marks.recovered) =
            (at(1000), at(1100), at(3000), at(3100));
        let node = &nodes(&book, &marks, us, book.nodes())[0];
        assert_eq!((node.requests, node.errors, node.outage), (7, 2, at(800)));
        assert_eq!((node.drained_after, node.readmitted_after), (at(200), at(1900)));
        // Sent while it hung, and answered when that was over: no proof that it was still used.
        let late = Sample { end_us: 3_200_000, ..sample(2800, OK, us) };
        book.samples.push(late);
        assert_eq!(nodes(&book, &marks, us, book.nodes())[0].drained_after, at(200));
        book.samples.pop();
        marks.injected = at(900);
        let node = &nodes(&book, &marks, us, book.nodes())[0];
        assert_eq!(node.drained_after, at(400), "since it began, not since it was seen");
        assert_eq!(node.failures, BTreeMap::from([("502".into(), 1), ("refused".into(), 1)]));
        assert_eq!(gap(&book, us, Duration::from_millis(1500)), at(800));
        let found = instances(&book, Duration::from_secs(1));
        assert_eq!(found.iter().map(|i| i.before).collect::<Vec<_>>(), [true, false]);
    }
}
