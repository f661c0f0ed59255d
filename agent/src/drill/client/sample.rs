//! What was measured: one sample a request, and the book of all of them. Times are microseconds since the start of the
//! measurement, names are kept once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::samples::Samples;

/// How many instances are told apart. The names come off the network: whoever sends more doesn't fill the memory.
const MOST_INSTANCES: usize = 255;
/// As much of an instance's name as is kept.
const LONGEST_NAME: usize = 64;

/// Over which kind of connection a request went: they see different things, as a load balancer may go on using an old
/// connection where it takes no new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// A connection of its own.
    New,
    /// One that was kept from requests before, or that will be.
    Kept,
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The connection was refused.
    Refused,
    /// The connection was closed or reset before the answer was whole.
    Reset,
    /// No connection before the deadline.
    ConnectTimeout,
    /// A connection, but no whole answer before the deadline.
    ReadTimeout,
    /// No TLS session.
    Tls,
    /// No route.
    Unreachable,
    /// What came back is no HTTP.
    Malformed,
}

impl Class {
    /// Each, in their order.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::Reset,
        Self::ConnectTimeout,
        Self::ReadTimeout,
        Self::Tls,
        Self::Unreachable,
        Self::Malformed,
    ];

    /// Its name in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::ConnectTimeout => "connect_timeout",
            Self::ReadTimeout => "read_timeout",
            Self::Tls => "tls",
            Self::Unreachable => "unreachable",
            Self::Malformed => "malformed",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// A whole answer with this status.
    Status(u16),
    /// None.
    Failed(Class),
}

impl Outcome {
    /// Whether a client got what it asked for: 2xx or 3xx. A redirect is an answer as given, and isn't followed.
    pub fn is_ok(self) -> bool {
        matches!(self, Self::Status(200..=399))
    }
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// When it was due.
    pub due_us: u64,
    /// When it was sent: later than due only where this machine was.
    pub start_us: u64,
    /// When its outcome was known.
    pub end_us: u64,
    /// Which node, by its place in the book.
    pub node: u16,
    /// Which instance answered, by its place in the book; `None` when nobody said so.
    pub instance: Option<u8>,
    /// Over which connection.
    pub stream: Stream,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether the load balancer says that the answer is its own.
    pub own: bool,
}

/// Whose failure a failed request is, as far as the answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A target's: it answered with an error, or the load balancer says that it could not be reached (502, 504).
    Target,
    /// 503 that names nobody: the load balancer has no target to send it to, or (HAProxy) it could not reach the one it chose.
    NoTarget,
    /// The load balancer's own address took no connection, or cut it.
    LoadBalancer,
    /// Nobody's: no answer, or one that tells nothing.
    Unknown,
}

impl Sample {
    /// Whose failure it is; `None` for an answer.
    pub fn failed_by(&self) -> Option<By> {
        match self.outcome {
            outcome if outcome.is_ok() => None,
            Outcome::Status(_) if self.instance.is_some() => Some(By::Target),
            // "Troubleshoot your Application Load Balancers", the page named at `Server: awselb/2.0`.
            Outcome::Status(502 | 504) => Some(By::Target),
            Outcome::Status(503) => Some(By::NoTarget),
            Outcome::Status(_) => Some(By::Unknown),
            Outcome::Failed(Class::ReadTimeout | Class::Malformed) => Some(By::Unknown),
            Outcome::Failed(_) => Some(By::LoadBalancer),
        }
    }

    /// When its outcome was known.
    pub fn end(&self) -> Duration {
        Duration::from_micros(self.end_us)
    }

    /// When it was sent.
    pub fn start(&self) -> Duration {
        Duration::from_micros(self.start_us)
    }

