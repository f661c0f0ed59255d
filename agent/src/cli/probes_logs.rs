//! What `agent probes` says of the logs it judged: which, in which format, of which time, and what of them was left out.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::access_log::locate::Located;
use crate::access_log::others::Others;
use crate::access_log::unread::Unread;
use crate::cadence::verdict::{Reason, Verdict};
use crate::probes::follow::Follow;
use crate::sys::clock::rfc3339;

/// As many logs, notes and addresses are named one by one.
const NAMED: usize = 6;

/// What the verdict's JSON says of the logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Sources {
    /// Every log that was read, or waited for.
    logs: Vec<PathBuf>,
    /// The format of each log's lines; null where no line could be read.
    formats: Vec<Option<String>>,
    /// The time of the first line, RFC 3339.
    from: Option<String>,
    /// The time of the last line.
    to: Option<String>,
    /// Lines with the load balancer's name from outside of its networks, by address.
    outsiders: Vec<Outsider>,
    /// The networks to add with `--nodes`, if those are its nodes.
    add_nodes: Vec<String>,
    /// Lines of a Classic Load Balancer's probes.
    classic: u64,
    /// The first line that couldn't be read, and where reading stopped.
    unread: Option<Unread>,
    /// What of nginx's configuration keeps requests out of these logs.
    notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Outsider {
    address: String,
    lines: u64,
}

impl Sources {
    pub(super) fn of(follow: &Follow, located: &Located) -> Self {
        let traffic = follow.traffic();
        let time = |ms: i64| rfc3339(Timestamp::from_millisecond(ms).unwrap_or_default());
        let outsiders = follow.logs.outsiders().addresses();
        Self {
            logs: follow.logs.each().map(|(log, ..)| log.path.clone()).collect(),
            formats: follow.logs.each().map(|(_, format, _)| format.map(|f| f.name.clone())).collect(),
            from: traffic.first_ms.map(time),
            to: traffic.last_ms.map(time),
            add_nodes: outsiders.iter().map(|(address, _)| address.to_string()).collect(),
            outsiders: outsiders
                .into_iter()
                .map(|(address, lines)| Outsider { address: address.to_string(), lines })
                .collect(),
            classic: traffic.classic,
            unread: unread(follow).map(|(_, unread)| unread),
            notes: located.notes.clone(),
        }
    }
}

/// The first line that couldn't be read, where that matters: it has the load balancer's name, or none could be.
fn unread(follow: &Follow) -> Option<(PathBuf, Unread)> {
    let traffic = follow.traffic();
    let matters = traffic.unparsed > 0 || (traffic.lines > 0 && traffic.first_ms.is_none());
    follow.logs.unread().filter(|_| matters).map(|(path, unread)| (path.to_owned(), unread.clone()))
}

/// Which logs were judged, in which format, and of which time.
pub(super) fn judged(follow: &Follow) -> Vec<String> {
    let mut logs: Vec<_> = follow.logs.each().collect();
    logs.sort_by_key(|(.., traffic)| {
        (std::cmp::Reverse(traffic.probes > 0), std::cmp::Reverse(traffic.lines > 0))
    });
    let mut lines = Vec::new();
    for (log, format, traffic) in logs.iter().take(NAMED) {
        let path = log.path.display();
        let state = match (format, traffic.lines) {
            (Some(format), count) => format!("format {}, {}", format.name, counted(count, "line")),
            (None, 0) if log.path.exists() => "no lines".to_owned(),
            (None, 0) => "not there".to_owned(),
            (None, count) => format!("{}, none of a known format", counted(count, "line")),
        };
        let period = match (traffic.first_ms, traffic.last_ms) {
            (Some(first), Some(last)) => format!(", {}", period(first, last)),
            _ => String::new(),
        };
        lines.push(format!("log {path}: {state}{period}"));
    }
    if logs.len() > NAMED {
        lines.push(format!("and {} more logs", logs.len() - NAMED));
    }
    lines
}

