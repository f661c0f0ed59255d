//! Whether nginx answers: a connection, a request, a status line, under one deadline. An answer is an answer,
//! whatever its status.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::conf::Listen;

/// Where and how to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address on this machine.
    pub addr: SocketAddr,
    /// Whether each connection must start with a PROXY protocol line.
    pub proxy_protocol: bool,
}

impl From<Listen> for Endpoint {
    fn from(listen: Listen) -> Self {
        Self { addr: listen.local(), proxy_protocol: listen.proxy_protocol }
    }
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A status code.
    Status(u16),
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
        matches!(self, Self::Status(_))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(code) => write!(f, "answers {code}"),
            Self::Refused => f.write_str("refuses connections"),
            Self::Cut => f.write_str("cuts connections off"),
            Self::Silent => f.write_str("does not answer"),
        }
    }
}

impl Endpoint {
    /// Asks for `path` and waits for the status line. To a TLS listener the request is plain: nginx answers it 400
    /// without decrypting anything (its own status 497), which is answer enough.
    pub fn ask(&self, path: &str, limit: Duration) -> Answer {
        match self.exchange(path, limit) {
            Ok(answer) => answer,
            Err(e) => match e.kind() {
                io::ErrorKind::ConnectionRefused => Answer::Refused,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Answer::Cut,
                _ => Answer::Silent,
            },
        }
    }

    fn exchange(&self, path: &str, limit: Duration) -> io::Result<Answer> {
        let end = Instant::now() + limit;
        let left = || {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
        };
        let mut stream = TcpStream::connect_timeout(&self.addr, left()?)?;
        stream.set_write_timeout(Some(left()?))?;
        let proxy = if self.proxy_protocol { "PROXY UNKNOWN\r\n" } else { "" };
        let version = env!("CARGO_PKG_VERSION");
        write!(
            stream,
            "{proxy}GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: asg-agent/{version}\r\nConnection: close\r\n\r\n",
            self.addr
        )?;
        // "HTTP/1.1 200" is all we need.
        let mut head = [0; 12];
        let mut filled = 0;
        while let Some(rest) = head.get_mut(filled..).filter(|r| !r.is_empty()) {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(rest) {
                Ok(0) => return Ok(Answer::Cut),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let status = std::str::from_utf8(&head).ok().filter(|h| h.starts_with("HTTP/1."));
        Ok(status.and_then(|h| h.get(9..)?.parse().ok()).map_or(Answer::Cut, Answer::Status))
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
    use std::net::TcpListener;

    fn served(bytes: &'static [u8]) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(bytes).unwrap();
        });
        Endpoint { addr, proxy_protocol: false }
    }

    #[test]
    fn a_status_line_is_an_answer_and_anything_else_is_none() {
        let limit = Duration::from_secs(5);
        assert_eq!(served(b"HTTP/1.1 503 Service\r\n\r\n").ask("/", limit), Answer::Status(503));
        assert_eq!(served(b"").ask("/", limit), Answer::Cut);
        assert_eq!(served(b"SSH-2.0-OpenSSH_9.2").ask("/", limit), Answer::Cut);
    }

    #[test]
    fn a_closed_port_refuses_and_a_full_backlog_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let endpoint = Endpoint { addr, proxy_protocol: false };
        assert_eq!(endpoint.ask("/", Duration::from_millis(50)), Answer::Silent);
        drop(listener);
        assert_eq!(endpoint.ask("/", Duration::from_secs(5)), Answer::Refused);
    }
}
