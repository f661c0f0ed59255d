//! A client that asks a hundred times a second, whatever becomes of its requests, and remembers each of them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::cable::Network;

/// A hundred requests a second.
const EVERY: Duration = Duration::from_millis(10);
/// How long a request waits for its answer.
pub const PATIENCE: Duration = Duration::from_millis(1500);

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// This status.
    Status(u16),
    /// Nobody listens.
    Refused,
    /// The connection was closed or reset.
    Cut,
    /// Nothing within [`PATIENCE`].
    Silence,
}

/// One request. Times are milliseconds since boot, the clock that deadlines are kept in.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// When it began.
    pub from_ms: u64,
    /// When it was answered or given up.
    pub until_ms: u64,
    /// What came of it.
    pub seen: Seen,
    /// Whether it went over a connection that had served another one before.
    pub reused: bool,
}

/// A client at work. Dropped, it stops.
#[derive(Debug)]
pub struct Client {
    stop: Arc<AtomicBool>,
    pacer: Option<JoinHandle<io::Result<Vec<Request>>>>,
}

/// Now, in milliseconds since boot.
pub fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Client {
    /// Starts to ask for `path`; with `keep_alive` over as few connections as it takes, else over one each.
    pub fn start(addr: SocketAddr, path: &str, keep_alive: bool, network: Option<Network>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (end, path) = (Arc::clone(&stop), path.to_owned());
        let pacer = std::thread::spawn(move || {
            // Threads that are started here inherit the network.
            network.map_or(Ok(()), |network| network.enter())?;
            let idle = Arc::new(Mutex::new(Vec::new()));
            let mut requests = Vec::new();
            let mut next = Instant::now();
            while !end.load(Ordering::Relaxed) {
                let (idle, path) = (Arc::clone(&idle), path.clone());
                requests.push(std::thread::spawn(move || request(addr, &path, keep_alive.then_some(&*idle))));
                next += EVERY;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(requests.into_iter().filter_map(|request| request.join().ok()).collect())
        });
        Self { stop, pacer: Some(pacer) }
    }

    /// Stops, and gives all requests in the order they began.
    ///
    /// # Errors
    /// When it could not begin.
    pub fn end(mut self) -> io::Result<Vec<Request>> {
        self.stop.store(true, Ordering::Relaxed);
        let done = self.pacer.take().and_then(|pacer| pacer.join().ok());
        done.unwrap_or_else(|| Err(io::Error::other("the client panicked")))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn request(addr: SocketAddr, path: &str, idle: Option<&Mutex<Vec<TcpStream>>>) -> Request {
    let from_ms = now_ms();
    let free = idle.and_then(|idle| idle.lock().unwrap_or_else(PoisonError::into_inner).pop());
    let reused = free.is_some();
    let seen = match exchange(addr, path, free, idle.is_some()) {
        Ok((status, connection)) => {
            if let (Some(idle), Some(connection)) = (idle, connection) {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            Seen::Status(status)
        }
        Err(e) => match e.kind() {
            io::ErrorKind::ConnectionRefused => Seen::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Seen::Silence,
            _ => Seen::Cut,
        },
    };
    Request { from_ms, until_ms: now_ms(), seen, reused }
}

/// The status, and the connection where it may be used again.
fn exchange(
    addr: SocketAddr,
    path: &str,
    free: Option<TcpStream>,
    keep_alive: bool,
) -> io::Result<(u16, Option<TcpStream>)> {
    let end = Instant::now() + PATIENCE;
    let mut stream = match free {
        Some(stream) => stream,
        None => TcpStream::connect_timeout(&addr, PATIENCE)?,
    };
    let wish = if keep_alive { "keep-alive" } else { "close" };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: {wish}\r\n\r\n")?;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some((status, complete, goes_on)) = answer(&bytes)
            && complete
        {
            return Ok((status, (keep_alive && goes_on).then_some(stream)));
        }
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
        if Instant::now() > end {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Once the head is there: the status, whether the body is as well, and whether the connection goes on.
fn answer(bytes: &[u8]) -> Option<(u16, bool, bool)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    Some((status, body.len() >= length.unwrap_or(0), !head.contains("connection: close")))
}
