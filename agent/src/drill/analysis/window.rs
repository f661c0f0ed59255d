//! What clients lost: the outage window of a node, and which instance answered when. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::drill::client::sample::{Answers, Book, By, Outcome, Sample, Stream};
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
    pub fn of(samples: impl Iterator<Item = Sample>) -> Option<Self> {
        samples.fold(None, |mut sum, one| {
            Self::take(&mut sum, &one);
            sum
        })
    }

    /// Takes a request in.
    fn take(sum: &mut Option<Self>, one: &Sample) {
        if one.is_ok() {
            return;
        }
        let at = one.start();
        let window = sum.get_or_insert(Self { first: at, last: at, errors: 0 });
        (window.first, window.last) = (window.first.min(at), window.last.max(at));
        window.errors += 1;
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

/// What is gathered of a node while its samples go by in the order in which they were sent.
#[derive(Debug, Default)]
struct Gathered {
    requests: u64,
    window: Option<Window>,
    /// The last answer of this target that proves that it was still used.
    used_last: Option<Duration>,
    readmitted: Option<Duration>,
    used_before: bool,
    failures: BTreeMap<Outcome, u64>,
    by_target: u64,
    by_no_target: u64,
    by_load_balancer: u64,
    alone: Alone,
    new: Kind,
    kept: Kind,
}

/// One kind of connection.
#[derive(Debug, Default)]
struct Kind {
    requests: u64,
    window: Option<Window>,
}

impl Kind {
    fn report(&self) -> StreamReport {
        StreamReport {
            requests: self.requests,
            errors: self.window.map_or(0, |w| w.errors),
            outage: self.window.map(|w| w.length()),
        }
    }
}

/// Counts errors beside which nobody was answered in the same moment: where others were there were targets, and this was
/// the one that failed.
#[derive(Debug, Default)]
struct Alone {
    answered: Option<Duration>,
    /// Errors that may turn out not to be.
    waiting: VecDeque<Duration>,
    count: u64,
}

impl Alone {
    fn answer(&mut self, at: Duration) {
        self.go_on(at);
        self.waiting.clear();
        self.answered = Some(at);
    }

    fn error(&mut self, at: Duration) {
        self.go_on(at);
        if self.answered.is_none_or(|answered| answered + MOMENT < at) {
            self.waiting.push_back(at);
        }
    }

    fn go_on(&mut self, now: Duration) {
        while self.waiting.front().is_some_and(|at| *at + MOMENT < now) {
            self.waiting.pop_front();
            self.count += 1;
        }
    }

    fn total(&self) -> u64 {
        self.count + self.waiting.len() as u64
    }
}

impl Gathered {
    fn take(&mut self, one: &Sample, ours: bool, marks: &Marks) {
        let at = one.start();
        self.requests += 1;
        let troubled = marks.trouble().is_some_and(|since| at >= since);
        self.used_before |= ours && !troubled;
        if one.is_ok() {
            self.alone.answer(at);
        }
        if ours && one.is_ok() {
            let over = marks.recovering.unwrap_or(marks.end);
            // A request sent during a hang and answered after it proves nothing.
            if at < over && one.end() <= over {
                self.used_last = self.used_last.max(Some(at));
            }
            if marks.recovered.is_some_and(|recovered| at >= recovered) {
                self.readmitted.get_or_insert(at);
            }
        }
        if !troubled {
            return;
        }
        let kind = match one.stream {
            Stream::New => &mut self.new,
            Stream::Kept => &mut self.kept,
        };
        kind.requests += 1;
        Window::take(&mut kind.window, one);
        Window::take(&mut self.window, one);
        if !one.is_ok() {
            *self.failures.entry(one.outcome).or_insert(0) += 1;
        }
        match one.failed_by() {
            Some(By::Target) => self.by_target += 1,
            Some(By::LoadBalancer) => self.by_load_balancer += 1,
            Some(By::NoTarget) => {
                self.by_no_target += 1;
                self.alone.error(at);
            }
            Some(By::Unknown) | None => {}
        }
    }

    fn report(self, addr: &SocketAddr, marks: &Marks, present: &[SocketAddr]) -> NodeReport {
        let drained_after = marks.effective.zip(marks.begun()).and_then(|(effective, begun)| {
            let last = self.used_last?;
            (last > effective).then(|| last - begun.min(effective))
        });
        let no_target = self.alone.total();
        NodeReport {
            node: addr.to_string(),
            present: present.contains(addr),
            used_before: self.used_before,
            requests: self.requests,
            errors: self.window.map_or(0, |w| w.errors),
            first_error: self.window.map(|w| w.first),
            last_error: self.window.map(|w| w.last),
            outage: self.window.map(|w| w.length()),
            drained_after,
            readmitted_after: self
                .readmitted
                .zip(marks.recovered)
                .map(|(first, recovered)| first - recovered),
            failures: self.failures.into_iter().map(|(outcome, count)| (name(outcome), count)).collect(),
            by_target: self.by_target + self.by_no_target - no_target,
            by_no_target: no_target,
            by_load_balancer: self.by_load_balancer,
            new: self.new.report(),
            kept: self.kept.report(),
        }
    }
}

/// Every node, as it was from the beginning of the trouble on. `us` is the target's place among the instances, `present`
/// what the name has at the end.
pub fn nodes(book: &Book, marks: &Marks, us: Option<u8>, present: &[SocketAddr]) -> Vec<NodeReport> {
    let mut all: Vec<Gathered> = book.nodes().iter().map(|_| Gathered::default()).collect();
    for one in book.samples().by_start() {
        if let Some(node) = all.get_mut(usize::from(one.node)) {
            node.take(&one, us.is_some() && one.instance == us, marks);
        }
    }
    all.into_iter().zip(book.nodes()).map(|(node, addr)| node.report(addr, marks, present)).collect()
}

/// Every instance that said its name; `baseline` is when that was over.
pub fn instances(book: &Book, baseline: Duration) -> Vec<InstanceReport> {
    let one = |(name, answers): (&str, &Answers)| InstanceReport {
        instance: name.to_owned(),
        answers: answers.count,
        first_ms: ms(answers.first),
        last_ms: ms(answers.last),
        before: answers.first < baseline,
    };
    book.named().map(one).collect()
}

/// The longest that a node went without an answer of `us` before `until`: how finely an end of the outage can be seen.
/// `None` when it never answered.
pub fn gap(book: &Book, us: Option<u8>, until: Duration) -> Option<Duration> {
    let us = us?;
    let mut last: BTreeMap<u16, Duration> = BTreeMap::new();
    let mut longest = None;
    for one in book.samples().by_start().take_while(|one| one.start() < until) {
        if one.instance == Some(us)
            && let Some(before) = last.insert(one.node, one.start())
        {
            longest = longest.max(Some(one.start() - before));
        }
    }
    longest
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
        let window = Window::of(all.into_iter()).unwrap();
        assert_eq!((window.first.as_millis(), window.length().as_millis(), window.errors), (500, 400, 2));
        assert_eq!(Window::of(all[..1].iter().copied()), None);
    }

    #[test]
    fn a_node_tells_when_the_target_went_and_came_back() {
        let mut book = Book::default();
        book.node("127.0.0.1:80".parse().unwrap());
        let us = book.instance("i-us");
        let other = book.instance("i-other");
        book.extend([
            sample(100, BAD, None), // before the trouble
            sample(500, OK, us),
            sample(1200, Outcome::Status(502), None),
            sample(1300, OK, us),
            sample(2000, BAD, None),
            sample(2500, OK, other),
            sample(5000, OK, us),
        ]);
        let mut marks = Marks { end: Duration::from_secs(6), ..Marks::default() };
        marks.begin(Phase::Baseline, Duration::ZERO);
        let at = |ms| Some(Duration::from_millis(ms));
        (marks.armed, marks.effective, marks.recovering, marks.recovered) =
            (at(1000), at(1100), at(3000), at(3100));
        let node = &nodes(&book, &marks, us, book.nodes())[0];
        assert_eq!((node.requests, node.errors, node.outage), (7, 2, at(800)));
        assert_eq!((node.drained_after, node.readmitted_after), (at(200), at(1900)));
        marks.injected = at(900);
        let node = &nodes(&book, &marks, us, book.nodes())[0];
        assert_eq!(node.drained_after, at(400), "since it began, not since it was seen");
        assert_eq!(node.failures, BTreeMap::from([("502".into(), 1), ("refused".into(), 1)]));
        assert_eq!(gap(&book, us, Duration::from_millis(1500)), at(800));
        let found = instances(&book, Duration::from_secs(1));
        assert_eq!(found.iter().map(|i| i.before).collect::<Vec<_>>(), [true, false]);
        // Sent while it hung, and answered when that was over: no proof that it was still used.
        book.enter(Sample { end_us: 3_200_000, ..sample(2800, OK, us) });
        assert_eq!(nodes(&book, &marks, us, book.nodes())[0].drained_after, at(400));
    }

    #[test]
    fn an_error_beside_which_somebody_was_answered_is_a_targets() {
        let mut alone = Alone::default();
        let at = |ms| Duration::from_millis(ms);
        [0, 500].into_iter().for_each(|ms| alone.answer(at(ms)));
        [1500, 1501, 4000, 4900].into_iter().for_each(|ms| alone.error(at(ms)));
        alone.answer(at(5001));
        // 1500 is a second after an answer, 4900 less than one before the next; nobody was answered beside the two others.
        assert_eq!(alone.total(), 2);
    }
}
