//! A `log_format`, compiled once. nginx escapes every value (`escape=default` and `json`), so a bare quotation mark
//! in a line can only come from the format itself: quotation marks cut line and format into the same segments, and
//! no value can break out of its own. Within a segment, values of a known grammar are read from both ends; what is
//! left in the middle is tried at each text that parts two values, for a bounded number of steps.
//!
//! What isn't nginx's own (a container runtime's or syslog's prefix, a JSON string around the line) is stripped where
//! the line is read no other way.

mod affix;
mod parse;
mod stamp;

pub use affix::unwrap_json;
pub use parse::Line;
pub use stamp::Stamp;

/// nginx's own format, used where none is named
/// (<https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format>).
pub const COMBINED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;

/// The format `main` of the packages' nginx.conf.
pub const MAIN: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for""#;

/// The format that we recommend, `packaging/nginx/log_format.conf`.
pub const RECOMMENDED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $msec $realip_remote_addr "$http_x_forwarded_for" "$http_host" $request_time"#;

/// The same before it had `$request_time`.
pub const RECOMMENDED_BEFORE: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $msec $realip_remote_addr "$http_x_forwarded_for" "$http_host""#;

/// Where the package installs the recommended format.
pub const RECOMMENDED_FILE: &str = "/usr/share/asg-agent/nginx/log_format.conf";

/// How nginx escapes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// `\xXX` for quotation marks, backslashes and all that isn't printable ASCII.
    Default,
    /// As in JSON strings; bytes above 127 stay as they are.
    Json,
    /// Not at all: any value can look like anything.
    None,
}

/// What a variable means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Var {
    /// `$remote_addr`.
    Addr,
    /// `$realip_remote_addr`: who really connected.
    PeerAddr,
    /// `$proxy_protocol_addr`: who connected to the proxy in front.
    ProxyAddr,
    /// `$proxy_add_x_forwarded_for`: the header, a comma, and who connected; without the header only the latter.
    AddedFor,
    /// `$time_local`.
    TimeLocal,
    /// `$time_iso8601`.
    TimeIso,
    /// `$msec`.
    Msec,
    /// `$request_time`: seconds with three decimals.
    RequestTime,
    /// `$status`.
    Status,
    /// `$request`.
    Request,
    /// `$request_method`.
    Method,
    /// `$uri` or `$request_uri`.
    Path,
    /// `$is_args`, `$args`, `$query_string`: behind a path a part of it.
    Query,
    /// `$http_user_agent`.
    Agent,
    /// `$http_x_forwarded_for`.
    Forwarded,
    /// `$http_host` or `$host`.
    Host,
    /// Something without a slash, of no interest.
    Name,
    /// A number, of no interest.
    Number,
    /// Anything, of no interest.
    Other,
}

