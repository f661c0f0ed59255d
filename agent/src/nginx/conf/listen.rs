//! Where nginx takes connections for HTTP: every notation of `listen`
//! (<https://nginx.org/en/docs/http/ngx_http_core_module.html#listen>).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::parse::Directive;
use super::{Conf, Place};

/// A `listen` may name a range of ports; all servers together are listed up to so many addresses.
const MOST: usize = 65_536;

/// A TCP address where nginx takes connections for HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address; unspecified for a wildcard.
    pub addr: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it speaks HTTP/2. nginx before 1.25.1 speaks nothing else on such a plain listener.
    pub http2: bool,
    /// Whether each connection must start with a PROXY protocol line.
    pub proxy_protocol: bool,
}

impl Listen {
    /// The address to reach it at from this machine: loopback for a wildcard.
    pub fn local(&self) -> SocketAddr {
        on_this_machine(self.addr)
    }
}

/// Where a listener's address is reached from this machine: loopback for a wildcard.
pub fn on_this_machine(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What a `listen` names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address; unspecified for a wildcard.
    Tcp(SocketAddr),
    /// A UDP address (`quic`).
    Quic(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// A host's name and a port. nginx looks it up when it starts; here nobody does, as that can hang.
    Name(String, u16),
}

/// A place where nginx takes connections for HTTP: what all servers say of one address together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: Address,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it speaks HTTP/2.
    pub http2: bool,
    /// Whether each connection must start with a PROXY protocol line.
    pub proxy_protocol: bool,
    /// Whether a server is marked `default_server`; else the first one is.
    pub marked_default: bool,
    /// The servers' names without masks and patterns, the default server's first.
    pub names: Vec<String>,
    /// The status that the default server returns to every request (`return 444;`), where it does.
    pub returns: Option<u16>,
    /// The first `listen` that names it.
    pub place: Place,
}

impl Conf {
    /// The TCP addresses where the HTTP servers listen, each once, in the order of the file.
    pub fn listens(&self) -> Vec<Listen> {
        let tcp = |listener: Listener| match listener.address {
            Address::Tcp(addr) => Some(Listen {
                addr,
                tls: listener.tls,
                http2: listener.http2,
                proxy_protocol: listener.proxy_protocol,
            }),
            _ => None,
        };
        self.listeners().into_iter().filter_map(tcp).collect()
    }

    /// Everywhere where the HTTP servers listen, each address once, in the order of the file.
    pub fn listeners(&self) -> Vec<Listener> {
        let mut found: Vec<Listener> = Vec::new();
        let mut known: HashMap<Address, usize> = HashMap::new();
        for server in self.servers() {
            let has = |name: &str| server.children(name).any(|d| d.args.first().is_some_and(|a| a == "on"));
            let (tls, http2) = (has("ssl"), has("http2"));
            let names = server.children("server_name").flat_map(|d| &d.args);
            let plain = |name: &&String| !name.is_empty() && !name.contains(['*', '~', '$']) && *name != "_";
            let names: Vec<String> =
                names.filter(plain).map(|n| n.strip_prefix('.').unwrap_or(n).to_owned()).collect();
            let returns = server.children("return").next().and_then(|d| d.args.first()?.parse().ok());
            for (address, listen, place) in addresses(server) {
                if found.len() >= MOST {
                    return found;
                }
                let flags = |flag: &str| listen.iter().skip(1).any(|f| f == flag);
                let at = *known.entry(address.clone()).or_insert(found.len());
                if at == found.len() {
                    found.push(Listener {
                        address,
                        tls: false,
                        http2: false,
                        proxy_protocol: false,
                        marked_default: false,
                        names: Vec::new(),
                        returns,
                        place: place.clone(),
                    });
                }
                let Some(one) = found.get_mut(at) else { continue };
                one.tls |= tls || flags("ssl") || matches!(one.address, Address::Quic(_));
                one.http2 |= http2 || flags("http2");
                one.proxy_protocol |= flags("proxy_protocol");
                if (flags("default_server") || flags("default")) && !one.marked_default {
                    one.marked_default = true;
                    one.returns = returns;
                    one.names.splice(0..0, names.iter().cloned());
                } else {
                    one.names.extend(names.iter().cloned());
                }
            }
        }
        found
    }

