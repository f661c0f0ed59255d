//! Which addresses a process listens on: its sockets (proc(5)), found among those of its network by their inodes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::proc::sockets;

/// `TCP_LISTEN` (net/tcp_states.h), as `/proc/net/tcp` writes it.
const LISTEN: &str = "0A";

/// The TCP addresses that the process `pid` listens on.
pub fn listening(pid: i32) -> Vec<SocketAddr> {
    let ours = sockets(pid);
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    tables.into_iter().flatten().flat_map(|table| among(&table, &ours)).collect()
}

/// The TCP addresses in our network on which one of these sockets listens, whoever holds it.
pub fn of_sockets(sockets: &BTreeSet<u64>) -> Vec<SocketAddr> {
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/self/net/{table}")));
    tables.into_iter().flatten().flat_map(|table| among(&table, sockets)).collect()
}

fn among(table: &str, ours: &BTreeSet<u64>) -> Vec<SocketAddr> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next()?;
        (fields.nth(1)? == LISTEN).then_some(())?;
        let inode: u64 = fields.nth(5)?.parse().ok()?;
        ours.contains(&inode).then(|| address(local)).flatten()
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
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn we_listen_where_we_do_and_not_where_we_are_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let all = listening(std::process::id().cast_signed());
        assert!(all.contains(&listener.local_addr().unwrap()), "{all:?}");
        assert!(!all.contains(&stream.local_addr().unwrap()), "{all:?}");
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
