//! What a question to nginx says of its health.

use std::fmt;
use std::time::Duration;

use crate::nginx::ask::Reply;

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered, in so much time.
    Replied(Reply, Duration),
    /// No answer in time.
    TimedOut(Duration),
}

impl Outcome {
    /// Whether nginx serves. A status of 500 or more says that what is behind it doesn't; 501 is the answer of
    /// something that doesn't know HEAD, and serves.
    pub(super) fn is_ok(&self) -> bool {
        match self {
            Self::Replied(Reply::Status(status), _) => *status < 500 || *status == 501,
            Self::Replied(Reply::NoStatus(_) | Reply::Closed, _) => true,
            Self::Replied(Reply::Refused | Reply::Cut | Reply::Garbage | Reply::Failed(_), _)
            | Self::TimedOut(_) => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reply, took) = match self {
            Self::Replied(reply, took) => (reply, took),
            Self::TimedOut(limit) => return write!(f, "no answer within {} ms", limit.as_millis()),
        };
        match reply {
            Reply::Status(status) => write!(f, "answered {status}")?,
            Reply::NoStatus(what) => f.write_str(what)?,
            Reply::Closed => f.write_str("closed the connection, as `return 444` does,")?,
            Reply::Refused => f.write_str("connection refused")?,
            Reply::Cut => f.write_str("cut the connection off")?,
            Reply::Garbage => f.write_str("what it answered is another protocol")?,
            Reply::Failed(message) => f.write_str(message)?,
        }
        if self.is_ok() { write!(f, " in {:.1} ms", took.as_secs_f64() * 1e3) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_answers_is_well_unless_it_says_otherwise() {
        let ok = |reply| Outcome::Replied(reply, Duration::from_millis(1)).is_ok();
        for status in [200, 301, 404, 429, 501] {
            assert!(ok(Reply::Status(status)), "{status}");
        }
        assert!(ok(Reply::Closed) && ok(Reply::NoStatus("refused the TLS handshake".into())));
        for reply in [Reply::Status(500), Reply::Status(503), Reply::Refused, Reply::Cut, Reply::Garbage] {
            assert!(!ok(reply.clone()), "{reply:?}");
        }
        assert!(!Outcome::TimedOut(Duration::ZERO).is_ok());
    }

    #[test]
    fn only_an_answer_has_a_latency() {
        let text = |reply| Outcome::Replied(reply, Duration::from_micros(1500)).to_string();
        assert_eq!(text(Reply::Status(200)), "answered 200 in 1.5 ms");
        assert_eq!(text(Reply::Closed), "closed the connection, as `return 444` does, in 1.5 ms");
        assert_eq!(text(Reply::Status(502)), "answered 502");
        assert_eq!(text(Reply::Refused), "connection refused");
    }
}