    /// Where a server listens that has a location for exactly `path`, and a name that leads to it.
    pub fn location(&self, path: &str) -> Option<(Address, Option<String>)> {
        let exact = |d: &Directive| d.args == ["=", path] || d.args == [format!("={path}")];
        let server = self.servers().find(|server| server.children("location").any(exact))?;
        let tcp = |address: &Address| matches!(address, Address::Tcp(_) | Address::Unix(_));
        let address = addresses(server).into_iter().map(|(address, ..)| address).find(tcp)?;
        let mut names = server.children("server_name").flat_map(|d| &d.args);
        let name = names.find(|name| !name.is_empty() && !name.contains(['*', '~', '$', '_'])).cloned();
        Some((address, name))
    }

    fn servers(&self) -> impl Iterator<Item = &Directive> {
        self.http().filter(|d| d.name == "server")
    }
}

/// The addresses of a server with the arguments and the place of their `listen`; port 80 where it has none.
fn addresses(server: &Directive) -> Vec<(Address, &[String], &Place)> {
    let mut found = Vec::new();
    for listen in server.children("listen") {
        let quic = listen.args.iter().skip(1).any(|a| a == "quic");
        let named = listen.args.first().map(|text| parse(text, quic)).unwrap_or_default();
        found.extend(named.into_iter().map(|address| (address, listen.args.as_slice(), &listen.place)));
    }
    if server.children("listen").next().is_none() {
        found.extend(parse("80", false).into_iter().map(|address| (address, [].as_slice(), &server.place)));
    }
    found
}

/// The addresses that the first argument of `listen` names; none where it names nothing that nginx would take.
fn parse(text: &str, quic: bool) -> Vec<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        return vec![Address::Unix(path.into())];
    }
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let socket = |ip, port| {
        let addr = SocketAddr::new(ip, port);
        if quic { Address::Quic(addr) } else { Address::Tcp(addr) }
    };
    if let Some(ports) = ports(text) {
        return ports.map(|port| socket(any, port)).collect();
    }
    let (host, with_port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let Some(ports) = ports(with_port.unwrap_or("80")) else { return Vec::new() };
    let ip = match host {
        "*" => Some(any),
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        host => host.parse().ok(),
    };
    match ip {
        Some(ip) => ports.map(|port| socket(ip, port)).collect(),
        None if host.is_empty() => Vec::new(),
        None => ports.map(|port| Address::Name(host.to_owned(), port)).collect(),
    }
}

/// `80`, or `8000-8002`.
fn ports(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::super::tests::conf;
    use super::*;

    fn listens(text: &str) -> Vec<String> {
        let conf = conf(&format!("http {{ {text} }}"));
        conf.listens().iter().map(|l| format!("{}{}", l.local(), if l.tls { " tls" } else { "" })).collect()
    }

    #[test]
    fn every_notation_of_listen_is_read() {
        assert_eq!(listens("server { listen 8080; listen [::]:8080; }"), ["127.0.0.1:8080", "[::1]:8080"]);
        assert_eq!(listens("server { listen *:81; listen 10.0.0.1; }"), ["127.0.0.1:81", "10.0.0.1:80"]);
        assert_eq!(listens("server { listen localhost:82 default_server; }"), ["127.0.0.1:82"]);
        assert_eq!(listens("server { listen 443 ssl; } server { listen 443 ssl; }"), ["127.0.0.1:443 tls"]);
        assert_eq!(listens("server { listen 443; ssl on; }"), ["127.0.0.1:443 tls"]);
        assert_eq!(listens("server { }"), ["127.0.0.1:80"], "nginx's default");
        assert_eq!(listens("server { listen unix:/run/x.sock; }"), Vec::<String>::new());
        assert_eq!(listens("server { listen 443 quic; listen 443 ssl; }"), ["127.0.0.1:443 tls"]);
        assert_eq!(
            listens("server { listen 8000-8002; listen [::1]:90-91; }"),
            ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002", "[::1]:90", "[::1]:91"]
        );
        assert_eq!(listens("server { listen [::1]; listen 0; listen 9-8; }"), ["[::1]:80"]);
    }

    #[test]
    fn servers_of_one_address_are_one_listener() {
        let conf = conf(
            "http { server { listen 80; server_name a.example *.b.example; }\n\
             server { listen 80 default_server http2 proxy_protocol; server_name _ d.example; return 444; }\n\
             server { listen unix:/run/x.sock; listen web.internal:81; http2 on; } }",
        );
        let all = conf.listeners();
        let web = &all[0];
        assert_eq!(
            (web.http2, web.proxy_protocol, web.marked_default, web.returns),
            (true, true, true, Some(444))
        );
        assert_eq!(web.names, ["d.example", "a.example"]);
        assert_eq!(all[1].address, Address::Unix("/run/x.sock".into()));
        assert_eq!(all[2].address, Address::Name("web.internal".into(), 81));
        assert!(all[1].http2 && all[1].place.line == 3);
    }
}
