//! What to ask nginx: set by the user, else found in its configuration, else the usual address.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ask::{Address, Endpoint};
use super::conf::{Conf, USUAL_FILES};
use super::url;
use crate::config::Invalid;

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
            Some(endpoint) => found(endpoint, "/".to_owned(), true),
            None => Lookup::Unknown(format!("{} names no address where HTTP is served", file.display())),
        },
        Err(e) => Lookup::Unknown(e.to_string()),
    }
}

/// The listener that is cheapest to ask: one process answers on all of them.
fn best(conf: &Conf) -> Option<Endpoint> {
    let effort = |endpoint: &Endpoint| {
        let unix = matches!(endpoint.addr, Address::Unix(_));
        (endpoint.tls, endpoint.http2, endpoint.proxy_protocol, unix)
    };
    conf.listens().into_iter().map(Endpoint::from).min_by_key(effort)
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
