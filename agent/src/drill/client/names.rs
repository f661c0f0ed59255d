//! The addresses of the load balancer's name, now and as they change. Each is a node that is measured on its own.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::target::Target;

/// How often the name is resolved again. A load balancer's records live for 60 s ("Updating your load balancer",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/how-elastic-load-balancing-works.html>); asking
/// more often costs a look into the resolver's cache.
pub const AGAIN: Duration = Duration::from_secs(2);

/// An address that is missing from so many answers in a row is gone: a name with more addresses than an answer holds
/// gives now these and now those.
const GONE_AFTER: u8 = 2;

/// Resolves the name, in the order of the addresses. An address of a family that this machine has no route for is left
/// out where there is another.
///
/// # Errors
/// When the name isn't known, or has no address.
pub async fn resolve(target: &Target) -> io::Result<Vec<SocketAddr>> {
    if let Some(addrs) = target.literal() {
        return Ok(addrs);
    }
    let mut all: Vec<SocketAddr> =
        tokio::net::lookup_host((target.name.as_str(), target.port)).await?.collect();
    all.sort_unstable();
    all.dedup();
    if all.iter().any(|addr| has_route(*addr)) {
        all.retain(|addr| has_route(*addr));
    }
    if all.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(all)
}

/// Whether the kernel knows a way; nothing is sent (connect(2) on a datagram socket).
fn has_route(addr: SocketAddr) -> bool {
    let any: SocketAddr = match addr.ip() {
        IpAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(addr)).is_ok()
}

/// What a new answer of the resolver changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An address came.
    Added(SocketAddr),
    /// One went.
    Removed(SocketAddr),
}

/// The addresses that are measured, and how often each was missing in a row.
#[derive(Debug, Default)]
pub struct Known(Vec<(SocketAddr, u8)>);

impl Known {
    /// Takes an answer of the resolver in.
    pub fn take(&mut self, answer: &[SocketAddr]) -> Vec<Change> {
        let mut changes = Vec::new();
        for (addr, missing) in &mut self.0 {
            *missing = if answer.contains(addr) { 0 } else { *missing + 1 };
        }
        self.0.retain(|(addr, missing)| {
            let gone = *missing >= GONE_AFTER;
            changes.extend(gone.then_some(Change::Removed(*addr)));
            !gone
        });
        for addr in answer {
            if !self.0.iter().any(|(known, _)| known == addr) {
                self.0.push((*addr, 0));
                changes.push(Change::Added(*addr));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_goes_when_it_is_missing_twice_and_comes_at_once() {
        let [a, b]: [SocketAddr; 2] = ["127.0.0.1:80", "127.0.0.2:80"].map(|addr| addr.parse().unwrap());
        let mut known = Known::default();
        assert_eq!(known.take(&[a, b]), [Change::Added(a), Change::Added(b)]);
        assert_eq!(known.take(&[b]), []);
        assert_eq!(known.take(&[a, b]), []);
        assert_eq!(known.take(&[a]), []);
        assert_eq!(known.take(&[a]), [Change::Removed(b)]);
        assert_eq!(known.take(&[b, a]), [Change::Added(b)]);
    }
}
