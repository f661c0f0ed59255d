//! What to ask nginx: set by the user, else found in its configuration, else the usual address.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ask::Endpoint;
use super::conf::{self, Conf, Listener, USUAL_FILES};
use super::url;
use crate::config::Invalid;

/// The location that `nginx-setup` installs: nginx itself answers there, before any limit, and logs nothing.
pub const CHECK_LOCATION: &str = "/asg-agent-check";

/// `[nginx]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What to ask nginx for: `http://` or `https://`, an address of this machine, a port and a path; for a Unix
    /// socket `http://unix:/run/nginx.sock:/path`. Over https any certificate will do.
    pub url: Option<String>,
    /// The `Host` header of that, and the name in the TLS handshake; without it the address.
    pub host: Option<String>,
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
            url::parse(url).map_err(|message| Invalid::new("nginx.url", message))?;
            if self.check == Expect::Off {
                return Err(Invalid::new("nginx.check", "is off, and nginx.url is set: leave one out"));
            }
        }
        let visible =
            |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if let Some(host) = self.host.as_deref().filter(|host| !visible(host)) {
            return Err(Invalid::new("nginx.host", format!("\"{host}\" is not like www.example.com")));
        }
        Ok(())
    }
}

/// Where and what to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where, and how.
    pub endpoint: Endpoint,
    /// The path and query.
    pub path: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.endpoint, self.path)?;
        if let Some(host) = &self.endpoint.host {
            write!(f, " (Host {host})")?;
        }
        Ok(())
    }
}

/// What is known of what to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nobody shall ask.
    Off,
    /// It can't be told what to ask, and why.
    Unknown(String),
    /// What to ask.
    Found {
        /// Where and what.
        target: Target,
        /// An nginx is configured or required here: silence is a failure.
        expected: bool,
    },
}

/// Finds what to ask. Reads nginx's configuration where no URL is set.
pub fn find(settings: &Settings) -> Lookup {
    if settings.check == Expect::Off {
        return Lookup::Off;
    }
    let found = |endpoint: Endpoint, path: String, expected| {
        let host = settings.host.clone().or_else(|| endpoint.host.clone());
        Lookup::Found { target: Target { endpoint: Endpoint { host, ..endpoint }, path }, expected }
    };
    if let Some((endpoint, path)) = settings.url.as_deref().and_then(|text| url::parse(text).ok()) {
        return found(endpoint, path, true);
    }
    let mut usual = USUAL_FILES.iter().map(Path::new);
    let Some(file) = settings.conf.as_deref().or_else(|| usual.find(|path| path.exists())) else {
        let usual = Endpoint::http(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 80));
        return found(usual, "/".to_owned(), settings.check == Expect::Required);
    };
    match Conf::load(file, None) {
        Ok(conf) => match best(&conf) {
            Some((endpoint, path)) => found(endpoint, path, true),
            None => Lookup::Unknown(format!("{} names no address where HTTP is served", file.display())),
        },
        Err(e) => Lookup::Unknown(e.to_string()),
    }
}

/// The location that `nginx-setup` installs where it is there, else the listener that is cheapest to ask: one process
/// answers on all of them.
fn best(conf: &Conf) -> Option<(Endpoint, String)> {
    let listeners = conf.listeners();
    if let Some((address, name)) = conf.location(CHECK_LOCATION)
        && let Some(listener) = listeners.iter().find(|listener| listener.address == address)
        && let Some(endpoint) = Endpoint::of(listener)
    {
        return Some((Endpoint { host: name, ..endpoint }, CHECK_LOCATION.to_owned()));
    }
    let effort = |listener: &&Listener| {
        let (unix, name) = match listener.address {
            conf::Address::Unix(_) => (true, false),
            conf::Address::Name(..) => (false, true),
            _ => (false, false),
        };
        (name, listener.tls, listener.http2, listener.proxy_protocol, unix)
    };
    let mut listeners: Vec<&Listener> = listeners.iter().collect();
    listeners.sort_by_key(effort);
    let endpoint = listeners.into_iter().find_map(Endpoint::of)?;
    Some((Endpoint { resets: resets(conf), ..endpoint }, "/".to_owned()))
}