impl Var {
    /// What is expected where such a value stands, in words.
    fn in_words(self) -> &'static str {
        match self {
            Self::Addr | Self::PeerAddr | Self::ProxyAddr => "an address",
            Self::TimeLocal => "a time like 14/Nov/2026:22:13:20 +0000 ($time_local)",
            Self::TimeIso => "a time like 2026-11-14T22:13:20+00:00 ($time_iso8601)",
            Self::Msec => "seconds with three decimals ($msec)",
            Self::Status => "a status of three digits ($status)",
            Self::RequestTime | Self::Number => "a number",
            Self::Method => "a method",
            _ => "a value",
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "remote_addr" => Self::Addr,
            "realip_remote_addr" => Self::PeerAddr,
            "proxy_protocol_addr" => Self::ProxyAddr,
            "proxy_add_x_forwarded_for" => Self::AddedFor,
            "time_local" => Self::TimeLocal,
            "time_iso8601" => Self::TimeIso,
            "msec" => Self::Msec,
            "request_time" => Self::RequestTime,
            "status" => Self::Status,
            "request" => Self::Request,
            "request_method" => Self::Method,
            "uri" | "request_uri" | "document_uri" => Self::Path,
            "is_args" | "args" | "query_string" => Self::Query,
            "http_user_agent" => Self::Agent,
            "http_x_forwarded_for" => Self::Forwarded,
            "http_host" | "host" => Self::Host,
            "scheme" | "server_name" | "hostname" | "server_addr" | "pipe" => Self::Name,
            "body_bytes_sent"
            | "bytes_sent"
            | "request_length"
            | "connection"
            | "connection_requests"
            | "remote_port"
            | "server_port"
            | "pid"
            | "connection_time" => Self::Number,
            _ => Self::Other,
        }
    }

    /// Whether its values have a grammar that tells where they end.
    fn is_strict(self) -> bool {
        matches!(
            self,
            Self::Addr
                | Self::PeerAddr
                | Self::ProxyAddr
                | Self::TimeLocal
                | Self::TimeIso
                | Self::Msec
                | Self::RequestTime
                | Self::Status
                | Self::Method
                | Self::Number
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Var(Var),
}

/// Why a format can't be used to find probes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not nginx's syntax.
    #[error("log format: {0}")]
    Syntax(String),
    /// It leaves out what a probe is recognised by.
    #[error(
        "the log format has no {0}: without it no probe can be told; {RECOMMENDED_FILE} has one that tells most"
    )]
    Missing(&'static str),
    /// A needed value ends where nobody can tell.
    #[error("the log format has another variable right beside {0}: nothing tells where its value ends")]
    Glued(&'static str),
}

/// A compiled format.
#[derive(Debug, Clone)]
pub struct Format {
    /// What it is called: the name of the `log_format`, or what was asked for.
    pub name: String,
    escape: Escape,
    segments: Vec<Vec<Piece>>,
    ambiguous: bool,
    forwarded: bool,
}

/// Formats by which the same lines are read in the same way, whatever they are called.
impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.escape == other.escape && self.segments == other.segments
    }
}

impl Format {
    /// Compiles a format in nginx's syntax: the text of a `log_format` (its strings already joined), a whole
    /// `log_format NAME [escape=…] '…' '…';`, or one of the names `combined` and `main`.
    ///
    /// # Errors
    /// When it isn't nginx's syntax, or leaves out the address, the time or the User-Agent.
    pub fn compile(format: &str) -> Result<Self, FormatError> {
        match format.trim() {
            "combined" => Self::new("default", COMBINED).map(|format| format.called("combined")),
            "main" => Self::new("default", MAIN).map(|format| format.called("main")),
            text => {
                let (escape, text) = unwrap_directive(text)?;
                Self::new(&escape, &text)
            }
        }
    }

    /// Compiles the text of a format with its `escape=`: `default`, `json` or `none`.
    ///
    /// # Errors
    /// As [`Format::compile`].
    pub fn new(escape: &str, text: &str) -> Result<Self, FormatError> {
        let escape = match escape {
            "default" => Escape::Default,
            "json" => Escape::Json,
            "none" => Escape::None,
            other => {
                return Err(FormatError::Syntax(format!("escape={other} is none of default, json, none")));
            }
        };
        let segments = segments(text)?;
        let has = |wanted: &[Var]| {
            segments.iter().flatten().any(|piece| matches!(piece, Piece::Var(v) if wanted.contains(v)))
        };
        if !has(&[Var::Agent]) {
            return Err(FormatError::Missing("$http_user_agent"));
        }
        if !has(&[Var::Addr, Var::PeerAddr, Var::ProxyAddr, Var::AddedFor]) {
            return Err(FormatError::Missing("$remote_addr"));
        }
        if !has(&[Var::TimeLocal, Var::TimeIso, Var::Msec]) {
            return Err(FormatError::Missing("$time_local, $time_iso8601 or $msec"));
        }
        let free_var = |p: &Piece| matches!(p, Piece::Var(v) if !v.is_strict());
        let beside = |pair: &[Piece]| {
            pair.contains(&Piece::Var(Var::Agent)) && pair.iter().all(free_var) && pair.len() == 2
        };
        if segments.iter().any(|pieces| pieces.windows(2).any(beside)) {
            return Err(FormatError::Glued("$http_user_agent"));
        }
        let forwarded = has(&[Var::Forwarded, Var::AddedFor]);
        let free = |pieces: &Vec<Piece>| pieces.iter().filter(|p| free_var(p)).count();
        let ambiguous = escape == Escape::None || segments.iter().any(|pieces| free(pieces) > 1);
        Ok(Self { name: "a format of its own".to_owned(), escape, segments, ambiguous, forwarded })
    }