/// What of the lines was left out, and why probes may not be in these logs.
pub(super) fn left_out(follow: &Follow, located: &Located, verdict: &Verdict) -> Vec<String> {
    let traffic = follow.traffic();
    let outsiders = follow.logs.outsiders();
    let mut lines = Vec::new();
    let forwarded = traffic.spoofed.saturating_sub(outsiders.total());
    if forwarded > 0 {
        lines.push(format!(
            "{} with the load balancer's User-Agent came through it: not its own, left out",
            counted(forwarded, "request")
        ));
    }
    if outsiders.total() > 0 {
        let all = outsiders.addresses();
        let named: Vec<String> =
            all.iter().take(NAMED).map(|(address, times)| format!("{address} ({times})")).collect();
        let more = if all.len() > NAMED { ", …" } else { "" };
        let mut nodes: Vec<String> = verdict.nodes.iter().map(|node| node.node.to_string()).collect();
        nodes.extend(all.iter().take(NAMED).map(|(address, _)| address.to_string()));
        lines.push(format!(
            "{} with the load balancer's User-Agent left out, from addresses outside of its networks: {}{more}\n  \
             if those are its nodes: --nodes {}",
            counted(outsiders.total(), "line"),
            named.join(", "),
            nodes.join(",")
        ));
    }
    if follow.other_paths() > 0 {
        lines.push(format!("{} of other paths left out (--path)", counted(follow.other_paths(), "probe")));
    }
    if traffic.unparsed > 0 {
        lines.push(format!(
            "{} with the load balancer's name can't be read",
            counted(traffic.unparsed, "line")
        ));
    }
    lines.extend(unread(follow).map(|(path, unread)| format!("{}: {}", path.display(), unread.explain())));
    if traffic.classic > 0 {
        lines.push(format!(
            "{} of a Classic Load Balancer (ELB-HealthChecker/1.0): not judged",
            counted(traffic.classic, "probe")
        ));
    }
    lines.extend(follow.logs.troubles().map(|trouble| format!("not read: {trouble}")));
    if follow.gaps > 0 {
        lines.push(format!("{} times lines may have been lost; nothing there counts as missed", follow.gaps));
    }
    if follow.logs.overlong() > 0 {
        lines.push(format!("{} too long, skipped", counted(follow.logs.overlong(), "line")));
    }
    if traffic.probes == 0 {
        lines.extend(others(&Others::find(located)));
    }
    if traffic.probes == 0 || verdict.reason == Reason::WrongFormat {
        lines.extend(located.notes.iter().take(NAMED).cloned());
    }
    lines
}

fn others(found: &Others) -> Vec<String> {
    let mut lines = Vec::new();
    if found.route_53 > 0 {
        let count = counted(found.route_53, "request");
        lines.push(format!("{count} of Route 53's health checks among the last lines: no load balancer's"));
    }
    if found.empty > 1 {
        let from: Vec<String> = found.empty_from.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "{} without a request among the last lines, from {}: TCP health checks, as a Network Load Balancer's; \
             they have no User-Agent to know them by",
            counted(found.empty, "connection"),
            from.join(", ")
        ));
    }
    lines
}

/// The verdict in words; "every node" is only said where every line of the load balancer could be read.
pub(super) fn explanation(verdict: &Verdict, follow: &Follow) -> String {
    let traffic = follow.traffic();
    match verdict.reason {
        Reason::OnTime if traffic.unparsed > 0 => {
            "the nodes whose lines can be read keep the rhythm".to_owned()
        }
        _ if traffic.probes == 0 && traffic.classic > 0 => {
            "the probes in the log are a Classic Load Balancer's, not an Application Load Balancer's".to_owned()
        }
        _ if traffic.probes == 0 && follow.logs.outsiders().total() > 0 => {
            "the probes in the log come from outside of the load balancer's networks: name them with --nodes, if \
             they are its nodes"
                .to_owned()
        }
        _ => verdict.explanation.clone(),
    }
}

fn period(first_ms: i64, last_ms: i64) -> String {
    let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(TimeZone::UTC);
    let (first, last) = (at(first_ms.min(last_ms)), at(last_ms.max(first_ms)));
    let to = if first.date() == last.date() { "%H:%M:%S" } else { "%F %H:%M:%S" };
    format!("{} to {} UTC", first.strftime("%F %H:%M:%S"), last.strftime(to))
}

/// `1 line`, `20 lines`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
