//! When to ask nginx, and over which connection. While all is well it is asked every interval over a connection that
//! is kept, now and then over a new one; from the first doubt on over new ones, ever `retry`, without waiting for
//! the answer that is late. A kept connection costs half as much, and it is a tripwire: when the worker at its other
//! end dies, the kernel closes it, and that wakes the sampler at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::outcome::Outcome;
use super::{CHECK_HEADER, Nonce, Settings};
use crate::nginx::ask::{Exchange, Kept, Question, Reply, Step};
use crate::nginx::target::Target;

/// A kept connection says nothing of nginx taking new ones: that is tried this often.
const NEW_CONNECTION: Duration = Duration::from_secs(20);
/// Without a kept connection to wake us, nginx is asked at least this often.
const WITHOUT_TRIPWIRE: Duration = Duration::from_secs(1);
/// From one answer to the next question while an nginx that failed has to show that it is back.
const ON_PROBATION: Duration = Duration::from_millis(35);

/// The questions on their way and the one that is due next.
#[derive(Debug)]
pub(super) struct Asker {
    nonce: Nonce,
    interval: Duration,
    retry: Duration,
    limit: Duration,
    flying: Vec<Exchange>,
    kept: Option<Kept>,
    connected_at: Option<Instant>,
    due: Instant,
}

impl Asker {
    pub(super) fn new(settings: &Settings, nonce: Nonce, now: Instant) -> Self {
        let (interval, retry, limit) = (settings.interval.0, settings.retry.0, settings.timeout.0);
        Self { nonce, interval, retry, limit, flying: Vec::new(), kept: None, connected_at: None, due: now }
    }

    /// Asks anew from `now` on: the target is another one.
    pub(super) fn restart(&mut self, now: Instant) {
        self.flying.clear();
        self.kept = None;
        self.connected_at = None;
        self.due = now;
    }

    /// What to poll, and for what.
    pub(super) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let flying = self.flying.iter().map(|exchange| {
            (exchange.as_fd(), if exchange.wants_write() { PollFlags::OUT } else { PollFlags::IN })
        });
        flying.chain(self.kept.iter().map(|kept| (kept.as_fd(), PollFlags::IN | PollFlags::RDHUP)))
    }

    /// When to come back though nothing happened.
    pub(super) fn wake_at(&self) -> Instant {
        self.flying.iter().map(|exchange| exchange.started() + self.limit).fold(self.due, Instant::min)
    }

    /// Goes on as far as possible without waiting: sends what is due to `target`, and returns what was learned.
    /// `is_well` tells whether the last outcomes amount to a healthy nginx.
    pub(super) fn step(&mut self, target: &Target, now: Instant, is_well: bool) -> Vec<Outcome> {
        if self.kept.take_if(|kept| !kept.is_quiet()).is_some() {
            self.due = now;
        }
        let mut learned = Vec::new();
        if now >= self.due {
            learned.extend(self.ask(target, now, is_well));
        }
        let mut index = 0;
        while let Some(exchange) = self.flying.get_mut(index) {
            let outcome = match exchange.step() {
                Step::Waits if now < exchange.started() + self.limit => {
                    index += 1;
                    continue;
                }
                Step::Stale => {
                    self.flying.swap_remove(index);
                    self.due = now;
                    continue;
                }
                Step::Waits => match exchange.give_up() {
                    Some(reply) => Outcome::Replied(reply, self.limit),
                    None => Outcome::TimedOut(self.limit),
                },
                Step::Ended(reply, took) => Outcome::Replied(reply, took),
            };
            let exchange = self.flying.swap_remove(index);
            self.ended(&outcome, exchange, now, is_well);
            learned.push(outcome);
        }
        learned
    }

    fn ask(&mut self, target: &Target, now: Instant, is_well: bool) -> Option<Outcome> {
        self.due = now + self.retry;
        let headers = [(CHECK_HEADER, self.nonce.as_str())];
        let question =
            Question { method: "HEAD", path: &target.path, agent: " (nginx check)", headers: &headers };
        let fresh = self.connected_at.is_none_or(|at| now.duration_since(at) >= NEW_CONNECTION);
        if let Some(kept) = self.kept.take_if(|_| is_well && !fresh) {
            self.flying.push(Exchange::over(kept, &target.endpoint, &question));
            return None;
        }
        self.kept = None;
        self.connected_at = Some(now);
        match Exchange::start(&target.endpoint, &question) {
            Ok(exchange) => {
                self.flying.push(exchange);
                None
            }
            Err(reply) => Some(Outcome::Replied(reply, Duration::ZERO)),
        }
    }

    fn ended(&mut self, outcome: &Outcome, exchange: Exchange, now: Instant, is_well: bool) {
        if !outcome.is_ok() || !self.flying.is_empty() {
            return;
        }
        let started = exchange.started();
        let answered = matches!(outcome, Outcome::Replied(Reply::Status(_), _));
        let kept = answered.then(|| exchange.into_kept()).flatten();
        let calm = if kept.is_some() { self.interval } else { self.interval.min(WITHOUT_TRIPWIRE) };
        self.kept = kept;
        self.due = if is_well { started + calm } else { now + ON_PROBATION.min(self.retry) };
    }
}
