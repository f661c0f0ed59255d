//! The measuring: every address of the name on its own schedule, each request a task of its own.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::names::{self, Change, Known};
use super::request::{Client, Pool};
use super::sample::{Book, Outcome, Sample, Stream};
use super::target::Target;
use crate::drill::schedule::pace::Pace;

/// What the measuring tells.
#[derive(Debug)]
pub enum Seen {
    /// A request has ended.
    Request(Request),
    /// The name's addresses have changed.
    Name(Change),
    /// The name could not be resolved; the addresses known go on being measured.
    Unresolved(String),
}

/// A request that has ended.
#[derive(Debug)]
pub struct Request {
    /// When it was due, since the start.
    pub due: Duration,
    /// When it was sent.
    pub start: Duration,
    /// When its outcome was known.
    pub end: Duration,
    /// The node.
    pub node: SocketAddr,
    /// Over which connection.
    pub stream: Stream,
    /// What came of it.
    pub outcome: Outcome,
    /// The instance that says it answered.
    pub instance: Option<String>,
    /// Whether the load balancer says that the answer is its own.
    pub own: bool,
}

impl Request {
    /// Enters it into the book.
    pub fn enter(&self, book: &mut Book) -> Sample {
        let us = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        let sample = Sample {
            due_us: us(self.due),
            start_us: us(self.start),
            end_us: us(self.end),
            node: book.node(self.node),
            instance: self.instance.as_deref().and_then(|name| book.instance(name)),
            stream: self.stream,
            outcome: self.outcome,
            own: self.own,
        };
        book.enter(sample);
        sample
    }
}

/// Requests that were sent and haven't ended: when, and to which node.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(Arc<Mutex<BTreeMap<(Duration, u64), SocketAddr>>>);

impl UnderWay {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(Duration, u64), SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many to `node` were sent before `until`.
    pub fn count(&self, node: SocketAddr, until: Duration) -> u64 {
        self.all().range(..(until, 0)).filter(|(_, to)| **to == node).count() as u64
    }
}

/// A measurement under way. Dropped, it asks no more.
#[derive(Debug)]
pub struct Measure {
    seen: UnboundedReceiver<Seen>,
    nodes: AbortHandle,
    /// Who asks.
    pub client: Arc<Client>,
    /// When it began.
    pub zero: Instant,
    /// What hasn't ended.
    pub under_way: UnderWay,
}

impl Measure {
    /// Starts to measure the addresses `first`, and those that the name gets later, `rps` requests a second each.
    pub fn start(client: Client, target: Target, rps: u32, first: &[SocketAddr]) -> Self {
        let (tell, seen) = unbounded_channel();
        let zero = Instant::now();
        let client = Arc::new(client);
        let under_way = UnderWay::default();
        let nodes = Nodes {
            client: Arc::clone(&client),
            under_way: under_way.clone(),
            target,
            rps,
            zero,
            tell,
            known: Known::default(),
            running: HashMap::new(),
            count: 0,
        };
        let nodes = tokio::spawn(nodes.watch(first.to_vec())).abort_handle();
        Self { seen, nodes, client, zero, under_way }
    }

    /// What is seen next; `None` when the last request has ended after [`Measure::stop`].
    pub async fn next(&mut self) -> Option<Seen> {
        self.seen.recv().await
    }

    /// Asks no more; what was asked goes on to its end.
    pub fn stop(&self) {
        self.nodes.abort();
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Nodes {
    client: Arc<Client>,
    under_way: UnderWay,
    target: Target,
    rps: u32,
    zero: Instant,
    tell: UnboundedSender<Seen>,
    known: Known,
    running: HashMap<SocketAddr, AbortOnDrop>,
    count: u16,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nodes {
    async fn watch(mut self, first: Vec<SocketAddr>) {
        self.take(&first);
        let mut trouble = None;
        loop {
            sleep(names::AGAIN).await;
            match names::resolve(&self.target).await {
                Ok(answer) => {
                    self.take(&answer);
                    trouble = None;
                }
                Err(e) => {
                    let text = e.to_string();
                    if trouble.as_ref() != Some(&text) {
                        let _ = self.tell.send(Seen::Unresolved(text.clone()));
                        trouble = Some(text);
                    }
                }
            }
        }
    }

    fn take(&mut self, answer: &[SocketAddr]) {
        for change in self.known.take(answer) {
            match change {
                Change::Added(addr) => {
                    let pace = Pace::new(self.rps, self.count);
                    self.count = self.count.wrapping_add(1);
                    let (client, tell) = (Arc::clone(&self.client), self.tell.clone());
                    let under_way = self.under_way.clone();
                    let task = tokio::spawn(ask_for_ever((client, under_way), tell, addr, pace, self.zero));
                    self.running.insert(addr, AbortOnDrop(task.abort_handle()));
                }
                Change::Removed(addr) => drop(self.running.remove(&addr)),
            }
            let _ = self.tell.send(Seen::Name(change));
        }
    }
}

async fn ask_for_ever(
    (client, under_way): (Arc<Client>, UnderWay),
    tell: UnboundedSender<Seen>,
    node: SocketAddr,
    pace: Pace,
    zero: Instant,
) {
    let pool = Arc::new(Pool::default());
    for number in pace.next_after(zero.elapsed()).. {
        let due = pace.due(number);
        sleep_until(zero + due).await;
        let (client, pool, tell) = (Arc::clone(&client), Arc::clone(&pool), tell.clone());
        let under_way = under_way.clone();
        tokio::spawn(async move {
            let (start, stream) = (zero.elapsed(), Pace::stream(number));
            under_way.all().insert((start, number), node);
            let reply = client.ask(node, stream, &pool).await;
            under_way.all().remove(&(start, number));
            let (end, outcome, instance, own) = (zero.elapsed(), reply.outcome, reply.instance, reply.own);
            let request = Request { due, start, end, node, stream, outcome, instance, own };
            let _ = tell.send(Seen::Request(request));
            drop(tell);
            if let Some(kept) = reply.kept {
                pool.keep(kept).await;
            }
        });
    }
}
