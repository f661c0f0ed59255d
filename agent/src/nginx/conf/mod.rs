//! nginx's configuration: parsed, includes followed, and asked for what matters here (where it listens, where it
//! logs, its pid file). Read from the files themselves, as `nginx -T` needs root and the certificates' keys.

mod parse;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use parse::Directive;

/// Where nginx's main configuration usually lies: built from source in two places, then the packages' place.
pub const USUAL_FILES: [&str; 3] =
    ["/opt/nginx/conf/nginx.conf", "/usr/local/nginx/conf/nginx.conf", "/etc/nginx/nginx.conf"];

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// A file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file isn't nginx's syntax.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The includes never end.
    #[error("{}: includes are nested too deeply or are too large", path.display())]
    TooMuch {
        /// The main file.
        path: PathBuf,
    },
}

/// A configuration with all its includes.
#[derive(Debug, Clone)]
pub struct Conf {
    /// The main file.
    pub path: PathBuf,
    /// What relative paths of logs and pid files start from.
    pub prefix: PathBuf,
    directives: Vec<Directive>,
}

/// A place where nginx takes connections for HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address; unspecified for a wildcard.
    pub addr: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
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
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// An access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// The file.
    pub path: PathBuf,
    /// The name of its `log_format`.
    pub format: String,
    /// For how long nginx holds lines back.
    pub held: Held,
    /// Written compressed.
    pub gzip: bool,
}

/// For how long lines of a log stay in the workers' memory
/// (<https://nginx.org/en/docs/http/ngx_http_log_module.html#access_log>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Not at all.
    No,
    /// At most for so long (`flush=`).
    Until(Duration),
    /// Until the buffer is full, or the log is reopened.
    Unbounded,
}

impl Held {
    /// As the parameters of an `access_log` say. A time that we don't understand may be any.
    fn of(args: &[String]) -> Self {
        let value = |key| args.iter().find_map(|arg| arg.strip_prefix(key));
        let flush = value("flush=").and_then(|text| crate::config::parse_duration(text).ok());
        match (is_gzip(args) || value("buffer=").is_some(), flush) {
            (false, _) => Self::No,
            (true, Some(flush)) if !flush.is_zero() => Self::Until(flush),
            (true, _) => Self::Unbounded,
        }
    }
}

fn is_gzip(args: &[String]) -> bool {
    args.iter().any(|arg| arg == "gzip" || arg.starts_with("gzip="))
}

/// A `log_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat {
    /// `default`, `json` or `none`, as `escape=` says.
    pub escape: String,
    /// The format itself.
    pub text: String,
}

