//! Where a configuration lets nginx listen, and how it speaks there; against it, where the kernel says that it listens.

use std::path::Path;

use super::ask::{self, Endpoint};
use super::conf::{Address, Conf, Listen};
use crate::sys::listening::Listening;

/// A configuration that was edited since nginx read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drift {
    /// Where nginx listens, and wouldn't any more.
    pub lost: Vec<String>,
    /// Where it doesn't listen, and would.
    pub new: Vec<String>,
}

/// Where a configuration lets nginx listen.
#[derive(Debug, Default)]
pub(super) struct Configured {
    pub(super) tcp: Vec<Listen>,
    quic: Vec<std::net::SocketAddr>,
    unix: Vec<Endpoint>,
    /// Ports that go with a name, or stand in a block that isn't HTTP: their addresses aren't known.
    loose: Vec<(u16, Listen)>,
}

impl Configured {
    pub(super) fn of(conf: &Conf) -> Self {
        let mut all = Self::default();
        for listener in conf.listeners() {
            let listen = |addr| Listen {
                addr,
                tls: listener.tls,
                http2: listener.http2,
                proxy_protocol: listener.proxy_protocol,
            };
            match listener.address {
                Address::Tcp(addr) => all.tcp.push(listen(addr)),
                Address::Quic(addr) => all.quic.push(addr),
                Address::Name(_, port) => all.loose.push((port, listen(any(port)))),
                Address::Unix(_) => all.unix.extend(Endpoint::of(&listener)),
            }
        }
        for block in conf.directives().iter().filter(|d| d.name == "stream" || d.name == "mail") {
            block.walk(&mut |d| {
                let text = d.args.first().filter(|_| d.name == "listen");
                let ports = text.and_then(|text| text.rsplit(':').next()).unwrap_or_default();
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return };
                let plain =
                    |port| Listen { addr: any(port), tls: false, http2: false, proxy_protocol: false };
                all.loose.extend((first..=last).map(|port| (port, plain(port))));
            });
        }
        all
    }

    fn find(&self, addr: &std::net::SocketAddr) -> Option<Listen> {
        let exact = self.tcp.iter().find(|l| l.addr == *addr);
        // One bind to a wildcard covers the port's other addresses (`ngx_http_init_listening`).
        let covered = || self.tcp.iter().find(|l| l.addr.port() == addr.port() && addr.ip().is_unspecified());
        let loose = || self.loose.iter().find(|(port, _)| *port == addr.port()).map(|(_, listen)| listen);
        exact.or_else(covered).or_else(loose).copied()
    }

    pub(super) fn names(&self, addr: &std::net::SocketAddr) -> bool {
        self.find(addr).is_some()
    }

    /// How nginx speaks at an address; plainly where that isn't known.
    pub(super) fn speaking_at(&self, addr: std::net::SocketAddr) -> Listen {
        let plain = Listen { addr, tls: false, http2: false, proxy_protocol: false };
        self.find(&addr).map_or(plain, |listen| Listen { addr, ..listen })
    }

    pub(super) fn speaking_on(&self, path: &Path) -> Endpoint {
        let addr = ask::Address::Unix(path.to_owned());
        let known = self.unix.iter().find(|e| e.addr == addr);
        known.cloned().unwrap_or_else(|| Endpoint::http(addr))
    }

    pub(super) fn drift(&self, now: &Listening) -> Drift {
        let covered = |addr: &std::net::SocketAddr,
                       all: &std::collections::BTreeSet<std::net::SocketAddr>| {
            all.contains(addr) || all.iter().any(|a| a.port() == addr.port() && a.ip().is_unspecified())
        };
        let quic = |addr: &&std::net::SocketAddr| {
            self.quic.iter().any(|q| q.port() == addr.port())
                || self.loose.iter().any(|(port, _)| *port == addr.port())
        };
        let lost_tcp = now.tcp.iter().filter(|addr| !self.names(addr)).map(ToString::to_string);
        let lost_udp = now.udp.iter().filter(|addr| !quic(addr)).map(|addr| format!("{addr} (UDP)"));
        let new_tcp = self.tcp.iter().map(|l| l.addr).filter(|addr| !covered(addr, &now.tcp));
        Drift { lost: lost_tcp.chain(lost_udp).collect(), new: new_tcp.map(|a| a.to_string()).collect() }
    }
}

fn any(port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([0, 0, 0, 0], port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_what_only_one_of_kernel_and_configuration_knows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nginx.conf");
        let text = "stream { server { listen 9000; } } http { server { listen 80; listen 8000-8001; } \
                    server { listen web.internal:81 ssl; listen 10.0.0.1:80; listen 443 quic; } }";
        std::fs::write(&path, text).unwrap();
        let configured = Configured::of(&Conf::load(&path, None).unwrap());
        let addrs = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        let mut now = Listening {
            tcp: addrs(&["0.0.0.0:80", "0.0.0.0:8000", "0.0.0.0:8001", "10.0.0.9:81", "0.0.0.0:9000"]),
            udp: addrs(&["0.0.0.0:443"]),
            ..Listening::default()
        };
        assert_eq!(configured.drift(&now), Drift::default());
        assert!(configured.speaking_at("10.0.0.9:81".parse().unwrap()).tls);
        now.tcp.remove(&"0.0.0.0:8001".parse().unwrap());
        now.tcp.insert("0.0.0.0:82".parse().unwrap());
        let drift = configured.drift(&now);
        assert_eq!((drift.lost, drift.new), (vec!["0.0.0.0:82".to_owned()], vec!["0.0.0.0:8001".to_owned()]));
    }
}
