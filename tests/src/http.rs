//! The smallest HTTP client that can be trusted to hide nothing: one request a connection, all deadlines its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order of the answer.
    pub headers: Vec<(String, String)>,
    /// What followed them.
    pub body: String,
    /// From before the connection to the last byte.
    pub took: Duration,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// `GET` with `Connection: close`.
///
/// # Errors
/// When the connection or the answer fails or takes longer than `limit`.
pub fn get(addr: SocketAddr, path: &str, limit: Duration) -> io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    exchange(addr, None, request.as_bytes(), limit)
}

/// Sends `request` as it is, from `source` where given, and reads until the other side closes.
///
/// # Errors
/// When the connection or the answer fails or takes longer than `limit`.
pub fn exchange(
    addr: SocketAddr,
    source: Option<Ipv4Addr>,
    request: &[u8],
    limit: Duration,
) -> io::Result<Answer> {
    let start = Instant::now();
    let mut stream = connect(addr, source, limit)?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let left =
            limit.checked_sub(start.elapsed()).filter(|l| !l.is_zero()).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => break,
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    parse(&bytes, start.elapsed()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}

/// A connection, from `source` where given.
///
/// # Errors
/// When it is refused or takes longer than `limit`.
pub fn connect(addr: SocketAddr, source: Option<Ipv4Addr>, limit: Duration) -> io::Result<TcpStream> {
    let (Some(source), SocketAddr::V4(to)) = (source, addr) else {
        return TcpStream::connect_timeout(&addr, limit);
    };
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    bind(fd, &SockaddrIn::from(SocketAddrV4::new(source, 0)))?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(limit))?; // bounds connect(2) too, socket(7)
    connect(fd, &SockaddrIn::from(to))?;
    Ok(stream)
}

fn parse(bytes: &[u8], took: Duration) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header =
        |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    Some(Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned(), took })
}

/// The first bytes of an answer that doesn't end: `most` of them, or what came within `limit`.
///
/// # Errors
/// When the connection fails.
pub fn first_bytes(addr: SocketAddr, path: &str, most: usize, limit: Duration) -> io::Result<String> {
    let start = Instant::now();
    let mut stream = connect(addr, None, limit)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
        if bytes.len() >= most {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