impl Conf {
    /// Parses `path` and what it includes. Relative logs and pid files start from `prefix`; where that isn't known
    /// the folder above `conf/`, else the file's own folder is taken.
    ///
    /// # Errors
    /// When a file can't be read or isn't nginx's syntax, or the includes never end.
    pub fn load(path: &Path, prefix: Option<&Path>) -> Result<Self, ConfError> {
        let directives = parse::load(path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let usual = if folder.ends_with("conf") { folder.parent().unwrap_or(folder) } else { folder };
        Ok(Self { path: path.to_owned(), prefix: prefix.unwrap_or(usual).to_owned(), directives })
    }

    /// The first of the usual files that can be read and parsed; `None` where none exists.
    ///
    /// # Errors
    /// Of the first one that exists.
    pub fn load_usual() -> Result<Option<Self>, ConfError> {
        let found = USUAL_FILES.iter().map(Path::new).find(|path| path.exists());
        found.map(|path| Self::load(path, None)).transpose()
    }

    /// The pid file that the configuration names; without one nginx uses what it was built with.
    pub fn pid_file(&self) -> Option<PathBuf> {
        let pid = self.directives.iter().find(|d| d.name == "pid")?;
        Some(self.prefix.join(pid.args.first()?))
    }

    /// The first argument of a simple directive of the main context, such as `daemon` or `user`.
    pub fn global(&self, name: &str) -> Option<String> {
        self.directives.iter().find(|d| d.name == name)?.args.first().cloned()
    }

    /// Where the HTTP servers listen, each address once, in the order of the file
    /// (<https://nginx.org/en/docs/http/ngx_http_core_module.html#listen>).
    pub fn listens(&self) -> Vec<Listen> {
        let mut found: Vec<Listen> = Vec::new();
        for server in self.servers() {
            let mut listens = server.children("listen").filter_map(|d| parse_listen(&d.args)).peekable();
            let default = listens.peek().is_none() && server.children("listen").next().is_none();
            let default = default.then(|| parse_listen(&["80".to_owned()])).flatten();
            for listen in listens.chain(default) {
                if !found.iter().any(|l| l.addr == listen.addr) {
                    found.push(listen);
                }
            }
        }
        found
    }

    /// The access logs that HTTP writes to, each file once, in the order of the file; empty where none is named
    /// (nginx then writes to the one it was built with) and where all are off.
    pub fn access_logs(&self) -> Vec<AccessLog> {
        let mut found: Vec<AccessLog> = Vec::new();
        for directive in self.directives.iter().filter(|d| d.name == "http") {
            directive.walk(&mut |d| {
                let Some(path) = d.args.first().filter(|_| d.name == "access_log") else { return };
                if path == "off" || path.starts_with("syslog:") || path.contains('$') {
                    return;
                }
                let path = self.prefix.join(path);
                let format = d.args.get(1).filter(|a| !a.contains('=')).map_or("combined", String::as_str);
                if !found.iter().any(|l| l.path == path) {
                    let (held, gzip) = (Held::of(&d.args), is_gzip(&d.args));
                    found.push(AccessLog { path, format: format.to_owned(), held, gzip });
                }
            });
        }
        found
    }

    /// The formats that the configuration defines, by name; `combined` is nginx's own and not among them.
    pub fn log_formats(&self) -> BTreeMap<String, LogFormat> {
        let formats = self.http().filter(|d| d.name == "log_format");
        formats
            .filter_map(|d| {
                let (name, rest) = d.args.split_first()?;
                let escape = rest.first().and_then(|a| a.strip_prefix("escape="));
                let text = rest.get(usize::from(escape.is_some())..)?.concat();
                Some((name.clone(), LogFormat { escape: escape.unwrap_or("default").to_owned(), text }))
            })
            .collect()
    }

    fn http(&self) -> impl Iterator<Item = &Directive> {
        self.directives.iter().filter(|d| d.name == "http").flat_map(|d| d.block.iter().flatten())
    }

    fn servers(&self) -> impl Iterator<Item = &Directive> {
        self.http().filter(|d| d.name == "server")
    }
}

/// Reads the arguments of `listen`; `None` for a Unix socket and for what isn't an address.
fn parse_listen(args: &[String]) -> Option<Listen> {
    let (address, flags) = args.split_first()?;
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let with_default_port = |ip| SocketAddr::new(ip, 80);
    let addr = if let Ok(port) = address.parse::<u16>() {
        SocketAddr::new(any, port)
    } else if let Some(port) = address.strip_prefix("*:") {
        SocketAddr::new(any, port.parse().ok()?)
    } else if let Ok(addr) = address.parse::<SocketAddr>() {
        addr
    } else if let Ok(ip) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
        with_default_port(ip)
    } else if address == "*" {
        with_default_port(any)
    } else {
        let (host, port) = address.split_once(':').unwrap_or((address, "80"));
        (host == "localhost").then_some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.parse().ok()?))?
    };
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    Some(Listen { addr, tls: has("ssl") || has("quic"), proxy_protocol: has("proxy_protocol") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Conf {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nginx.conf");
        std::fs::write(&path, text).unwrap();
        Conf::load(&path, Some(Path::new("/p"))).unwrap()
    }

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
        assert_eq!(listens("server { }"), ["127.0.0.1:80"], "nginx's default");
        assert_eq!(listens("server { listen unix:/run/x.sock; }"), Vec::<String>::new());
    }

    #[test]
    fn logs_and_formats_are_found_wherever_they_stand() {
        let conf = conf(
            "pid run/n.pid; http { log_format probes escape=json '{\"a\":' '\"$status\"}';\n\
             access_log logs/a.log probes buffer=32k; server { access_log off; location / { access_log /b.log; } } }",
        );
        assert_eq!(conf.pid_file(), Some("/p/run/n.pid".into()));
        let logs: Vec<_> = conf.access_logs().into_iter().map(|l| (l.path, l.format)).collect();
        assert_eq!(
            logs,
            [("/p/logs/a.log".into(), "probes".to_owned()), ("/b.log".into(), "combined".to_owned())]
        );
        let format = &conf.log_formats()["probes"];
        assert_eq!((format.escape.as_str(), format.text.as_str()), ("json", "{\"a\":\"$status\"}"));
    }

    #[test]
    fn how_long_lines_are_held_back_is_read() {
        let held = |parameters: &str| {
            let text = format!("http {{ access_log /a.log combined {parameters}; }}");
            conf(&text).access_logs().pop().unwrap().held
        };
        let until = |ms| Held::Until(Duration::from_millis(ms));
        for (parameters, expected) in [
            ("", Held::No),
            ("flush=5s", Held::No),
            ("buffer=32k", Held::Unbounded),
            ("buffer=32k flush=1m", until(60_000)),
            ("gzip flush=500ms if=$x", until(500)),
            ("buffer=32k flush=1m30s", Held::Unbounded),
        ] {
            assert_eq!(held(parameters), expected, "{parameters}");
        }
    }
}
