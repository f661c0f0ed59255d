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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::ask::Endpoint;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// A server that answers what `answer` says, and a target that leads to it.
    fn server() -> (TcpListener, Target) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::http(listener.local_addr().unwrap());
        (listener, Target { endpoint, path: "/".into() })
    }

    fn answer(stream: &mut TcpStream, answer: &str) {
        let mut request = [0; 1024];
        let n = stream.read(&mut request).unwrap();
        assert!(request[..n].starts_with(b"HEAD / HTTP/1.1\r\n"));
        stream.write_all(answer.as_bytes()).unwrap();
    }

    fn asker(now: Instant) -> Asker {
        Asker::new(&Settings::default(), Nonce::draw(), now)
    }

    /// Steps until something is learned.
    fn learn(asker: &mut Asker, target: &Target, now: Instant, is_well: bool) -> Outcome {
        loop {
            if let Some(outcome) = asker.step(target, now, is_well).pop() {
                return outcome;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn while_all_is_well_a_connection_is_kept_and_its_end_is_a_reason_to_ask() {
        let (listener, target) = server();
        let now = Instant::now();
        let mut asker = asker(now);
        assert!(asker.step(&target, now, true).is_empty());
        let (mut stream, _) = listener.accept().unwrap();
        answer(&mut stream, "HTTP/1.1 200 OK\r\n\r\n");
        assert!(learn(&mut asker, &target, now, true).is_ok());
        assert!(asker.kept.is_some() && asker.due > now + Duration::from_millis(1900));
        drop(stream);
        while asker.kept.is_some() {
            asker.step(&target, now, true);
        }
        assert_eq!(asker.flying.len(), 1, "asked at once, over a new connection");
    }

    #[test]
    fn from_the_first_doubt_on_each_question_has_its_own_connection_and_no_late_one_is_waited_for() {
        let (listener, target) = server();
        let now = Instant::now();
        let mut asker = asker(now);
        assert!(asker.step(&target, now, false).is_empty());
        let later = now + Duration::from_millis(300);
        assert!(asker.step(&target, later, false).is_empty());
        assert_eq!(asker.flying.len(), 2);
        let (mut first, _) = listener.accept().unwrap();
        answer(&mut first, "HTTP/1.1 503 Busy\r\n\r\n");
        assert!(!learn(&mut asker, &target, later, false).is_ok());
        let over = Instant::now() + Duration::from_secs(1);
        let timed_out = learn(&mut asker, &target, over, false);
        assert_eq!(timed_out, Outcome::TimedOut(Duration::from_millis(700)));
    }

    #[test]
    fn one_that_answers_again_is_asked_in_quick_succession() {
        let (listener, target) = server();
        let now = Instant::now();
        let mut asker = asker(now);
        asker.step(&target, now, false);
        let (mut stream, _) = listener.accept().unwrap();
        answer(&mut stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        assert!(learn(&mut asker, &target, now, false).is_ok());
        assert_eq!(asker.due, now + ON_PROBATION);
        assert!(asker.kept.is_none());
    }
}
