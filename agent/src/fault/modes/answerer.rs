//! `error`: a listener that answers every request with one status. Packets for nginx are redirected to it; nginx
//! and its configuration know nothing of it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a client may take over its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections answered at once; one more is closed without an answer.
const MOST: usize = 256;
/// More than any head that nginx would take by default (4 times 8k, `large_client_header_buffers`).
const MAX_HEAD: usize = 32 << 10;

/// Answers in threads of its own, as long as this process lives; gives the port.
pub(in crate::fault) fn answer_with(status: u16) -> io::Result<u16> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    // A dual-stack socket takes both; where there is no IPv6 there is nothing of it to answer.
    let listener = TcpListener::bind(any)
        .or_else(|_| TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)))?;
    let port = listener.local_addr()?.port();
    let open = Arc::new(());
    let accept = move || {
        for stream in listener.incoming().flatten() {
            let ours = Arc::clone(&open);
            if Arc::strong_count(&ours) <= MOST {
                let answer = move || {
                    let _ = answer(stream, status);
                    drop(ours);
                };
                let _ = std::thread::Builder::new().stack_size(64 << 10).spawn(answer);
            }
        }
    };
    std::thread::Builder::new().stack_size(64 << 10).spawn(accept)?;
    Ok(port)
}

fn answer(mut stream: TcpStream, status: u16) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut chunk = [0; 2048];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < MAX_HEAD {
        let left = end.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            n => head.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
    }
    let body = "simulated failure\n";
    let text = if head.starts_with(b"HEAD ") { "" } else { body };
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "HTTP/1.1 {status} Simulated\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Retry-After: 5\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{text}",
        body.len()
    )?;
    // What the client still sends is read, or the reset for it would overtake the answer.
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut rest = 0;
    while rest < MAX_HEAD {
        match stream.read(&mut chunk)? {
            0 => break,
            n => rest += n,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_gets_the_status_and_a_closed_connection() {
        let port = answer_with(503).unwrap();
        let ask = |request: &[u8]| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            stream.write_all(request).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let answer = ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\nsimulated failure\n"),
            "{answer}"
        );
        let long = [b"POST / HTTP/1.1\r\nContent-Length: 4000\r\n\r\n".as_slice(), &[b'x'; 4000]].concat();
        assert!(ask(&long).starts_with("HTTP/1.1 503 "));
        assert!(ask(b"HEAD / HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    }
}
