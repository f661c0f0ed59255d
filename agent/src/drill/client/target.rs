//! What is asked for: an URL taken apart.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;
use hyper::header::HeaderValue;

/// Why an URL can't be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not an URL with a host.
    #[error("--url {0}: not an URL such as http://my-alb-1.eu-west-1.elb.amazonaws.com/")]
    Malformed(String),
    /// Neither http nor https.
    #[error("--url {0}: only http:// and https:// can be measured")]
    Scheme(String),
    /// No value for a header.
    #[error("--host {0:?}: no value for a Host header")]
    Host(String),
}

/// An URL taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it was given, without a user's name and password.
    pub url: String,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The name that is resolved, or an address.
    pub name: String,
    /// Addresses that stand in for those of the name.
    pub instead: Vec<IpAddr>,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// The Host header.
    pub host: HeaderValue,
}

impl Target {
    /// Takes `url` apart; `host` stands in for the Host header of the URL (and for the name that a certificate must
    /// bear).
    ///
    /// # Errors
    /// What is wrong, in a line.
    pub fn parse(url: &str, host: Option<&str>) -> Result<Self, TargetError> {
        let malformed =
            || TargetError::Malformed(url.chars().filter(|c| !c.is_control()).take(200).collect());
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(TargetError::Scheme(uri.to_string())),
            None => return Err(malformed()),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(malformed());
        }
        let usual = if tls { 443 } else { 80 };
        let port = match authority.as_str().strip_prefix(authority.host()).filter(|rest| !rest.is_empty()) {
            None => usual,
            // What is no port, or none that exists, is no URL.
            Some(_) => authority.port_u16().ok_or_else(malformed)?,
        };
        let header = host.unwrap_or(authority.as_str());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            url: uri.to_string(),
            tls,
            name: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            instead: Vec::new(),
            port,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            host: HeaderValue::from_str(header).map_err(|_| TargetError::Host(header.to_owned()))?,
        })
    }

    /// The addresses, where no resolver has to be asked: those given instead, or the one that the URL names.
    pub fn literal(&self) -> Option<Vec<SocketAddr>> {
        let given =
            if self.instead.is_empty() { vec![self.name.parse().ok()?] } else { self.instead.clone() };
        Some(given.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect())
    }

    /// The name that a certificate must bear: the Host header's, without its port.
    pub fn certificate_name(&self) -> String {
        let host = self.host.to_str().unwrap_or(&self.name);
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        name.trim_start_matches('[').trim_end_matches(']').to_owned()
    }

    /// Whether it is the health check itself that is measured: a fault of `/health` is then one that clients see.
    pub fn is_health(&self) -> bool {
        self.path.split('?').next() == Some("/health")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_is_taken_apart() {
        let target = Target::parse("http://alb.example:8080/a?b=c", None).unwrap();
        assert_eq!(
            (target.name.as_str(), target.port, target.path.as_str()),
            ("alb.example", 8080, "/a?b=c")
        );
        assert_eq!((target.host.to_str().unwrap(), target.tls), ("alb.example:8080", false));
        let target = Target::parse("https://alb.example", Some("www.example:444")).unwrap();
        assert_eq!((target.port, target.path.as_str(), target.tls), (443, "/", true));
        assert_eq!(target.certificate_name(), "www.example");
        let v6 = Target::parse("http://[::1]:81/", None).unwrap();
        assert_eq!(v6.literal(), Some(vec!["[::1]:81".parse().unwrap()]));
        assert!(Target::parse("http://a/health?x", None).unwrap().is_health());
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in
            ["", "alb.example", "/health", "ftp://a/", "http://", "http://u:p@a/", "http://a:99999/", "a b"]
        {
            assert!(Target::parse(url, None).is_err(), "{url}");
        }
        assert!(Target::parse("http://a/", Some("x\r\ny: z")).is_err());
    }
}
