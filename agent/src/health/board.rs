//! The board: the finished answer to the next probe. Written by one sampler, read by the serving thread without a
//! lock (a lock held by a preempted sampler would make the real-time thread wait for a normal one).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::identity::Identity;

/// How many seconds a client should wait after a 503: the probes' usual interval.
const RETRY_AFTER: &str = "5";

/// A finished answer of `/health`.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 200 or 503.
    pub status: StatusCode,
    /// All but the length and the date.
    pub headers: HeaderMap,
    /// `application/health+json`.
    pub body: Bytes,
}

impl Answer {
    fn new(pass: bool, identity: &Identity) -> Self {
        let body = serde_json::json!({
            "status": if pass { "pass" } else { "fail" },
            "instance": identity.instance,
            "zone": identity.zone,
        });
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/health+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(instance) = HeaderValue::from_str(&identity.instance) {
            headers.insert(HeaderName::from_static("x-instance-id"), instance);
        }
        if !pass {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        let status = if pass { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { status, headers, body: Bytes::from(body.to_string()) }
    }
}

/// A fault that `/health` itself shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// 503.
    Unhealthy,
    /// Late by this much.
    Slow(Duration),
}

/// What stands on the board.
#[derive(Debug)]
pub(super) struct Published {
    /// Whether the checks pass.
    pub pass: bool,
    /// Past this the verdict is too old to be true.
    pub fresh_until: Instant,
    /// A fault and its deadline as time since boot; past it, it counts for nothing, whoever forgot to take it down.
    pub fault: Option<(Shown, Duration)>,
    /// The answers for 200 and for 503.
    pub answers: Arc<(Answer, Answer)>,
}

impl Published {
    pub(super) fn answers(identity: &Identity) -> Arc<(Answer, Answer)> {
        Arc::new((Answer::new(true, identity), Answer::new(false, identity)))
    }
}

/// The board.
#[derive(Debug)]
pub struct Board {
    published: ArcSwap<Published>,
    draining: AtomicBool,
    /// Tells the sampler of a drain.
    wake: Arc<OwnedFd>,
}

/// What to do with a probe.
#[derive(Debug)]
pub struct Decision {
    /// What to answer.
    pub answer: Answer,
    /// How long to wait before: a `slow` fault, never past its deadline.
    pub delay: Option<Duration>,
}

impl Board {
    /// A board that says 503 until the first sample.
    pub(super) fn new(now: Instant, wake: Arc<OwnedFd>) -> Self {
        let answers = Published::answers(&Identity::default());
        let first = Published { pass: false, fresh_until: now, fault: None, answers };
        Self { published: ArcSwap::from_pointee(first), draining: AtomicBool::new(false), wake }
    }

    pub(super) fn publish(&self, published: Published) {
        self.published.store(Arc::new(published));
    }

    /// From now on 503, whatever the samplers find.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Whether [`Board::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether the samplers have published lately.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now < self.published.load().fresh_until
    }

    /// The answer at `now`; `since_boot` is asked only while a fault is on the board.
    pub fn decide(&self, now: Instant, since_boot: impl FnOnce() -> Duration) -> Decision {
        let published = self.published.load();
        let fault = published.fault.and_then(|(shown, until)| {
            let left = until.checked_sub(since_boot())?;
            (!left.is_zero()).then_some((shown, left))
        });
        let unhealthy = matches!(fault, Some((Shown::Unhealthy, _)));
        let pass = published.pass && now < published.fresh_until && !unhealthy && !self.is_draining();
        let answer = if pass { &published.answers.0 } else { &published.answers.1 };
        let delay = match fault {
            Some((Shown::Slow(delay), left)) => Some(delay.min(left)),
            _ => None,
        };
        Decision { answer: answer.clone(), delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(now: Instant) -> Board {
        Board::new(now, Arc::new(rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap()))
    }

    fn board(pass: bool, fault: Option<(Shown, Duration)>, now: Instant) -> Board {
        let board = new(now);
        let answers = Published::answers(&Identity::default());
        board.publish(Published { pass, fresh_until: now + Duration::from_secs(4), fault, answers });
        board
    }

    fn status(board: &Board, now: Instant, since_boot: u64) -> u16 {
        board.decide(now, || Duration::from_secs(since_boot)).answer.status.as_u16()
    }

    #[test]
    fn before_the_first_sample_and_after_the_last_one_it_is_503() {
        let now = Instant::now();
        assert_eq!(status(&new(now), now, 0), 503);
        let board = board(true, None, now);
        assert_eq!(status(&board, now, 0), 200);
        assert_eq!(status(&board, now + Duration::from_secs(4), 0), 503, "a stale pass is no pass");
    }

    #[test]
    fn a_fault_shows_until_its_deadline_and_not_a_moment_longer() {
        let now = Instant::now();
        let board = board(true, Some((Shown::Unhealthy, Duration::from_secs(100))), now);
        assert_eq!(status(&board, now, 99), 503);
        assert_eq!(status(&board, now, 100), 200);
    }

    #[test]
    fn a_delay_never_reaches_past_the_deadline() {
        let now = Instant::now();
        let slow = Shown::Slow(Duration::from_secs(10));
        let board = board(true, Some((slow, Duration::from_secs(100))), now);
        let delay = |at| board.decide(now, || Duration::from_secs(at)).delay;
        assert_eq!(delay(50), Some(Duration::from_secs(10)));
        assert_eq!(delay(97), Some(Duration::from_secs(3)));
        assert_eq!(delay(100), None);
    }

    #[test]
    fn draining_is_503_whatever_is_published() {
        let now = Instant::now();
        let board = board(true, None, now);
        board.drain();
        assert_eq!(status(&board, now, 0), 503);
    }

    #[test]
    fn the_answers_bear_the_headers_of_the_contract() {
        let identity = Identity { instance: "i-1".into(), zone: "eu-west-1a".into(), ..Identity::default() };
        let answers = Published::answers(&identity);
        assert_eq!(&answers.0.body[..], br#"{"instance":"i-1","status":"pass","zone":"eu-west-1a"}"#);
        assert_eq!(answers.0.headers["x-instance-id"], "i-1");
        assert!(!answers.0.headers.contains_key("retry-after"));
        assert_eq!(answers.1.headers["retry-after"], "5");
        assert_eq!(answers.1.headers["cache-control"], "no-store");
        assert_eq!(answers.1.headers["content-type"], "application/health+json");
    }
}
