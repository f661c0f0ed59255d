//! Whether nginx answers, waited for under one deadline: what `fault` asks. An answer is an answer, whatever its
//! status.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use super::ask::{Address, Endpoint};
use super::ask::{Exchange, Question, Reply, Step};

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A status code.
    Status(u16),
    /// The process answered without one: it closed the connection at once (`return 444`), or refused the handshake.
    NoStatus,
    /// Nobody listens.
    Refused,
    /// Connected, and cut off without an answer.
    Cut,
    /// Nothing came in time.
    Silent,
}

impl Answer {
    /// Whether it is one.
    pub fn is_some(self) -> bool {
        matches!(self, Self::Status(_) | Self::NoStatus)
    }

    /// Whether it says that what nginx serves is well: what `/health` takes for a pass, too. 501 is the answer of
    /// something that doesn't know the method, and serves.
    pub fn is_well(self) -> bool {
        match self {
            Self::Status(status) => status < 500 || status == 501,
            answer => answer.is_some(),
        }
    }

    fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Status(status) => Self::Status(*status),
            Reply::NoStatus(_) | Reply::Closed => Self::NoStatus,
            Reply::Refused => Self::Refused,
            Reply::Cut | Reply::Garbage => Self::Cut,
            Reply::Failed(_) => Self::Silent,
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(code) => write!(f, "answers {code}"),
            Self::NoStatus => f.write_str("answers without a status"),
            Self::Refused => f.write_str("refuses connections"),
            Self::Cut => f.write_str("cuts connections off"),
            Self::Silent => f.write_str("does not answer"),
        }
    }
}

impl Endpoint {
    /// Asks for `path` over a new connection and waits for the status.
    pub fn ask(&self, path: &str, limit: Duration) -> Answer {
        let end = Instant::now() + limit;
        let question = Question { method: "GET", path, agent: "", headers: &[("connection", "close")] };
        // HTTP/2 knows no such header, RFC 9113 §8.2.2.
        let question = if self.http2 { Question { headers: &[], ..question } } else { question };
        let mut exchange = match Exchange::start(self, &question) {
            Ok(exchange) => exchange,
            Err(reply) => return Answer::of(&reply),
        };
        loop {
            if let Step::Ended(reply, _) = exchange.step() {
                return Answer::of(&reply);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return exchange.give_up().map_or(Answer::Silent, |reply| Answer::of(&reply));
            }
            let timeout =
                Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let flags = if exchange.wants_write() { PollFlags::OUT } else { PollFlags::IN };
            let _ = poll(&mut [PollFd::new(&exchange, flags)], Some(&timeout)); // an interrupted sleep is a short one
        }
    }

    /// Asks again and again until `wanted` is what came, or `limit` has passed; what came last.
    pub fn ask_until(&self, path: &str, limit: Duration, wanted: impl Fn(Answer) -> bool) -> Answer {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = self.ask(path, left.clamp(Duration::from_millis(50), Duration::from_secs(2)));
            if wanted(answer) || left.is_zero() {
                return answer;
            }
            // No event tells that another program's port has opened.
            std::thread::sleep(Duration::from_millis(5).min(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    const LONG: Duration = Duration::from_secs(5);

    /// Answers `times` connections with `bytes` after one read each.
    fn served(bytes: &'static [u8], times: usize) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for _ in 0..times {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 512]).unwrap();
                let _ = stream.write_all(bytes);
            }
        });
        Endpoint::http(addr)
    }

    #[test]
    fn a_status_line_is_an_answer_and_another_protocol_is_none() {
        assert_eq!(served(b"HTTP/1.1 503 Service\r\n\r\n", 1).ask("/", LONG), Answer::Status(503));
        assert_eq!(served(b"SSH-2.0-OpenSSH_9.2", 1).ask("/", LONG), Answer::Cut);
        assert_eq!(served(b"HTTP/1.1 103 Early\r\n\r\n", 1).ask("/", LONG), Answer::Cut);
        assert_eq!(served(b"HTTP/1.1 204 No", 1).ask("/", LONG), Answer::Status(204));
    }

    #[test]
    fn closing_what_was_read_is_an_answer_while_somebody_goes_on_listening() {
        assert_eq!(served(b"", 2).ask("/", LONG), Answer::NoStatus);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::http(listener.local_addr().unwrap());
        let dying = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]).unwrap();
            drop(listener); // as the kernel does for a process that dies
        });
        assert_eq!(endpoint.ask("/", LONG), Answer::Refused);
        dying.join().unwrap();
    }

    #[test]
    fn closing_what_was_not_read_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::http(listener.local_addr().unwrap());
        let full = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            while stream.peek(&mut [0]).unwrap() == 0 {}
            drop(stream);
            listener // as a worker without a free connection does
        });
        assert_eq!(endpoint.ask("/", LONG), Answer::Cut);
        drop(full.join());
    }

    #[test]
    fn a_closed_port_refuses_and_a_connection_that_only_the_kernel_took_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = Endpoint::http(listener.local_addr().unwrap());
        let short = Duration::from_millis(50);
        let tls = Endpoint { tls: true, ..plain.clone() };
        let http2 = Endpoint { http2: true, ..plain.clone() };
        let proxy = Endpoint { proxy_protocol: true, ..plain.clone() };
        for endpoint in [&plain, &tls, &http2, &proxy] {
            assert_eq!(endpoint.ask("/", short), Answer::Silent, "{endpoint:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let unix = UnixListener::bind(&path).unwrap();
        assert_eq!(Endpoint::http(Address::Unix(path.clone())).ask("/", short), Answer::Silent);
        drop((listener, unix));
        for endpoint in [plain, tls, http2, proxy, Endpoint::http(Address::Unix(path.clone()))] {
            assert_eq!(endpoint.ask("/", LONG), Answer::Refused, "{endpoint:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Endpoint::http(Address::Unix(path)).ask("/", LONG), Answer::Refused);
    }

    #[test]
    fn a_record_of_an_older_version_is_read() {
        let old: Endpoint = serde_json::from_str(r#"{"addr":"127.0.0.1:80","proxy_protocol":true}"#).unwrap();
        let new = Endpoint {
            proxy_protocol: true,
            ..Endpoint::http(std::net::SocketAddr::from(([127, 0, 0, 1], 80)))
        };
        assert_eq!(old, new);
    }
}