/// Whether a connection that is closed with 444 is reset
/// (<https://nginx.org/en/docs/http/ngx_http_core_module.html#reset_timedout_connection>).
fn resets(conf: &Conf) -> bool {
    let mut found = (false, false);
    for directive in conf.directives() {
        directive.walk(&mut |d| {
            let first = d.args.first().map(String::as_str);
            found.0 |= d.name == "return" && first == Some("444");
            found.1 |= d.name == "reset_timedout_connection" && first == Some("on");
        });
    }
    found == (true, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(conf: &str) -> Lookup {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nginx.conf");
        std::fs::write(&path, conf).unwrap();
        find(&Settings { conf: Some(path), ..Settings::default() })
    }

    #[test]
    fn the_configuration_names_the_address() {
        let Lookup::Found { target, expected } =
            found("http { server { listen 443 ssl; } server { listen 8000; } }")
        else {
            panic!("not found")
        };
        assert_eq!((target.to_string(), expected), ("http://127.0.0.1:8000/".to_owned(), true));
        assert_eq!(find(&Settings { check: Expect::Off, ..Settings::default() }), Lookup::Off);
    }

    #[test]
    fn the_location_for_checks_is_asked_where_it_is_there() {
        let conf = "http { server { listen 80 default_server; } server { listen 81 proxy_protocol; \
                    server_name ~x asg-agent-check; location = /asg-agent-check { return 204; } } }";
        let Lookup::Found { target, .. } = found(conf) else { panic!("not found") };
        assert_eq!(target.to_string(), "http://127.0.0.1:81/asg-agent-check (Host asg-agent-check)");
        assert!(target.endpoint.proxy_protocol);
    }

    #[test]
    fn every_kind_of_listener_is_asked_in_its_own_way() {
        let asked = |listen: &str| match found(&format!("http {{ server {{ {listen} }} }}")) {
            Lookup::Found { target, .. } => {
                let e = &target.endpoint;
                format!("{} {}{}{}", e.addr, u8::from(e.tls), u8::from(e.http2), u8::from(e.proxy_protocol))
            }
            other => format!("{other:?}"),
        };
        for (listen, expected) in [
            ("listen 443 ssl http2;", "127.0.0.1:443 100"),
            ("listen 443 ssl; listen 443 quic;", "127.0.0.1:443 100"),
            ("listen 80 http2;", "127.0.0.1:80 010"),
            ("listen 80 proxy_protocol;", "127.0.0.1:80 001"),
            ("listen 8000-8002;", "127.0.0.1:8000 000"),
            ("listen unix:/run/x;", "unix:/run/x 000"),
            ("listen [::]:80 ipv6only=on;", "[::1]:80 000"),
            ("listen localhost:82;", "127.0.0.1:82 000"),
        ] {
            assert_eq!(asked(listen), expected, "{listen}");
        }
    }

    #[test]
    fn where_it_cannot_be_known_nothing_is_guessed() {
        let Lookup::Unknown(why) = found("http { server { listen 80; }") else { panic!("guessed") };
        assert!(why.contains("nginx.conf:1: "), "{why}");
        let Lookup::Unknown(why) = found("stream { server { listen 80; } }") else { panic!("guessed") };
        assert!(why.contains("names no address"), "{why}");
    }

    #[test]
    fn the_host_is_a_setting_of_its_own() {
        let set = |url: &str, host: &str| Settings {
            url: Some(url.into()),
            host: Some(host.into()),
            ..Settings::default()
        };
        let Lookup::Found { target, .. } = find(&set("https://127.0.0.1/up", "www.example.com")) else {
            panic!("not found")
        };
        assert_eq!(target.to_string(), "https://127.0.0.1/up (Host www.example.com)");
        assert_eq!(set("http://127.0.0.1/", "a\r\nb").validate().unwrap_err().key, "nginx.host");
    }
}