    /// From sending to the end of the answer.
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.end_us.saturating_sub(self.start_us))
    }

    /// How late it was sent.
    pub fn late(&self) -> Duration {
        Duration::from_micros(self.start_us.saturating_sub(self.due_us))
    }

    /// Whether the client got what it asked for.
    pub fn is_ok(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// The answers of one instance: what is asked of them again and again while a drill goes on, known without going through
/// all samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Its first, by when the requests were sent.
    pub first: Duration,
    /// Its last.
    pub last: Duration,
    /// The end of the one that ended last.
    pub end: Duration,
    /// The last that was no error.
    pub last_ok: Option<Duration>,
    /// How many, errors among them.
    pub count: u64,
    /// How many named answers there were of anybody before its first, and up to its last.
    named: (u64, u64),
}

impl Answers {
    fn new(sample: &Sample, named: u64) -> Self {
        let at = sample.start();
        Self { first: at, last: at, end: sample.end(), last_ok: None, count: 0, named: (named, named) }
    }

    fn take(&mut self, sample: &Sample, named: u64) {
        let at = sample.start();
        (self.first, self.last) = (self.first.min(at), self.last.max(at));
        self.end = self.end.max(sample.end());
        self.last_ok = self.last_ok.max(sample.is_ok().then_some(at));
        self.count += 1;
        self.named.1 = named;
    }

    /// Its part of all named answers while it was there, in percent.
    pub fn share_pct(&self) -> f64 {
        let all = self.named.1 - self.named.0 + 1;
        (1000.0 * self.count as f64 / all as f64).round() / 10.0
    }
}

/// What came of the requests to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Those that have ended.
    pub count: u64,
    /// Whether a target answered that didn't say its name.
    pub nameless: bool,
}

/// All samples, and the names in them.
#[derive(Debug, Default)]
pub struct Book {
    samples: Samples,
    nodes: Vec<SocketAddr>,
    instances: Vec<String>,
    /// By instance, and by node and instance.
    answers: BTreeMap<u8, Answers>,
    answers_at: BTreeMap<(u16, u8), Answers>,
    /// By node.
    asked: BTreeMap<u16, Asked>,
    /// Good answers that the load balancer says are its own: how many, and the first.
    own: (u64, Option<Sample>),
    /// Answers that named somebody.
    named: u64,
}

impl Extend<Sample> for Book {
    fn extend<T: IntoIterator<Item = Sample>>(&mut self, all: T) {
        all.into_iter().for_each(|one| self.enter(one));
    }
}

impl Book {
    /// Enters a request that has ended.
    pub fn enter(&mut self, sample: Sample) {
        let asked = self.asked.entry(sample.node).or_default();
        asked.count += 1;
        asked.nameless |= sample.is_ok() && sample.instance.is_none() && !sample.own;
        if sample.is_ok() && sample.own {
            self.own = (self.own.0 + 1, self.own.1.or(Some(sample)));
        }
        if let Some(instance) = sample.instance {
            self.named += 1;
            let (named, new) = (self.named, || Answers::new(&sample, self.named));
            self.answers.entry(instance).or_insert_with(new).take(&sample, named);
            self.answers_at.entry((sample.node, instance)).or_insert_with(new).take(&sample, named);
        }
        self.samples.push(sample);
    }

    /// All that were entered.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// What came of the requests to this node.
    pub fn asked(&self, node: &SocketAddr) -> Asked {
        let place = self.place_of_node(node).and_then(|place| u16::try_from(place).ok());
        place.and_then(|place| self.asked.get(&place)).copied().unwrap_or_default()
    }

    /// Who answered at this node.
    pub fn seen_at(&self, node: &SocketAddr) -> Vec<u8> {
        let Some(place) = self.place_of_node(node).and_then(|place| u16::try_from(place).ok()) else {
            return Vec::new();
        };
        self.answers_at.range((place, 0)..=(place, u8::MAX)).map(|((_, instance), _)| *instance).collect()
    }

    /// Good answers that the load balancer says are its own: how many, and the first.
    pub fn own(&self) -> (u64, Option<&Sample>) {
        (self.own.0, self.own.1.as_ref())
    }

