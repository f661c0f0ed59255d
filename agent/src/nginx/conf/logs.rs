//! Where nginx logs requests, and in which formats
//! (<https://nginx.org/en/docs/http/ngx_http_log_module.html>).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::parse::Directive;
use super::{Conf, Place};

/// An access log: a file that at least one `access_log` writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// The file.
    pub path: PathBuf,
    /// The names of all formats that are written to it, in the order of the configuration.
    pub formats: Vec<String>,
    /// For how long nginx holds lines back, at most.
    pub held: Held,
    /// Written compressed.
    pub gzip: bool,
    /// The first `access_log` that names it.
    pub place: Place,
}

/// An `access_log` by which requests are in no file, or not all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlogged {
    /// What it names: `off`, `syslog:…`, a path with variables, a device; with `if=` the condition.
    pub target: String,
    /// Why.
    pub why: Why,
    /// Where it stands.
    pub place: Place,
}

/// Why an `access_log` leaves no file to read, or not all requests in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// `off`.
    Off,
    /// `syslog:server=…`.
    Syslog,
    /// The path holds variables: a file a value.
    Variables,
    /// `/dev/stdout`, `/dev/null`: no file.
    Device,
    /// `if=`: only requests for which its value is neither 0 nor empty.
    Condition,
}

impl std::fmt::Display for Unlogged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (target, place) = (&self.target, &self.place);
        match self.why {
            Why::Off => write!(f, "{place}: access_log is off"),
            Why::Syslog => write!(f, "{place}: access_log goes to {target}"),
            Why::Variables => {
                write!(f, "{place}: access_log {target} is a file for each value of its variables")
            }
            Why::Device => write!(f, "{place}: access_log {target} is no file"),
            Why::Condition => write!(f, "{place}: access_log leaves out requests ({target})"),
        }
    }
}

/// For how long lines of a log stay in the workers' memory
/// (<https://nginx.org/en/docs/http/ngx_http_log_module.html#access_log>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Where it stands.
    pub place: Place,
}

impl Conf {
    /// The files that HTTP writes access logs to, each once, in the order of the file.
    pub fn access_logs(&self) -> Vec<AccessLog> {
        let mut found: Vec<AccessLog> = Vec::new();
        for (directive, target) in self.access_log_directives() {
            if no_file(target).is_some() {
                continue;
            }
            let path = self.prefix.join(target);
            let args = &directive.args;
            let format =
                args.get(1).filter(|a| !is_parameter(a)).map_or("combined", String::as_str).to_owned();
            let (held, gzip) = (Held::of(args), is_gzip(args));
            if let Some(log) = found.iter_mut().find(|log| log.path == path) {
                log.held = log.held.max(held);
                if !log.formats.contains(&format) {
                    log.formats.push(format);
                }
            } else {
                let place = directive.place.clone();
                found.push(AccessLog { path, formats: vec![format], held, gzip, place });
            }
        }
        found
    }

    /// The access logs by which requests are in no file, or not all of them, in the order of the file.
    pub fn unlogged(&self) -> Vec<Unlogged> {
        let each = |(directive, target): (&Directive, &str)| {
            let condition = || directive.args.iter().find(|arg| arg.starts_with("if="));
            let (why, target) = match no_file(target) {
                Some(why) => (why, target),
                None => (Why::Condition, condition()?.as_str()),
            };
            Some(Unlogged { target: target.to_owned(), why, place: directive.place.clone() })
        };
        self.access_log_directives().filter_map(each).collect()
    }

    /// Whether some part of HTTP logs to the file that nginx was built with: no `access_log` stands in `http` itself.
    pub fn logs_to_built_in(&self) -> bool {
        self.http().next().is_some() && !self.http().any(|d| d.name == "access_log")
    }

    fn access_log_directives(&self) -> impl Iterator<Item = (&Directive, &str)> {
        let mut found = Vec::new();
        for directive in self.directives.iter().filter(|d| d.name == "http") {
            directive.walk(&mut |d| found.extend(Some(d).filter(|d| d.name == "access_log")));
        }
        found.into_iter().filter_map(|d| Some((d, d.args.first()?.as_str())))
    }

    /// The formats that the configuration defines, by name; `combined` is nginx's own and not among them.
    pub fn log_formats(&self) -> BTreeMap<String, LogFormat> {
        let formats = self.http().filter(|d| d.name == "log_format");
        formats
            .filter_map(|d| {
                let (name, rest) = d.args.split_first()?;
                let escape = rest.first().and_then(|a| a.strip_prefix("escape="));
                let text = rest.get(usize::from(escape.is_some())..)?.concat();
                let (escape, place) = (escape.unwrap_or("default").to_owned(), d.place.clone());
                Some((name.clone(), LogFormat { escape, text, place }))
            })
            .collect()
    }
}

fn is_parameter(arg: &str) -> bool {
    ["buffer=", "gzip", "flush=", "if="].iter().any(|name| arg.starts_with(name))
}

/// Why an `access_log` with this target leaves no file to read, where it doesn't.
fn no_file(target: &str) -> Option<Why> {
    match target {
        "off" => Some(Why::Off),
        target if target.starts_with("syslog:") => Some(Why::Syslog),
        target if target.contains('$') => Some(Why::Variables),
        target if target.starts_with("/dev/") || target.starts_with("/proc/") => Some(Why::Device),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::conf;
    use super::*;

    #[test]
    fn logs_and_formats_are_found_wherever_they_stand() {
        let conf = conf(
            "pid run/n.pid; http { log_format probes escape=json '{\"a\":' '\"$status\"}';\n\
             access_log logs/a.log probes buffer=32k; server { access_log off; location / { access_log /b.log; } } }",
        );
        assert_eq!(conf.pid_file(), Some("/p/run/n.pid".into()));
        let logs: Vec<_> = conf.access_logs().into_iter().map(|l| (l.path, l.formats)).collect();
        assert_eq!(
            logs,
            [
                ("/p/logs/a.log".into(), vec!["probes".to_owned()]),
                ("/b.log".into(), vec!["combined".to_owned()])
            ]
        );
        let format = &conf.log_formats()["probes"];
        assert_eq!((format.escape.as_str(), format.text.as_str()), ("json", "{\"a\":\"$status\"}"));
        assert!(!conf.logs_to_built_in());
    }

    #[test]
    fn one_file_has_every_format_that_is_written_to_it() {
        let conf = conf(
            "http { access_log a main if=$x; server { access_log a main; access_log a short buffer=1k; } \n\
             server { access_log a; } }",
        );
        let log = conf.access_logs().pop().unwrap();
        assert_eq!(log.formats, ["main", "short", "combined"]);
        assert_eq!((log.held, log.place.line), (Held::Unbounded, 1));
    }

    #[test]
    fn what_leaves_no_file_is_named_with_its_line() {
        let conf = conf(
            "http {\naccess_log syslog:server=unix:/dev/log main;\nserver { access_log off;\n\
             access_log /var/log/$host.log;\naccess_log /dev/stdout; } }",
        );
        let some = super::super::tests::conf("http { access_log /a.log main if=$loggable; }");
        assert!(some.unlogged()[0].to_string().ends_with("leaves out requests (if=$loggable)"));
        let all: Vec<_> = conf.unlogged().iter().map(|n| (n.why, n.place.line)).collect();
        assert_eq!(all, [(Why::Syslog, 2), (Why::Off, 3), (Why::Variables, 4), (Why::Device, 5)]);
        assert_eq!(conf.access_logs(), []);
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
