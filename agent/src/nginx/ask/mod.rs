//! The one place that asks nginx whether it answers, in every dialect that a listener of it can have: HTTP, TLS, the
//! PROXY protocol, cleartext HTTP/2, Unix sockets. A connection that is merely there proves nothing, as the kernel
//! completes it for a stopped process: only bytes of the process count, or that it closed what it had read.
//!
//! [`Exchange`] is one question, and never waits: `health` polls it. `nginx::answer` waits for it, for `fault`.

mod exchange;
mod http1;
mod http2;
mod names;
mod socket;
mod tls;

pub(crate) use exchange::{Exchange, Kept, Reply, Step};
pub use socket::Address;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::conf::{self, Listen, Listener};

/// Where nginx answers, and in which dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address, as reached from this machine.
    pub addr: Address,
    /// Each connection must start with a PROXY protocol line.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// It speaks TLS.
    #[serde(default)]
    pub tls: bool,
    /// Without TLS it speaks HTTP/2.
    #[serde(default)]
    pub http2: bool,
    /// It resets connections that it closes without an answer (`return 444` with `reset_timedout_connection on`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resets: bool,
    /// The `Host` header and the name in the TLS handshake, where it isn't the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Endpoint {
    /// Plain HTTP at `addr`.
    pub fn http(addr: impl Into<Address>) -> Self {
        Self { addr: addr.into(), proxy_protocol: false, tls: false, http2: false, resets: false, host: None }
    }

    /// The `Host` header.
    pub fn host(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.addr.host(if self.tls { 443 } else { 80 }))
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::http(addr)
    }
}

impl From<Listen> for Endpoint {
    fn from(listen: Listen) -> Self {
        Self {
            proxy_protocol: listen.proxy_protocol,
            tls: listen.tls,
            http2: listen.http2 && !listen.tls,
            ..Self::http(listen.local())
        }
    }
}

impl Endpoint {
    /// How to ask at a listener; `None` for QUIC, which is not spoken here, and for a name that nobody knows in time.
    pub fn of(listener: &Listener) -> Option<Self> {
        let addr = match &listener.address {
            conf::Address::Tcp(addr) => Address::Tcp(*addr).local(),
            conf::Address::Unix(path) => Address::Unix(path.clone()),
            conf::Address::Name(name, port) => Address::Tcp(names::resolve(name, *port)?),
            conf::Address::Quic(_) => return None,
        };
        Some(Self {
            proxy_protocol: listener.proxy_protocol,
            tls: listener.tls,
            http2: listener.http2 && !listener.tls,
            ..Self::http(addr)
        })
    }
}

/// As a URL, with what a URL can't say behind it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, port) = if self.tls { ("https", 443) } else { ("http", 80) };
        match &self.addr {
            Address::Tcp(_) => write!(f, "{scheme}://{}", self.addr.host(port))?,
            Address::Unix(_) => write!(f, "{scheme}://{}:", self.addr)?,
        }
        Ok(())
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// Behind the version in `User-Agent`.
    pub agent: &'a str,
    /// Names and values of headers besides, in lower case.
    pub headers: &'a [(&'a str, &'a str)],
}
