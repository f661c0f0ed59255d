//! A simulated Application Load Balancer: nodes that probe targets on their own schedules and forward requests to the
//! healthy ones. A model of AWS's documentation, with the page at each rule; where a value is the model's own, the
//! comment says so.
//!
//! `settings`: what can be set · `state`: when a target is healthy · `routing`, `weight`: who gets a request · `target`: its
//! connections · `prober`: checks · `forward` and `node`: requests · `event`: what happened · `model`: the same states and
//! routes in time that only counts.
//!
//! All of it runs in one thread, which ends with the [`Alb`].

mod event;
mod forward;
pub mod model;
mod node;
mod prober;
mod routing;
mod settings;
mod state;
mod target;
mod weight;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::background::Background;

pub use event::{Event, Events, Probe, Request, Transition};
pub use settings::{Check, Group, Matcher, Node, Settings};
pub use state::{Health, Outcome, Reason, State, Trouble};

use event::Journal;
use forward::Forwarder;
use prober::Prober;
use target::Target;

/// A load balancer that runs. Dropped, it closes its sockets and ends its thread.
#[derive(Debug)]
pub struct Alb {
    settings: Settings,
    nodes: Vec<Running>,
    probers: HashMap<(usize, SocketAddr), AbortHandle>,
    journal: Arc<Journal>,
    start: Instant,
    background: Background,
}

#[derive(Debug)]
struct Running {
    addr: SocketAddr,
    targets: watch::Sender<Vec<Arc<Target>>>,
}

/// A target as one node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The node, counted from 0.
    pub node: usize,
    /// The target.
    pub target: SocketAddr,
    /// What the node thinks of it.
    pub health: Health,
}

impl Alb {
    /// Starts all nodes and registers the targets (IPv4).
    ///
    /// # Errors
    /// When settings make no sense together or an address can't be bound.
    pub fn start(settings: Settings, targets: &[SocketAddr]) -> anyhow::Result<Self> {
        settings.validate()?;
        let journal = Arc::<Journal>::default();
        let background = Background::start("alb")?;
        let start = Instant::now();
        let listen = |(number, node): (usize, &Node)| {
            let _entered = background.handle().enter();
            let listener = TcpListener::bind(node.listen)
                .with_context(|| format!("the load balancer can't listen on {}", node.listen))?;
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let addr = listener.local_addr()?;
            let (sender, targets) = watch::channel(Vec::new());
            let node = node::Node {
                number,
                addr,
                targets,
                turn: AtomicUsize::new(0),
                group: settings.group,
                start,
                forwarder: Forwarder {
                    source: node.source,
                    connect_timeout: settings.connect_timeout,
                    idle_timeout: settings.idle_timeout,
                },
                journal: Arc::clone(&journal),
            };
            background.spawn(Arc::new(node).serve(listener));
            Ok(Running { addr, targets: sender })
        };
        let nodes = settings.nodes.iter().enumerate().map(listen).collect::<anyhow::Result<_>>()?;
        let mut alb = Self { settings, nodes, probers: HashMap::new(), journal, start, background };
        targets.iter().try_for_each(|target| alb.register(*target))?;
        Ok(alb)
    }

    /// Where clients reach each node. The name of a real load balancer resolves to all of them.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.addr).collect()
    }

    /// Registers a target; each node begins to check it at its own phase. AWS takes a moment to do so; the model none.
    ///
    /// # Errors
    /// When it is registered already or no IPv4 address.
    pub fn register(&mut self, target: SocketAddr) -> anyhow::Result<()> {
        ensure!(target.is_ipv4(), "{target}: nodes have IPv4 addresses");
        if self.probers.contains_key(&(0, target)) {
            bail!("{target} is registered already");
        }
        let now = tokio::time::Instant::now();
        let check = Arc::new(self.settings.check.clone());
        for (number, (node, running)) in self.settings.nodes.iter().zip(&self.nodes).enumerate() {
            let known = Arc::new(Target::new(target));
            running.targets.send_modify(|all| all.push(Arc::clone(&known)));
            let prober = Prober {
                node: number,
                source: node.source,
                target: known,
                start: self.start,
                check: Arc::clone(&check),
                journal: Arc::clone(&self.journal),
            };
            let task = self.background.handle().spawn(prober.run(now + node.phase));
            self.probers.insert((number, target), task.abort_handle());
        }
        Ok(())
    }

    /// Takes a target out: no new requests, no more probes; requests under way have the deregistration delay to finish
    /// ("Deregistration delay",
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html#deregistration-delay>).
    ///
    /// # Errors
    /// When it isn't registered.
    pub fn deregister(&mut self, target: SocketAddr) -> anyhow::Result<()> {
        for (number, running) in self.nodes.iter().enumerate() {
            let prober = self.probers.remove(&(number, target)).context("not registered")?;
            prober.abort();
            let mut gone = None;
            running.targets.send_modify(|all| {
                gone = all.iter().position(|one| one.addr == target).map(|place| all.remove(place));
            });
            let Some(gone) = gone else { continue };
            let to = Health::DEREGISTERED;
            let from = gone.health.send_replace(to).state;
            let at = Instant::now();
            self.journal.record(Event::Transition(Transition { node: number, target, at, from, to }));
        }
        Ok(())
    }

    /// What each node thinks of each target now.
    pub fn snapshot(&self) -> Vec<Seen> {
        let seen = |(node, running): (usize, &Running)| {
            let targets = running.targets.borrow();
            let one = |t: &Arc<Target>| Seen { node, target: t.addr, health: *t.health.borrow() };
            targets.iter().map(one).collect::<Vec<_>>()
        };
        self.nodes.iter().enumerate().flat_map(seen).collect()
    }

    /// All that happened since the start and all that is to come.
    pub fn events(&self) -> Events {
        Events::from_start(Arc::clone(&self.journal))
    }

    /// Waits until every node sees `target` in `state`.
    ///
    /// # Errors
    /// When that takes longer than `limit`; the message tells what they see.
    pub fn wait_for(&self, target: SocketAddr, state: State, limit: Duration) -> anyhow::Result<()> {
        let mut events = self.events().from_now();
        let there = || {
            let mut seen = self.snapshot().into_iter().filter(|seen| seen.target == target).peekable();
            seen.peek().is_some() && seen.all(|seen| seen.health.state == state)
        };
        if there() || events.find(limit, |_| there().then_some(())).is_some() {
            return Ok(());
        }
        bail!("{target} is not {state} after {limit:?}: {:?}", self.snapshot())
    }
}
