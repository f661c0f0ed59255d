//! When to ask nginx, and over which connection. While all is well it is asked every interval over a connection that
//! is kept, now and then over a new one; from the first doubt on over new ones, ever `retry`, without waiting for
//! the answer that is late.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::Settings;
use super::attempt::{Attempt, Nonce, Outcome, Step};
use crate::nginx::target::Target;

/// A kept connection says nothing of nginx taking new ones: that is tried this often.
const NEW_CONNECTION: Duration = Duration::from_secs(20);
/// Without a kept connection to wake us, nginx is asked at least this often.
const WITHOUT_TRIPWIRE: Duration = Duration::from_secs(1);

/// The questions on their way and the one that is due next.
#[derive(Debug)]
pub(super) struct Asker {
    nonce: Nonce,
    interval: Duration,
    retry: Duration,
    limit: Duration,
    flying: Vec<Attempt>,
    kept: Option<TcpStream>,
    connected_at: Option<Instant>,
    due: Instant,
}

impl Asker {
    pub(super) fn new(settings: &Settings, nonce: Nonce, now: Instant) -> Self {
        let (interval, retry, limit) = (settings.interval.0, settings.retry.0, settings.timeout.0);
        Self { nonce, interval, retry, limit, flying: Vec::new(), kept: None, connected_at: None, due: now }
    }

    /// What to poll, and for what.
    pub(super) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let flying = self.flying.iter().map(|attempt| {
            (attempt.fd(), if attempt.wants_write() { PollFlags::OUT } else { PollFlags::IN })
        });
        flying.chain(self.kept.iter().map(|kept| (kept.as_fd(), PollFlags::IN | PollFlags::RDHUP)))
    }

    /// When to come back though nothing happened.
    pub(super) fn wake_at(&self) -> Instant {
        self.flying.iter().map(Attempt::deadline).fold(self.due, Instant::min)
    }

    /// Goes on as far as possible without waiting: sends what is due to `target`, and returns what was learned.
    /// `is_well` tells whether the last outcomes amount to a healthy nginx.
    pub(super) fn step(&mut self, target: &Target, now: Instant, is_well: bool) -> Vec<Outcome> {
        self.look_at_tripwire(now);
        let mut learned = Vec::new();
        if now >= self.due {
            learned.extend(self.ask(target, now, is_well));
        }
        let mut index = 0;
        while index < self.flying.len() {
            match self.flying[index].step(now) {
                Step::Waits => index += 1,
                Step::Stale => {
                    self.flying.swap_remove(index);
                    self.due = now;
                }
                Step::Ended(outcome, keep) => {
                    let attempt = self.flying.swap_remove(index);
                    let since = if is_well { attempt.started() } else { now };
                    self.ended(&outcome, keep.then(|| attempt.into_stream()), since, is_well);
                    learned.push(outcome);
                }
            }
        }
        learned
    }

    /// Whatever happens on an idle connection is its end: nginx closed it, for age or because the worker is gone.
    fn look_at_tripwire(&mut self, now: Instant) {
        let quiet =
            |kept: &TcpStream| kept.peek(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        if self.kept.take_if(|kept| !quiet(kept)).is_some() {
            self.due = now;
        }
    }

    fn ask(&mut self, target: &Target, now: Instant, is_well: bool) -> Option<Outcome> {
        self.due = now + self.retry;
        let fresh = self.connected_at.is_none_or(|at| now.duration_since(at) >= NEW_CONNECTION);
        if let Some(kept) = self.kept.take_if(|_| is_well && !fresh) {
            self.flying.push(Attempt::over_kept(kept, target, &self.nonce, now, self.limit));
            return None;
        }
        self.kept = None;
        self.connected_at = Some(now);
        match Attempt::start(target, &self.nonce, now, self.limit) {
            Ok(attempt) => {
                self.flying.push(attempt);
                None
            }
            Err(outcome) => Some(outcome),
        }
    }

    fn ended(&mut self, outcome: &Outcome, kept: Option<TcpStream>, since: Instant, is_well: bool) {
        if outcome.is_ok() && self.flying.is_empty() {
            let calm = if kept.is_some() { self.interval } else { self.interval.min(WITHOUT_TRIPWIRE) };
            self.kept = kept;
            self.due = since + if is_well { calm } else { self.retry };
        }
    }
}
