//! One question to nginx, step by step as its socket becomes ready.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::http1::{self, Head};
use super::http2::{self, Frames};
use super::socket::{Address, Socket};
use super::tls::Tls;
use super::{Endpoint, Question};

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A final status.
    Status(u16),
    /// The process answered, but with no status: it refused the handshake or the stream.
    NoStatus(String),
    /// The process read the request and closed the connection without a byte: `return 444`.
    Closed,
    /// Nothing listens there.
    Refused,
    /// The connection was reset, or ended within an answer.
    Cut,
    /// What came is another protocol.
    Garbage,
    /// The connection could not be made.
    Failed(String),
}

/// What a step of a question led to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing yet.
    Waits,
    /// The end, and how long it took.
    Ended(Reply, Duration),
    /// A kept connection was closed before it answered: that says nothing of nginx, a new one will.
    Stale,
}

/// A connection that has answered and stays open.
#[derive(Debug)]
pub(crate) struct Kept {
    socket: Socket,
    tls: Option<Tls>,
}

impl Kept {
    /// Whether nothing has happened on it. Whatever happens on an idle connection is its end.
    pub(crate) fn is_quiet(&self) -> bool {
        self.socket.is_quiet()
    }
}

impl AsFd for Kept {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Talking,
    /// It was closed without a byte. Whether by a process that goes on taking connections, or by the kernel as the
    /// process died, a new connection tells.
    Confirming,
}

/// A question on its way.
#[derive(Debug)]
pub(crate) struct Exchange {
    phase: Phase,
    socket: Socket,
    addr: Address,
    tls: Option<Tls>,
    http2: bool,
    /// A reset without a byte is its way to close.
    resets: bool,
    kept: bool,
    /// What is still to be sent: before TLS, or all of it where there is none.
    out: Vec<u8>,
    /// What the server said, deciphered.
    answer: Vec<u8>,
    /// Whether any byte came, deciphered or not.
    heard: bool,
    started: Instant,
}

impl Exchange {
    /// Asks over a new connection; `Err` when it can't be begun.
    pub(crate) fn start(endpoint: &Endpoint, question: &Question<'_>) -> Result<Self, Reply> {
        let started = Instant::now();
        let socket = Socket::connect(&endpoint.addr).map_err(|e| Reply::of(&e))?;
        let tls = endpoint.tls.then(|| Tls::new(&endpoint.host())).transpose().map_err(|e| Reply::of(&e))?;
        // Nothing is said of who connects: `$proxy_protocol_addr` is empty, realip changes nothing.
        let proxy = if endpoint.proxy_protocol { "PROXY UNKNOWN\r\n" } else { "" };
        let mut new = Self {
            phase: Phase::Connecting,
            socket,
            addr: endpoint.addr.clone(),
            tls,
            http2: endpoint.http2,
            resets: endpoint.resets,
            kept: false,
            out: proxy.as_bytes().to_vec(),
            answer: Vec::new(),
            heard: false,
            started,
        };
        new.put(endpoint, question);
        Ok(new)
    }

    /// Asks over a connection that was kept.
    pub(crate) fn over(kept: Kept, endpoint: &Endpoint, question: &Question<'_>) -> Self {
        let mut new = Self {
            phase: Phase::Talking,
            socket: kept.socket,
            addr: endpoint.addr.clone(),
            tls: kept.tls,
            http2: false,
            resets: endpoint.resets,
            kept: true,
            out: Vec::new(),
            answer: Vec::new(),
            heard: false,
            started: Instant::now(),
        };
        new.put(endpoint, question);
        new
    }

