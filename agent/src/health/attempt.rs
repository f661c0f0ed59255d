//! One question to nginx: does it take a connection and answer a request? Nothing here waits: the sampler polls.
//!
//! A question is a `HEAD`, so that the connection is clean behind the answer and can be kept. A kept connection costs
//! half as much, and it is a tripwire: when the nginx worker at its other end dies, the kernel closes it, and that
//! wakes the sampler at once.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::nginx::target::Target;

/// Marks our own check. nginx passes it on where it proxies to this agent, which then answers without looking at
/// the verdict: that would be the verdict asking itself.
pub const CHECK_HEADER: &str = "x-asg-agent-check";

/// How long the headers of an answer may be, and how many.
const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

/// Tells this daemon's checks from another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// One that others don't know.
    pub fn draw() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Self(format!("{:016x}", std::hash::RandomState::new().build_hasher().finish()))
    }

    /// Its text, for a header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A status that says that nginx serves.
    Answered(u16, Duration),
    /// It takes connections; nothing more is asked.
    Connected(Duration),
    /// A status that says that what is behind nginx doesn't serve.
    ServerError(u16),
    /// Nothing listens there.
    Refused,
    /// No answer in time.
    TimedOut(Duration),
    /// The connection failed otherwise.
    Failed(String),
    /// What came back is no HTTP.
    Garbage,
}

impl Outcome {
    pub(super) fn is_ok(&self) -> bool {
        matches!(self, Self::Answered(..) | Self::Connected(_))
    }

    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status, took) => {
                write!(f, "answered {status} in {:.1} ms", took.as_secs_f64() * 1e3)
            }
            Self::Connected(took) => write!(f, "takes connections, in {:.1} ms", took.as_secs_f64() * 1e3),
            Self::ServerError(status) => write!(f, "answered {status}"),
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Failed(message) => f.write_str(message),
            Self::Garbage => f.write_str("what it answered is no HTTP"),
        }
    }
}

/// What a step of a question led to.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing yet.
    Waits,
    /// The end, and whether the connection can be kept.
    Ended(Outcome, bool),
    /// A kept connection was closed before it answered: that says nothing of nginx, a new one will.
    Stale,
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    stream: TcpStream,
    request: Option<Vec<u8>>,
    head: Vec<u8>,
    kept: bool,
    started: Instant,
    deadline: Instant,
    limit: Duration,
}

impl Attempt {
    /// Asks over a new connection.
    pub(super) fn start(
        target: &Target,
        nonce: &Nonce,
        now: Instant,
        limit: Duration,
    ) -> Result<Self, Outcome> {
        let stream = begin_connect(target).map_err(|e| Outcome::of(&e))?;
        Ok(Self::over(stream, false, target, nonce, now, limit))
    }

    /// Asks over a connection that was kept.
    pub(super) fn over_kept(
        stream: TcpStream,
        target: &Target,
        nonce: &Nonce,
        now: Instant,
        limit: Duration,
    ) -> Self {
        Self::over(stream, true, target, nonce, now, limit)
    }

