//! `error`: a listener that answers every request with one status. Packets for nginx are led to it; nginx and its
//! configuration know nothing of it. One thread serves all connections, so that none of them, and no number of them,
//! keeps the others from their answer.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sys::limit::raise_descriptors;
use crate::sys::socket;

/// How long a client may take over its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is read what a client still sends behind its answer.
const REST: Duration = Duration::from_secs(1);
/// Connections that are open at once; for one more the one is closed that has been idle longest.
const MOST: usize = 1000;
/// More than any head that nginx would take by default (4 times 8k, `large_client_header_buffers`).
const MAX_HEAD: usize = 32 << 10;

/// Answers in a thread of its own, as long as this process lives; gives the port.
pub(in crate::fault) fn answer_with(status: u16) -> io::Result<u16> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    // A dual-stack socket takes both; where there is no IPv6 there is nothing of it to answer.
    let listener = TcpListener::bind(any)
        .or_else(|_| TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)))?;
    listener.set_nonblocking(true)?;
    // For packets that still bear nginx's own port (TPROXY); where that isn't possible, they are redirected.
    let _ = socket::set_transparent(&listener);
    raise_descriptors(MOST as u64 + 64);
    let port = listener.local_addr()?.port();
    let mut answerer = Answerer { listener, status, open: Vec::new() };
    std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
        loop {
            if answerer.turn().is_err() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    })?;
    Ok(port)
}

struct Answerer {
    listener: TcpListener,
    status: u16,
    /// The one that is idle longest first.
    open: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    head: Vec<u8>,
    /// The answer, and how much of it was written.
    answer: Option<(Vec<u8>, usize)>,
    /// How much was read behind the answer.
    rest: usize,
    ends: Instant,
}

/// What becomes of a connection.
#[derive(PartialEq, Eq)]
enum Next {
    Stays,
    Goes,
}

impl Answerer {
    /// Waits for something to happen, and does what is to be done then.
    fn turn(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.open.retain(|connection| connection.ends > now);
        let next = self.open.iter().map(|c| c.ends).min().map(|end| end.saturating_duration_since(now));
        let timeout =
            next.map(|d| Timespec { tv_sec: d.as_secs().cast_signed(), tv_nsec: d.subsec_nanos().into() });
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(self.open.iter().map(|connection| PollFd::new(&connection.stream, connection.wants())));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let (listener, streams) = ready.split_first().unwrap_or((&false, &[]));
        let (listener, mut streams) = (*listener, streams.iter());
        let status = self.status;
        self.open.retain_mut(|connection| {
            !streams.next().is_some_and(|ready| *ready) || connection.step(status) == Next::Stays
        });
        if listener { self.accept() } else { Ok(()) }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Out of descriptors, or the client is gone already.
                Err(e) if self.open.is_empty() => return Err(e),
                Err(_) => {
                    self.open.remove(0);
                    continue;
                }
            };
            stream.set_nonblocking(true)?;
            let ends = Instant::now() + PATIENCE;
            let mut connection = Connection { stream, head: Vec::new(), answer: None, rest: 0, ends };
            if connection.step(self.status) == Next::Stays {
                if self.open.len() >= MOST {
                    self.open.remove(0);
                }
                self.open.push(connection);
            }
        }
    }
}

impl Connection {
    fn wants(&self) -> PollFlags {
        match &self.answer {
            Some((text, written)) if *written < text.len() => PollFlags::OUT,
            _ => PollFlags::IN,
        }
    }

    /// As far as it goes without waiting.
    fn step(&mut self, status: u16) -> Next {
        match self.go(status) {
            Ok(next) => next,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Next::Stays
            }
            Err(_) => Next::Goes,
        }
    }

    fn go(&mut self, status: u16) -> io::Result<Next> {
        let mut chunk = [0; 2048];
        while self.answer.is_none() {
            match self.stream.read(&mut chunk)? {
                0 => return Ok(Next::Goes),
                n => self.head.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            }
            if self.head.windows(4).any(|w| w == b"\r\n\r\n") || self.head.len() >= MAX_HEAD {
                self.answer = Some((answer(&self.head, status), 0));
            }
        }
        if let Some((text, written)) = &mut self.answer {
            while let Some(left) = text.get(*written..).filter(|left| !left.is_empty()) {
                *written += self.stream.write(left)?;
                if *written == text.len() {
                    // What the client still sends is read, or the reset for it would overtake the answer.
                    self.stream.shutdown(Shutdown::Write)?;
                    self.ends = Instant::now() + REST;
                }
            }
        }
        while self.rest < MAX_HEAD {
            match self.stream.read(&mut chunk)? {
                0 => return Ok(Next::Goes),
                n => self.rest += n,
            }
        }
        Ok(Next::Goes)
    }
}

fn answer(head: &[u8], status: u16) -> Vec<u8> {
    let body = "simulated failure\n";
    let text = if head.starts_with(b"HEAD ") { "" } else { body };
    format!(
        "HTTP/1.1 {status} Simulated\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Retry-After: 5\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{text}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(port: u16, request: &[u8]) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn every_request_gets_the_status_and_a_closed_connection() {
        let port = answer_with(503).unwrap();
        let answer = ask(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\nsimulated failure\n"),
            "{answer}"
        );
        let long = [b"POST / HTTP/1.1\r\nContent-Length: 4000\r\n\r\n".as_slice(), &[b'x'; 4000]].concat();
        assert!(ask(port, &long).starts_with("HTTP/1.1 503 "));
        assert!(ask(port, b"HEAD / HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    }

    #[test]
    fn no_number_of_silent_clients_keeps_another_from_its_answer() {
        let port = answer_with(418).unwrap();
        raise_descriptors(3000);
        let mut silent = Vec::new();
        for n in 0..MOST + 50 {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            if n % 2 == 0 {
                stream.write_all(b"GET / HT").unwrap();
            }
            silent.push(stream);
        }
        assert!(ask(port, b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 418 "));
    }
}