    /// What this instance answered, if it did.
    pub fn answers(&self, instance: u8) -> Option<&Answers> {
        self.answers.get(&instance)
    }

    /// What this instance answered at this node.
    pub fn answers_at(&self, node: usize, instance: u8) -> Option<&Answers> {
        self.answers_at.get(&(u16::try_from(node).ok()?, instance))
    }

    /// Everybody who answered: the name, and the answers.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Answers)> {
        self.answers
            .iter()
            .filter_map(|(place, answers)| Some((self.instances.get(usize::from(*place))?.as_str(), answers)))
    }

    /// The place of a node, new or known.
    pub fn node(&mut self, addr: SocketAddr) -> u16 {
        let place = self.nodes.iter().position(|known| *known == addr).unwrap_or_else(|| {
            self.nodes.push(addr);
            self.nodes.len() - 1
        });
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// The place of an instance, new or known; `None` when there are too many to tell apart.
    pub fn instance(&mut self, name: &str) -> Option<u8> {
        let place = self.instances.iter().position(|known| known == name);
        let place = match place {
            Some(place) => place,
            None if self.instances.len() < MOST_INSTANCES => {
                self.instances.push(name.to_owned());
                self.instances.len() - 1
            }
            None => return None,
        };
        u8::try_from(place).ok()
    }

    /// The place of a node that is known.
    pub fn place_of_node(&self, addr: &SocketAddr) -> Option<usize> {
        self.nodes.iter().position(|known| known == addr)
    }

    /// Every node that was ever measured.
    pub fn nodes(&self) -> &[SocketAddr] {
        &self.nodes
    }

    /// Every instance that ever answered.
    pub fn instances(&self) -> &[String] {
        &self.instances
    }

    /// The place of an instance by its name.
    pub fn place_of(&self, instance: &str) -> Option<u8> {
        self.instances.iter().position(|known| known == instance).and_then(|place| u8::try_from(place).ok())
    }

    /// The name of the instance that answered.
    pub fn instance_of(&self, sample: &Sample) -> Option<&str> {
        self.instances.get(usize::from(sample.instance?)).map(String::as_str)
    }

    /// The node that was asked.
    pub fn node_of(&self, sample: &Sample) -> String {
        self.nodes.get(usize::from(sample.node)).map_or_else(String::new, ToString::to_string)
    }
}

/// An instance's name as it may be shown: bounded, visible ASCII. A header is anybody's text.
pub fn clean_name(bytes: &[u8]) -> Option<String> {
    let text: String = bytes
        .iter()
        .take(LONGEST_NAME)
        .map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '_' })
        .collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_off_the_network_are_bounded_and_visible() {
        assert_eq!(clean_name(b"i-0abc").as_deref(), Some("i-0abc"));
        assert_eq!(clean_name(b"\x1b[31m \xff").as_deref(), Some("_[31m__"));
        assert_eq!(clean_name(&[b'x'; 500]).unwrap().len(), LONGEST_NAME);
        assert_eq!(clean_name(b""), None);
    }

    #[test]
    fn a_flood_of_instances_is_not_told_apart() {
        let mut book = Book::default();
        let places: Vec<_> = (0..300).map(|n| book.instance(&format!("i-{n}"))).collect();
        assert_eq!(places[254], Some(254));
        assert!(places[255..].iter().all(Option::is_none));
        assert_eq!(book.instance("i-7"), Some(7));
    }

    #[test]
    fn redirects_are_answers_and_errors_are_not() {
        let ok: Vec<u16> =
            [200, 204, 301, 399, 400, 404, 502].into_iter().filter(|s| Outcome::Status(*s).is_ok()).collect();
        assert_eq!(ok, [200, 204, 301, 399]);
        assert!(!Outcome::Failed(Class::Refused).is_ok());
    }
}