    fn over(
        stream: TcpStream,
        kept: bool,
        target: &Target,
        nonce: &Nonce,
        now: Instant,
        limit: Duration,
    ) -> Self {
        let request = (!target.connect_only).then(|| {
            format!(
                "HEAD {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: asg-agent/{} (nginx check)\r\n{CHECK_HEADER}: {}\r\n\
                 Accept: */*\r\n\r\n",
                target.path,
                target.host,
                env!("CARGO_PKG_VERSION"),
                nonce.as_str()
            )
            .into_bytes()
        });
        Self { stream, request, head: Vec::new(), kept, started: now, deadline: now + limit, limit }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The connection, once the question has ended.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether it waits to write, else to read.
    pub(super) fn wants_write(&self) -> bool {
        self.request.is_some() || self.head.capacity() == 0
    }

    /// Goes on as far as possible without waiting.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        match self.advance(now) {
            Ok(Some(outcome)) => {
                let keep = matches!(outcome, Outcome::Answered(..)) && keeps_open(&self.head);
                Step::Ended(outcome, keep)
            }
            Ok(None) if now >= self.deadline => Step::Ended(Outcome::TimedOut(self.limit), false),
            Ok(None) => Step::Waits,
            Err(_) if self.kept && self.head.is_empty() => Step::Stale,
            Err(e) => Step::Ended(Outcome::of(&e), false),
        }
    }

    fn advance(&mut self, now: Instant) -> io::Result<Option<Outcome>> {
        if self.head.capacity() == 0 {
            // Connected? SO_ERROR says how the connection attempt ended, a peer that it has.
            if !self.kept {
                sockopt::socket_error(&self.stream)?.map_err(io::Error::from)?;
                if self.stream.peer_addr().is_err() {
                    return Ok(None);
                }
            }
            self.head.reserve(1024);
            match self.request.take() {
                None => return Ok(Some(Outcome::Connected(now - self.started))),
                Some(request) => self.stream.write_all(&request)?, // a few hundred bytes always fit
            }
        }
        loop {
            let mut chunk = [0; 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) if self.kept && self.head.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => return Ok(Some(Outcome::Garbage)),
                Ok(n) => self.head.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            if let Some(outcome) = judge(&self.head, now - self.started) {
                return Ok(Some(outcome));
            }
        }
    }
}

fn begin_connect(target: &Target) -> io::Result<TcpStream> {
    let family = if target.addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &target.addr) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(e) => Err(e.into()),
    }
}

/// The outcome, once all headers are there. 501 is the answer of something that doesn't know HEAD: it serves.
fn judge(head: &[u8], took: Duration) -> Option<Outcome> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let complete = match response.parse(head) {
        Ok(status) => status.is_complete(),
        Err(_) => return Some(Outcome::Garbage),
    };
    match response.code {
        Some(status) if complete && status >= 500 && status != 501 => Some(Outcome::ServerError(status)),
        Some(status) if complete => Some(Outcome::Answered(status, took)),
        _ => (head.len() > MAX_HEAD).then_some(Outcome::Garbage),
    }
}

/// Whether the server leaves the connection open behind this answer.
fn keeps_open(head: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = response.parse(head) else { return false };
    let closes = |h: &httparse::Header<'_>| {
        h.name.eq_ignore_ascii_case("connection") && h.value.eq_ignore_ascii_case(b"close")
    };
    length == head.len() && response.version == Some(1) && !response.headers.iter().any(closes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(head: &str) -> Option<Outcome> {
        judge(head.as_bytes(), Duration::ZERO)
    }

    #[test]
    fn an_answer_counts_once_all_its_headers_are_there() {
        assert_eq!(judged("HTTP/1.1 200 OK\r\nServer: nginx\r\n"), None);
        assert_eq!(judged("HTTP/1.1 404 Not Found\r\n\r\n"), Some(Outcome::Answered(404, Duration::ZERO)));
        assert_eq!(judged("HTTP/1.1 502 Bad Gateway\r\n\r\n"), Some(Outcome::ServerError(502)));
        assert_eq!(judged("HTTP/1.1 501 \r\n\r\n"), Some(Outcome::Answered(501, Duration::ZERO)));
        assert_eq!(judged("SSH-2.0-OpenSSH_9\r\n"), Some(Outcome::Garbage));
        assert_eq!(judged(&format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(9000))), Some(Outcome::Garbage));
    }

    #[test]
    fn a_connection_is_kept_only_where_the_server_keeps_it() {
        assert!(keeps_open(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!keeps_open(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"));
        assert!(!keeps_open(b"HTTP/1.0 200 OK\r\n\r\n"));
        assert!(!keeps_open(b"HTTP/1.1 200 OK\r\n\r\nbody"));
    }
}
