//! `agent probes --elb-log`: the load balancer's own log of its health checks beside this target's.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::output::Output;
use crate::access_log::balancer::{Arrived, Checks, Joined, Row, join};
use crate::access_log::scan::Found;

/// As many rows are shown: all where there are no more, else those that something is wrong with.
const SHOWN: usize = 40;
/// As many probes of the target's log are held.
const MOST: usize = 5_000_000;

/// Both sides.
#[derive(Debug)]
pub(super) struct Balancer {
    checks: Checks,
    arrived: Vec<Arrived>,
}

/// A probe on both sides, or on one.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CheckEvent {
    event: &'static str,
    /// When the load balancer sent it, RFC 3339.
    sent: Option<String>,
    /// The node as the load balancer names it.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    balancer_node: Option<IpAddr>,
    /// The node as this target saw it.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    node: Option<IpAddr>,
    /// When the target logged it, RFC 3339.
    logged: Option<String>,
    /// How the target answered.
    status: Option<u16>,
    /// What the load balancer called it: PASS or FAIL.
    called: Option<&'static str>,
    /// The status code that the load balancer got; `-` without one.
    status_code: Option<String>,
    /// Why it failed, in AWS's word.
    reason_code: Option<String>,
    /// How long it took until the load balancer knew, milliseconds.
    latency_ms: Option<i64>,
    /// Which side lacks it, and what that means.
    lost: Option<&'static str>,
}

/// Both sides in numbers.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ChecksEvent {
    event: &'static str,
    /// The target whose checks these are.
    targets: Vec<String>,
    /// The begin of the time that both logs cover, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// Checks that the load balancer logged.
    sent: usize,
    /// Those of them that this target's log has.
    arrived: usize,
    /// Those that the load balancer called PASS.
    passed: usize,
    /// Those that it called FAIL.
    failed: usize,
    /// Probes of this target's log that the load balancer's lacks.
    only_here: usize,
    /// Checks of other targets.
    of_others: u64,
    /// The load balancer's files that have checks.
    files: usize,
    /// Lines of its log that are none.
    unread: u64,
}

impl Balancer {
    pub(super) fn new(checks: Checks) -> Self {
        Self { checks, arrived: Vec::new() }
    }

    /// A probe of the target's own log.
    pub(super) fn probe(&mut self, found: &Found<'_>) {
        if self.arrived.len() < MOST {
            self.arrived.push(Arrived {
                node: found.node,
                at_ms: found.stamp.at_ms,
                resolution_ms: i64::from(found.stamp.resolution_ms),
                took_ms: found.line.took_ms,
                status: found.line.status,
            });
        }
    }

    /// Tells both sides together.
    pub(super) fn tell(mut self, out: &mut Output) {
        self.arrived.sort_by_key(|a| a.at_ms);
        let joined = join(&self.checks.checks, &self.arrived, &own_addresses());
        let count = |yes: &dyn Fn(&Row) -> bool| joined.rows.iter().filter(|row| yes(row)).count();
        let checked = |passed: bool| count(&|row| row.check.as_ref().is_some_and(|c| c.passed == passed));
        let event = ChecksEvent {
            event: "checks",
            targets: joined.targets.iter().cloned().collect(),
            from: rfc3339(joined.from_ms),
            to: rfc3339(joined.to_ms),
            sent: count(&|row| row.check.is_some()),
            arrived: count(&|row| row.check.is_some() && row.arrived.is_some()),
            passed: checked(true),
            failed: checked(false),
            only_here: count(&|row| row.check.is_none()),
            of_others: joined.of_others,
            files: self.checks.files,
            unread: self.checks.unread,
        };
        if out.is_json() {
            joined.rows.iter().for_each(|row| out.event(&of(row)));
            return out.event(&event);
        }
        text(out, &joined, &event);
    }
}

fn text(out: &mut Output, joined: &Joined, event: &ChecksEvent) {
    let targets = event.targets.join(", ");
    out.text(&format!(
        "the load balancer's log: {} checks of {targets}, {} to {}: {} arrived here, {} passed, {} failed",
        event.sent, event.from, event.to, event.arrived, event.passed, event.failed
    ));
    let wrong = |row: &Row| row.lost().is_some() || row.check.as_ref().is_some_and(|check| !check.passed);
    let all = joined.rows.len() <= SHOWN;
    let shown: Vec<&Row> = joined.rows.iter().filter(|row| all || wrong(row)).collect();
    if !shown.is_empty() {
        out.text(&format!(
            "{:<14} {:<21} {:<14} {:<8} {}",
            "sent", "node", "logged here", "answered", "the load balancer's word"
        ));
    }
    for row in shown.iter().take(SHOWN) {
        out.text(&line(row));
    }
    if shown.len() > SHOWN {
        out.text(&format!("and {} more like these", shown.len() - SHOWN));
    }
    if !all && shown.is_empty() {
        out.text("each arrived, was answered and passed");
    }
    if event.unread > 0 {
        out.text(&format!("{} lines of the load balancer's log can't be read", event.unread));
    }
}

fn line(row: &Row) -> String {
    let dash = || "-".to_owned();
    let check = row.check.as_ref();
    let sent = check.map_or_else(dash, |check| clock(check.sent_ms));
    let node = row.arrived.map(|a| a.node).or_else(|| check?.balancer_node);
    let node = node.map_or_else(dash, |node| node.to_string());
    let logged = row.arrived.map_or_else(dash, |a| clock(a.at_ms));
    let answered = row.arrived.and_then(|a| a.status).map_or_else(dash, |status| status.to_string());
    let word = check.map_or_else(dash, |check| {
        let word = if check.passed { "PASS" } else { "FAIL" };
        let latency = check.latency_ms.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
        let reason = if check.reason_code == "-" { String::new() } else { format!(" {}", check.reason_code) };
        format!("{word} {}{reason}{latency}", check.status_code)
    });
    let lost = row.lost().map(|lost| format!("  ← {lost}")).unwrap_or_default();
    format!("{sent:<14} {node:<21} {logged:<14} {answered:<8} {word}{lost}")
}

fn of(row: &Row) -> CheckEvent {
    let check = row.check.as_ref();
    CheckEvent {
        event: "check",
        sent: check.map(|check| rfc3339(check.sent_ms)),
        balancer_node: check.and_then(|check| check.balancer_node),
        node: row.arrived.map(|a| a.node),
        logged: row.arrived.map(|a| rfc3339(a.at_ms)),
        status: row.arrived.and_then(|a| a.status),
        called: check.map(|check| if check.passed { "PASS" } else { "FAIL" }),
        status_code: check.map(|check| check.status_code.clone()),
        reason_code: check.map(|check| check.reason_code.clone()),
        latency_ms: check.and_then(|check| check.latency_ms),
        lost: row.lost(),
    }
}

fn rfc3339(ms: i64) -> String {
    crate::sys::clock::rfc3339(Timestamp::from_millisecond(ms).unwrap_or_default())
}

fn clock(ms: i64) -> String {
    let at = Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(TimeZone::UTC);
    format!("{}.{:03}", at.strftime("%H:%M:%S"), ms.rem_euclid(1000))
}

/// This machine's addresses.
fn own_addresses() -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
    })
    .filter(|ip| !ip.is_loopback())
    .collect()
}