    fn put(&mut self, endpoint: &Endpoint, question: &Question<'_>) {
        let host = endpoint.host();
        let agent = format!("asg-agent/{}{}", env!("CARGO_PKG_VERSION"), question.agent);
        let bytes = if self.http2 {
            let headers: Vec<(&str, &str)> = std::iter::once(("user-agent", agent.as_str()))
                .chain(question.headers.iter().copied())
                .collect();
            http2::request(question.method, question.path, &host, &headers)
        } else {
            let headers: String = question.headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
            format!(
                "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n{headers}\r\n",
                question.method, question.path
            )
            .into_bytes()
        };
        match &mut self.tls {
            // rustls holds it back until the handshake is done.
            Some(tls) => drop(tls.0.writer().write_all(&bytes)),
            None => self.out.extend_from_slice(&bytes),
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Whether it waits to write, else to read.
    pub(crate) fn wants_write(&self) -> bool {
        self.phase != Phase::Talking
            || !self.out.is_empty()
            || self.tls.as_ref().is_some_and(|tls| tls.0.wants_write())
    }

    /// Goes on as far as possible without waiting.
    pub(crate) fn step(&mut self) -> Step {
        let advanced = match self.advance() {
            // Asked and closed within one step, where nginx is quick: what counts is how far we had come by then.
            Err(e) if self.is_closed_so() && Reply::of(&e) == Reply::Cut => self.confirm(),
            advanced => advanced,
        };
        let reply = match advanced {
            Ok(None) => return Step::Waits,
            Ok(Some(reply)) => reply,
            Err(e) => Reply::of(&e),
        };
        let no_reply = matches!(reply, Reply::Closed | Reply::Cut | Reply::Failed(_));
        if self.kept && no_reply && self.answer.is_empty() {
            return Step::Stale;
        }
        Step::Ended(reply, self.started.elapsed())
    }

    /// The connection of an exchange that has ended, where the server keeps it open.
    pub(crate) fn into_kept(self) -> Option<Kept> {
        let keeps = !self.http2 && matches!(http1::read(&self.answer), Head::Complete(_, true));
        keeps.then_some(Kept { socket: self.socket, tls: self.tls })
    }

    /// What is known when the time is up: a status whose headers never end is an answer all the same.
    pub(crate) fn give_up(&self) -> Option<Reply> {
        match http1::read(&self.answer) {
            Head::Status(status) if !self.http2 => Some(Reply::Status(status)),
            _ => None,
        }
    }

    fn advance(&mut self) -> io::Result<Option<Reply>> {
        if self.phase == Phase::Confirming {
            return Ok(self.socket.is_connected()?.then_some(Reply::Closed));
        }
        if self.phase == Phase::Connecting {
            if !self.socket.is_connected()? {
                return Ok(None);
            }
            self.phase = Phase::Talking;
        }
        // What a server says before it closes is worth more than that it closed.
        let sent = self.send();
        loop {
            let ended = match self.receive() {
                Ok(ended) => ended,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    sent?;
                    return Ok(None);
                }
                Err(e) => return Err(e),
            };
            if let Some(reply) = ended {
                return Ok(Some(reply));
            }
            if let Some(reply) = self.judge() {
                return Ok(Some(reply));
            }
            self.send().or_else(|e| if self.heard { Ok(()) } else { Err(e) })?;
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.0.wants_write()) {
            match tls.0.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Takes what is there; a reply when that is the end of the connection or of its handshake.
    fn receive(&mut self) -> io::Result<Option<Reply>> {
        let mut chunk = [0; 2048];
        let Some(tls) = &mut self.tls else {
            let n = retry(|| self.socket.read(&mut chunk))?;
            self.heard |= n > 0;
            self.answer.extend_from_slice(chunk.get(..n).unwrap_or_default());
            return if n == 0 { self.at_end().map(Some) } else { Ok(None) };
        };
        let n = retry(|| tls.0.read_tls(&mut self.socket))?;
        self.heard |= n > 0;
        if let Err(e) = tls.0.process_new_packets() {
            let _ = tls.0.write_tls(&mut self.socket); // our alert, so that its log tells why
            return Ok(Some(refused_handshake(&e)));
        }
        loop {
            match tls.0.reader().read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => self.answer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // An end without goodbye is an end.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(e),
            }
        }
        if n == 0 { self.at_end().map(Some) } else { Ok(None) }
    }

    /// Whether a reset now is the way in which this listener closes without an answer.
    fn is_closed_so(&self) -> bool {
        self.resets && self.phase == Phase::Talking && !self.kept && self.answer.is_empty()
    }

    /// What the end of the connection means.
    fn at_end(&mut self) -> io::Result<Reply> {
        if let Some(reply) = self.judge().or_else(|| self.give_up()) {
            return Ok(reply);
        }
        if self.http2 && http2::read(&self.answer) == Frames::Spoke {
            return Ok(Reply::NoStatus("closed the connection without an answer".to_owned()));
        }
        let talking = self.tls.as_ref().is_none_or(|tls| !tls.0.is_handshaking());
        if !self.answer.is_empty() || self.heard && !talking {
            return Ok(Reply::Cut);
        }
        // One that closed without reading what we had sent (no connections left) resets it: that is no answer.
        self.socket.check()?;
        if self.kept {
            return Ok(Reply::Closed);
        }
        self.confirm()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Looks whether connections are still taken.
    fn confirm(&mut self) -> io::Result<Option<Reply>> {
        self.socket = Socket::connect(&self.addr)?;
        self.phase = Phase::Confirming;
        self.out.clear();
        Ok(self.socket.is_connected()?.then_some(Reply::Closed))
    }

    /// What the bytes so far mean.
    fn judge(&self) -> Option<Reply> {
        if self.http2 {
            match http2::read(&self.answer) {
                Frames::Incomplete | Frames::Spoke => return None,
                Frames::Status(status) => return Some(Reply::Status(status)),
                Frames::Ended => return Some(Reply::NoStatus("refused the request".to_owned())),
                Frames::NotHttp2 => {} // an answer in HTTP/1 is one as well
            }
        }
        match http1::read(&self.answer) {
            Head::Incomplete | Head::Status(_) => None,
            Head::Complete(status, _) => Some(Reply::Status(status)),
            Head::NotHttp => Some(Reply::Garbage),
        }
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A handshake that fails by what the server said is an answer of it, be it an alert (`ssl_reject_handshake`) or a
/// version that we don't speak; bytes that aren't TLS are none.
fn refused_handshake(error: &tokio_rustls::rustls::Error) -> Reply {
    use tokio_rustls::rustls::Error;
    match error {
        Error::InvalidMessage(_) | Error::DecryptError => Reply::Garbage,
        Error::AlertReceived(alert) => Reply::NoStatus(format!("refused the TLS handshake ({alert:?})")),
        other => Reply::NoStatus(format!("could not agree on TLS ({other})")),
    }
}

impl Reply {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Cut,
            // A Unix socket whose file is gone.
            io::ErrorKind::NotFound => Self::Refused,
            _ => Self::Failed(error.to_string()),
        }
    }
}
