//! Which address tells whether nginx answers: set by the user, else found in its configuration, else the usual one.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::conf::{Conf, USUAL_FILES};
use crate::config::Invalid;

/// `[nginx]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What to ask nginx for: `http://`, an address of this machine, a port and a path.
    pub url: Option<String>,
    /// Whether there must be an nginx.
    pub check: Expect,
    /// Its main configuration file, where it isn't in a usual place.
    pub conf: Option<PathBuf>,
}

/// Whether there must be an nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// Where one is installed or was seen to answer, it must answer.
    #[default]
    Auto,
    /// Nobody asks.
    Off,
    /// Its absence is a failure.
    Required,
}

impl Settings {
    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), Invalid> {
        if let Some(url) = &self.url {
            parse_url(url).map_err(|message| Invalid::new("nginx.url", message))?;
            if self.check == Expect::Off {
                return Err(Invalid::new("nginx.check", "is off, and nginx.url is set: leave one out"));
            }
        }
        Ok(())
    }
}

/// Where and what to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// To connect to.
    pub addr: SocketAddr,
    /// The path and query.
    pub path: String,
    /// The Host header.
    pub host: String,
    /// It speaks TLS or wants a PROXY line first: it is only connected to.
    pub connect_only: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.connect_only {
            write!(f, "tcp://{}", self.addr)
        } else {
            write!(f, "http://{}{}", self.host, self.path)
        }
    }
}

/// A target, and whether anything must answer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where and what to ask.
    pub target: Target,
    /// An nginx is configured or required here: silence is a failure.
    pub expected: bool,
}

/// Finds what to ask; `None` when nobody shall ask. Reads nginx's configuration where no URL is set.
pub fn find(settings: &Settings) -> Option<Found> {
    if settings.check == Expect::Off {
        return None;
    }
    if let Some(target) = settings.url.as_deref().and_then(|url| parse_url(url).ok()) {
        return Some(Found { target, expected: true });
    }
    let mut usual = USUAL_FILES.iter().map(Path::new);
    let file = settings.conf.as_deref().or_else(|| usual.find(|path| path.exists()));
    let listen = file.and_then(|file| match Conf::load(file, None) {
        Ok(conf) => {
            let all = conf.listens();
            let plain = all.iter().find(|l| !l.tls && !l.proxy_protocol);
            plain.or(all.first()).map(|l| (l.local(), l.tls || l.proxy_protocol))
        }
        Err(e) => {
            tracing::warn!("{e}; asking nginx at its usual address");
            None
        }
    });
    let (addr, connect_only) = listen.unwrap_or((SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 80), false));
    let host = if addr.port() == 80 { addr.ip().to_string() } else { addr.to_string() };
    let target = Target { addr, path: "/".to_owned(), host, connect_only };
    Some(Found { target, expected: file.is_some() || settings.check == Expect::Required })
}

/// Reads a URL whose host is an address or `localhost`: a name would have to be looked up, and that can hang.
fn parse_url(url: &str) -> Result<Target, String> {
    let wrong = || format!("\"{url}\" is not like http://127.0.0.1:80/path");
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let slash = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(slash);
    let with_port = host.replacen("localhost", "127.0.0.1", 1);
    let addr = with_port
        .parse::<SocketAddr>()
        .or_else(|_| with_port.trim_matches(['[', ']']).parse().map(|ip| SocketAddr::new(ip, 80)))
        .map_err(|_| wrong())?;
    let visible = path.bytes().all(|b| b.is_ascii_graphic()) && !path.contains('#');
    let path = match path {
        "" => "/".to_owned(),
        path if path.starts_with('?') => format!("/{path}"),
        path => path.to_owned(),
    };
    visible.then(|| Target { addr, path, host: host.to_owned(), connect_only: false }).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_this_machine_are_read() {
        let read = |url| parse_url(url).map(|t| (t.addr.to_string(), t.path, t.host)).unwrap();
        let of = |a: &str, p: &str, h: &str| (a.to_owned(), p.to_owned(), h.to_owned());
        assert_eq!(read("http://127.0.0.1/"), of("127.0.0.1:80", "/", "127.0.0.1"));
        assert_eq!(read("http://localhost:8000/a?b"), of("127.0.0.1:8000", "/a?b", "localhost:8000"));
        assert_eq!(read("http://[::1]:81"), of("[::1]:81", "/", "[::1]:81"));
    }

    #[test]
    fn what_could_hang_or_split_a_request_is_refused() {
        for url in
            ["https://127.0.0.1/", "http://example.com/", "127.0.0.1", "http://127.0.0.1/a\r\nb", "http://"]
        {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_configuration_names_the_address() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("nginx.conf");
        std::fs::write(&conf, "http { server { listen 443 ssl; } server { listen 8000; } }").unwrap();
        let settings = Settings { conf: Some(conf), ..Settings::default() };
        let found = find(&settings).unwrap();
        assert_eq!((found.target.to_string(), found.expected), ("http://127.0.0.1:8000/".to_owned(), true));
        assert_eq!(find(&Settings { check: Expect::Off, ..Settings::default() }), None);
    }
}
