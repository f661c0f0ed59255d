//! What clients sent to the public listener that gets no 200: the first thing to look at when a load balancer calls
//! this target unhealthy. Written by the serving thread, which never waits for who reads.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sys::clock::rfc3339;

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A TLS handshake.
    Tls,
    /// HTTP/2 without TLS.
    Http2,
    /// A PROXY protocol header.
    ProxyProtocol,
    /// Another path.
    Path,
    /// Another method.
    Method,
    /// No request before the connection ended or the time was over.
    NoRequest,
    /// An HTTP/1.1 request with no `Host`, with two, or with one that is none.
    Host,
    /// A request that is too large.
    Size,
    /// No HTTP at all.
    Garbage,
}

const ALL: [Kind; 9] = [
    Kind::Tls,
    Kind::Http2,
    Kind::ProxyProtocol,
    Kind::Path,
    Kind::Method,
    Kind::NoRequest,
    Kind::Host,
    Kind::Size,
    Kind::Garbage,
];

/// Clients that did one thing wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WrongClient {
    /// What.
    pub kind: Kind,
    /// How often.
    pub count: u64,
    /// The last time, RFC 3339.
    pub last_at: String,
    /// Who it was then.
    pub last_peer: IpAddr,
    /// What it asked for then: its method, path and User-Agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<String>,
    /// What to change, if that is the load balancer.
    pub cure: String,
}

#[derive(Debug, Default)]
struct Seen {
    count: AtomicU64,
    last: Mutex<Option<(Timestamp, IpAddr, Option<String>)>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct WrongClients([Seen; ALL.len()]);

impl WrongClients {
    /// Counts one; `request` is put together only where there is room for it.
    pub(super) fn count(&self, kind: Kind, peer: IpAddr, request: impl FnOnce() -> Option<String>) {
        let Some(seen) = self.0.get(kind as usize) else { return };
        seen.count.fetch_add(1, Relaxed);
        // Whoever reads holds this for a moment; the next one is as good.
        if let Ok(mut last) = seen.last.try_lock() {
            *last = Some((Timestamp::now(), peer, request()));
        }
    }

    /// How often each was seen.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Kind, u64)> {
        ALL.iter().zip(&self.0).map(|(kind, seen)| (*kind, seen.count.load(Relaxed)))
    }

    /// What was seen at all; `port` is the listener's.
    pub(super) fn seen(&self, port: u16) -> Vec<WrongClient> {
        let one = |(kind, seen): (&Kind, &Seen)| {
            let (at, last_peer, last_request) =
                seen.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
            let count = seen.count.load(Relaxed);
            let cure = kind.cure(port);
            Some(WrongClient { kind: *kind, count, last_at: rfc3339(at), last_peer, last_request, cure })
        };
        ALL.iter().zip(&self.0).filter_map(one).collect()
    }
}

impl Kind {
    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http2 => "http2",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Path => "path",
            Self::Method => "method",
            Self::NoRequest => "no_request",
            Self::Host => "host",
            Self::Size => "size",
            Self::Garbage => "garbage",
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Http2 => "HTTP/2",
            Self::ProxyProtocol => "PROXY protocol",
            Self::Path => "another path",
            Self::Method => "another method",
            Self::NoRequest => "no request",
            Self::Host => "no usable Host",
            Self::Size => "too large a request",
            Self::Garbage => "no HTTP",
        }
    }

    fn cure(self, port: u16) -> String {
        match self {
            Self::Tls => "set the health check's protocol to HTTP, not HTTPS".to_owned(),
            Self::Http2 => "set the target group's protocol version to HTTP1".to_owned(),
            Self::ProxyProtocol => "switch proxy protocol v2 off in the target group's attributes".to_owned(),
            Self::Path => "set the health check's path to /health".to_owned(),
            Self::Method => "ask with GET or HEAD".to_owned(),
            Self::NoRequest => format!(
                "a TCP check tells nothing of nginx: set the health check's protocol to HTTP, port {port}, path /health"
            ),
            Self::Host => "send one Host header (RFC 9112 §3.2)".to_owned(),
            Self::Size => "send fewer headers: 8 KiB and 64 headers are taken".to_owned(),
            Self::Garbage => format!("port {port} speaks HTTP/1.1: set the health check's protocol to HTTP"),
        }
    }

    /// What the first bytes of a connection tell; `None` where they may be a request.
    pub(super) fn of_first_bytes(bytes: &[u8]) -> Option<Self> {
        // A TLS record of a handshake, RFC 8446 §5.1; the PROXY protocol, version 1 and 2.
        match bytes {
            [0x16, 3, ..] => Some(Self::Tls),
            [b'P', b'R', b'I', b' ', b'*', ..] => Some(Self::Http2),
            [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => Some(Self::ProxyProtocol),
            [b'\r', b'\n', b'\r', b'\n', 0, b'\r', b'\n', ..] => Some(Self::ProxyProtocol),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        assert_eq!(Kind::of_first_bytes(b"\x16\x03\x01\x02\x00"), Some(Kind::Tls));
        assert_eq!(Kind::of_first_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(Kind::Http2));
        assert_eq!(Kind::of_first_bytes(b"PROXY TCP4 1.1.1.1"), Some(Kind::ProxyProtocol));
        assert_eq!(Kind::of_first_bytes(b"\r\n\r\n\0\r\nQUIT\n\x21"), Some(Kind::ProxyProtocol));
        for request in [b"GET /health HTTP/1.1\r\n".as_slice(), b"PUT / HTTP/1.1", b"\r\nGET /", b"PR"] {
            assert_eq!(Kind::of_first_bytes(request), None);
        }
    }

    #[test]
    fn each_kind_is_told_with_its_last_client() {
        let wrong = WrongClients::default();
        assert_eq!(wrong.seen(8080), []);
        let peer = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
        wrong.count(Kind::Path, peer(1), || Some("GET /".into()));
        wrong.count(Kind::Path, peer(2), || Some("GET /up".into()));
        wrong.count(Kind::Garbage, peer(3), || None);
        let seen = wrong.seen(8080);
        assert_eq!((seen.len(), seen[0].kind, seen[0].count, seen[0].last_peer), (2, Kind::Path, 2, peer(2)));
        assert_eq!(seen[0].last_request.as_deref(), Some("GET /up"));
        assert_eq!(wrong.counts().map(|(_, n)| n).sum::<u64>(), 3);
        assert_eq!(ALL.map(|kind| kind as usize), std::array::from_fn(|n| n));
    }
}