    /// The same by another name.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Whether a forged User-Agent would show: the line says whether the request was forwarded, and no value can
    /// pose as another.
    pub fn verifiable(&self) -> bool {
        self.forwarded && !self.ambiguous
    }

    /// Reads a line, without its line break; `None` when it isn't of this format.
    pub fn parse<'a>(&self, line: &'a [u8]) -> Option<Line<'a>> {
        parse::line(self, line, false, &mut { parse::STEPS })
    }

    /// Up to which byte a line that isn't of this format is read, and what the format has there, in words.
    pub fn stops_at(&self, line: &[u8]) -> (usize, String) {
        parse::stops_at(self, line)
    }

    /// Reads a line of this format with something in front of it or behind it that isn't nginx's.
    pub fn parse_within<'a>(&self, line: &'a [u8]) -> Option<Line<'a>> {
        affix::line(self, line)
    }
}

/// Takes `log_format NAME`, `escape=…`, quotes and the semicolon off, where they are.
fn unwrap_directive(text: &str) -> Result<(String, String), FormatError> {
    let directive = text.strip_prefix("log_format").filter(|rest| rest.starts_with(char::is_whitespace));
    let rest = directive.map_or(text, |rest| {
        let rest = rest.trim_start();
        rest.split_once(char::is_whitespace).map_or("", |(_name, format)| format).trim()
    });
    let (escape, rest) = match rest.strip_prefix("escape=") {
        Some(rest) => rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| FormatError::Syntax("nothing follows escape=".into()))?,
        None => ("default", rest),
    };
    let rest = rest.trim().trim_end_matches(';').trim_end();
    let quoted = directive.is_some() || (rest.len() > 1 && rest.starts_with('\'') && rest.ends_with('\''));
    let format = if quoted { join_strings(rest)? } else { rest.to_owned() };
    Ok((escape.to_owned(), format))
}

/// Joins nginx's quoted strings.
fn join_strings(text: &str) -> Result<String, FormatError> {
    let mut joined = String::new();
    let mut rest = text.chars();
    while let Some(quote) = rest.by_ref().find(|c| !c.is_whitespace()) {
        if quote != '\'' && quote != '"' {
            joined.push(quote);
            joined.extend(rest.by_ref().take_while(|c| !c.is_whitespace()));
            continue;
        }
        loop {
            match rest.next() {
                None => return Err(FormatError::Syntax(format!("the quote {quote} is never closed"))),
                Some(c) if c == quote => break,
                Some('\\') => match rest.next() {
                    Some(c @ ('"' | '\'' | '\\')) => joined.push(c),
                    Some('t') => joined.push('\t'),
                    Some('r') => joined.push('\r'),
                    Some('n') => joined.push('\n'),
                    Some(c) => joined.extend(['\\', c]),
                    None => joined.push('\\'),
                },
                Some(c) => joined.push(c),
            }
        }
    }
    Ok(joined)
}

/// Cuts a format at its quotation marks, and each part into texts and variables.
fn segments(text: &str) -> Result<Vec<Vec<Piece>>, FormatError> {
    if text.contains('\n') {
        return Err(FormatError::Syntax("a format of several lines cannot be followed".into()));
    }
    text.split('"').map(pieces).collect()
}

fn pieces(text: &str) -> Result<Vec<Piece>, FormatError> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        if !before.is_empty() {
            found.push(Piece::Text(before.as_bytes().to_vec()));
        }
        let after = &after[1..];
        let wrong = || FormatError::Syntax(format!("no variable's name behind the $ in \"{text}\""));
        let (name, behind) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or_else(wrong)?,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        if name.is_empty() {
            return Err(wrong());
        }
        found.push(Piece::Var(Var::named(name)));
        rest = behind;
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest.as_bytes().to_vec()));
    }
    Ok(found)
}
