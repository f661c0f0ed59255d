//! One question to nginx: does it take a connection and answer a request?

use std::fmt;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::nginx::target::Target;

/// Marks our own check. nginx passes it on where it proxies to this agent, which then answers without looking at
/// the verdict: that would be the verdict asking itself.
pub const CHECK_HEADER: &str = "x-asg-agent-check";

/// How much of an answer is read: the status line is all that counts.
const MAX_HEAD: usize = 8 << 10;

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
    /// A status below 500.
    Answered(u16, Duration),
    /// It takes connections; nothing more is asked.
    Connected(Duration),
    /// A status from 500: nginx runs, but what is behind it doesn't serve.
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

/// Asks `target` once; takes at most `limit`.
pub(super) async fn attempt(target: &Target, nonce: &Nonce, limit: Duration) -> Outcome {
    let start = Instant::now();
    match tokio::time::timeout(limit, ask(target, nonce, start)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => Outcome::Refused,
        Ok(Err(e)) => Outcome::Failed(e.to_string()),
        Err(_) => Outcome::TimedOut(limit),
    }
}

async fn ask(target: &Target, nonce: &Nonce, start: Instant) -> std::io::Result<Outcome> {
    let mut stream = TcpStream::connect(target.addr).await?;
    if target.connect_only {
        return Ok(Outcome::Connected(start.elapsed()));
    }
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: asg-agent/{} (nginx check)\r\n{CHECK_HEADER}: {}\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n",
        target.path,
        target.host,
        env!("CARGO_PKG_VERSION"),
        nonce.as_str()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    loop {
        let n = stream.read_buf(&mut head).await?;
        if let Some(status) = status(&head) {
            return Ok(match status {
                500.. => Outcome::ServerError(status),
                _ => Outcome::Answered(status, start.elapsed()),
            });
        }
        if n == 0 || head.len() > MAX_HEAD {
            return Ok(Outcome::Garbage);
        }
    }
}

/// The status code, as soon as the status line is there.
fn status(head: &[u8]) -> Option<u16> {
    let mut headers = [];
    let mut response = httparse::Response::new(&mut headers);
    // Without room for headers the parser stops behind the status line; the code is then already known.
    match response.parse(head) {
        Ok(_) | Err(httparse::Error::TooManyHeaders) => response.code,
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_known_with_the_status_line() {
        assert_eq!(status(b"HTTP/1.1 20"), None);
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nServer: nginx\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r\n\r\n"), Some(503));
        assert_eq!(status(b"SSH-2.0-OpenSSH_9\r\n"), None);
    }
}
