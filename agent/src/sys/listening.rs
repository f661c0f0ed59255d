//! Where a process takes connections and datagrams: its sockets (proc(5)), found among those of its network by their
//! inodes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::proc::sockets;

/// `TCP_LISTEN` (net/tcp_states.h), as `/proc/net/tcp` writes it.
const LISTEN: &str = "0A";
/// `TCP_CLOSE`: what a UDP socket without a peer is in.
const CLOSE: &str = "07";
/// `__SO_ACCEPTCON` (linux/net.h): a Unix socket that listens.
const ACCEPTS: u32 = 1 << 16;

/// Where a process can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Listening {
    /// TCP.
    pub tcp: BTreeSet<SocketAddr>,
    /// UDP, without a peer.
    pub udp: BTreeSet<SocketAddr>,
    /// Unix stream sockets with a path.
    pub unix: BTreeSet<PathBuf>,
}

impl Listening {
    /// Of the process `pid`.
    pub fn of(pid: i32) -> Self {
        Self::through(&sockets(pid), &pid.to_string())
    }

    /// Of these sockets in our network, whoever holds them.
    pub fn of_sockets(sockets: &BTreeSet<u64>) -> Self {
        Self::through(sockets, "self")
    }

    fn through(sockets: &BTreeSet<u64>, who: &str) -> Self {
        let table = |name: &str| {
            let bytes = std::fs::read(format!("/proc/{who}/net/{name}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let both = |v4: &str, v6: &str, state| {
            [v4, v6].iter().flat_map(|name| among(&table(name), state, sockets)).collect()
        };
        Self {
            tcp: both("tcp", "tcp6", LISTEN),
            udp: both("udp", "udp6", CLOSE),
            unix: unix(&table("unix"), sockets),
        }
    }

    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty() && self.unix.is_empty()
    }
}

fn among(table: &str, state: &str, ours: &BTreeSet<u64>) -> Vec<SocketAddr> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next()?;
        let peer = fields.next()?;
        (fields.next()? == state && peer.ends_with(":0000")).then_some(())?;
        let inode: u64 = fields.nth(5)?.parse().ok()?;
        ours.contains(&inode).then(|| address(local)).flatten()
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// `Num RefCount Protocol Flags Type St Inode Path`.
fn unix(table: &str, ours: &BTreeSet<u64>) -> BTreeSet<PathBuf> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(3);
        let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
        let inode: u64 = fields.nth(2)?.parse().ok()?;
        (flags & ACCEPTS != 0 && ours.contains(&inode)).then(|| fields.next().map(PathBuf::from)).flatten()
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// `0100007F:0050`: words of 32 bits in the machine's order, the port in the usual one.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = (0..ip.len())
        .step_by(8)
        .map(|at| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<_>>()?;
    let ip: IpAddr = match words.as_slice() {
        [v4] => Ipv4Addr::from(*v4).into(),
        v6 => Ipv6Addr::from(<[u8; 16]>::try_from(v6.concat()).ok()?).into(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    #[test]
    fn we_listen_where_we_do_and_not_where_we_are_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (bound, connected) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        connected.connect(bound.local_addr().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        let all = Listening::of(std::process::id().cast_signed());
        assert!(all.tcp.contains(&listener.local_addr().unwrap()), "{all:?}");
        assert!(!all.tcp.contains(&stream.local_addr().unwrap()), "{all:?}");
        assert!(all.udp.contains(&bound.local_addr().unwrap()), "{all:?}");
        assert!(!all.udp.contains(&connected.local_addr().unwrap()), "{all:?}");
        assert!(all.unix.contains(&path) && !all.is_empty(), "{all:?}");
        drop(unix);
    }

    #[test]
    fn both_kinds_of_addresses_are_read() {
        let loopback6 = Ipv6Addr::LOCALHOST.octets();
        let hex = |word: &[u8]| format!("{:08X}", u32::from_ne_bytes(word.try_into().unwrap()));
        let text: String = loopback6.chunks(4).map(hex).collect();
        assert_eq!(address(&format!("{text}:0050")), Some("[::1]:80".parse().unwrap()));
        let text = hex(&[127, 0, 0, 1]);
        assert_eq!(address(&format!("{text}:1F90")), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(address("nonsense"), None);
    }
}
