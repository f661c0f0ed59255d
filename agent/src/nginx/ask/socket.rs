//! A stream socket that never blocks, to a TCP address or a Unix one.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, getpeername, recv,
    send, socket_with, sockopt,
};
use serde::{Deserialize, Serialize};

/// Where nginx takes connections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(into = "String", try_from = "String")]
#[cfg_attr(test, schemars(with = "String"))]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// As reached from this machine: loopback for a wildcard.
    pub fn local(self) -> Self {
        let Self::Tcp(addr) = self else { return self };
        let ip = match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self::Tcp(SocketAddr::new(ip, addr.port()))
    }

    /// The TCP address; `None` for a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// The `Host` header of a request that names no other: the address, without the port `usual`.
    pub fn host(&self, usual: u16) -> String {
        match self {
            Self::Tcp(addr) if addr.port() != usual => addr.to_string(),
            Self::Tcp(SocketAddr::V4(addr)) => addr.ip().to_string(),
            Self::Tcp(SocketAddr::V6(addr)) => format!("[{}]", addr.ip()),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = std::net::AddrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Begins to connect.
    pub(super) fn connect(to: &Address) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, begun) = match to {
            Address::Tcp(addr) => {
                let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = socket_with(family, SocketType::STREAM, flags, None)?;
                let begun = connect(&socket, addr);
                (socket, begun)
            }
            Address::Unix(path) => {
                let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                let begun = connect(&socket, &SocketAddrUnix::new(path.as_path())?);
                (socket, begun)
            }
        };
        match begun {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(Self(socket)),
            Err(rustix::io::Errno::AGAIN) => Err(io::Error::other("its queue of connections is full")),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether the connection is there; the error that ended the attempt.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        self.check()?;
        Ok(getpeername(&self.0).is_ok())
    }

    /// The error that the kernel holds for this connection, such as a reset that followed its end.
    pub(super) fn check(&self) -> io::Result<()> {
        sockopt::socket_error(&self.0)?.map_err(io::Error::from)
    }

    /// Whether nothing has come and nothing has ended.
    pub(super) fn is_quiet(&self) -> bool {
        recv(&self.0, &mut [0; 1], RecvFlags::PEEK) == Err(rustix::io::Errno::AGAIN)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&self.0, buf, RecvFlags::empty())?.1)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["127.0.0.1:80", "[::1]:443", "unix:/run/nginx.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let json = serde_json::to_string(&address).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        }
        let wildcard: Address = "[::]:80".parse().unwrap();
        assert_eq!(wildcard.local().host(80), "[::1]");
    }
}
