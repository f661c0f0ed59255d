//! What happened, in order, for tests to wait for and for people to read.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::state::{Health, Outcome, State};

/// Something that a node did or saw.
#[derive(Debug, Clone)]
pub enum Event {
    /// A probe ended.
    Probe(Probe),
    /// A target changed its state.
    Transition(Transition),
    /// A client's request ended.
    Request(Request),
}

/// A probe that ended.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The node, counted from 0.
    pub node: usize,
    /// The target.
    pub target: SocketAddr,
    /// When it was due by the schedule (and the jitter).
    pub at: Instant,
    /// From then to its end.
    pub took: Duration,
    /// What it brought.
    pub outcome: Outcome,
    /// Whether that passes the check.
    pub passed: bool,
}

/// A change of a target's state at one node.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The node, counted from 0.
    pub node: usize,
    /// The target.
    pub target: SocketAddr,
    /// When.
    pub at: Instant,
    /// The state before.
    pub from: State,
    /// The state after, and the reason.
    pub to: Health,
}

/// A client's request that ended.
#[derive(Debug, Clone)]
pub struct Request {
    /// The node that took it, counted from 0.
    pub node: usize,
    /// The target it was sent to; `None` when there was none.
    pub target: Option<SocketAddr>,
    /// The path.
    pub path: String,
    /// When it came.
    pub at: Instant,
    /// From then to the answer.
    pub took: Duration,
    /// What the client got; 460 when it went away before.
    pub status: u16,
    /// Whether that code is the target's own, not the load balancer's.
    pub by_target: bool,
    /// Whether it was routed to a target that isn't healthy because none is.
    pub fail_open: bool,
}

/// All events so far.
#[derive(Debug, Default)]
pub(super) struct Journal {
    events: Mutex<Vec<Event>>,
    grown: Condvar,
}

impl Journal {
    pub(super) fn record(&self, event: Event) {
        self.lock().push(event);
        self.grown.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader of the events; any number may read, each from where it started and at its own speed.
#[derive(Debug, Clone)]
pub struct Events {
    journal: Arc<Journal>,
    next: usize,
}

impl Events {
    pub(super) fn from_start(journal: Arc<Journal>) -> Self {
        Self { journal, next: 0 }
    }

    /// Skips what happened so far.
    #[must_use]
    pub fn from_now(mut self) -> Self {
        self.next = self.journal.lock().len();
        self
    }

    /// The next event; `None` when none comes within `limit`.
    pub fn next(&mut self, limit: Duration) -> Option<Event> {
        let journal = self.journal.lock();
        let wait = self.journal.grown.wait_timeout_while(journal, limit, |all| all.len() <= self.next);
        let (journal, _) = wait.unwrap_or_else(PoisonError::into_inner);
        let event = journal.get(self.next).cloned();
        self.next += usize::from(event.is_some());
        event
    }

    /// The first thing that `pick` takes out of the events to come; `None` when there is none within `limit`.
    pub fn find<T>(&mut self, limit: Duration, mut pick: impl FnMut(&Event) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        loop {
            let event = self.next(end.saturating_duration_since(Instant::now()))?;
            if let Some(found) = pick(&event) {
                return Some(found);
            }
        }
    }

    /// What `pick` takes out of the events that happened up to now.
    pub fn so_far<T>(&mut self, pick: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        let journal = self.journal.lock();
        let picked = journal.iter().skip(self.next).filter_map(pick).collect();
        self.next = journal.len();
        picked
    }
}

impl Event {
    /// The probe, if it is one.
    pub fn probe(&self) -> Option<&Probe> {
        if let Self::Probe(probe) = self { Some(probe) } else { None }
    }

    /// The transition, if it is one.
    pub fn transition(&self) -> Option<&Transition> {
        if let Self::Transition(transition) = self { Some(transition) } else { None }
    }

    /// The request, if it is one.
    pub fn request(&self) -> Option<&Request> {
        if let Self::Request(request) = self { Some(request) } else { None }
    }
}
