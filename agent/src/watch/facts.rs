//! What the daemon says at one moment, as far as the picture shows it.

use jiff::{Timestamp, Unit};
use serde_json::Value;

use super::picture::{Tone, clean};
use crate::fault::Mode;
use crate::health;
use crate::serve::history::NodeCount;
use crate::serve::status::{self, Check, Status};

/// A fault in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// `stop`, `hang`, …
    pub mode: String,
    /// The same, for the model of what follows.
    pub kind: Option<Mode>,
    /// How long it has lasted.
    pub elapsed_ms: u64,
    /// Who started it.
    pub by: String,
    /// How long it still lasts.
    pub remaining_ms: u64,
    /// Whether its deadline has passed.
    pub overdue: bool,
}

/// A stress, as far as a forecast needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// How many threads burn.
    pub workers: u32,
    /// The share of one CPU that each takes, in percent.
    pub load_pct: Option<f64>,
    /// The share of the host that is aimed at, in percent.
    pub target_pct: Option<f64>,
    /// How long it has lasted.
    pub elapsed_ms: u64,
    /// How long it still lasts; `None`: until it is interrupted.
    pub remaining_ms: Option<u64>,
}

/// A node of the load balancer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Its counts.
    pub count: NodeCount,
    /// Probes that did not come, in the window that the daemon judges.
    pub missed: u64,
    /// The median of its intervals.
    pub p50_ms: Option<i64>,
    /// Whether it keeps its rhythm.
    pub on_time: Option<bool>,
    /// The status that it got last or most.
    pub code: Option<u16>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// `i-…`
    pub instance: String,
    /// The Availability Zone.
    pub zone: String,
    /// The instance type.
    pub kind: String,
    /// The Auto Scaling group's target state.
    pub lifecycle: String,
    /// How long the daemon has been up.
    pub up_ms: u64,
    /// Whether `/health` says 200.
    pub healthy: bool,
    /// Why, in words.
    pub cause: String,
    /// For how long, where that is known.
    pub since_ms: Option<u64>,
    /// Whether nginx answers; `None` where it isn't asked.
    pub nginx_up: Option<bool>,
    /// What it answers, in words.
    pub nginx: String,
    /// Whether the probes keep their rhythm, in words.
    pub probes: String,
    /// The expected interval.
    pub expected_ms: Option<i64>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// A fault on record.
    pub fault: Option<Fault>,
    /// The stresses that run, each in words.
    pub stress: Vec<String>,
    /// The same, for the forecast.
    pub loads: Vec<Load>,
    /// Whether the load balancer asks the agent's own port.
    pub asked_directly: bool,
    /// What this type of instance earns CPU credits for, in percent.
    pub baseline_pct: Option<f64>,
    /// Lines in the access log, and how many of them are probes.
    pub lines: Option<(u64, u64)>,
    /// Checks that aren't well and have no row of their own: name, what was found, how bad it is.
    pub unwell: Vec<(String, String, Tone)>,
    /// What `/health` said before: when in seconds since the epoch, whether 200, why.
    pub verdicts: Vec<(i64, bool, String)>,
}

impl Facts {
    /// What the picture shows of a status. What others wrote into it is made printable.
    pub fn of(status: &Status) -> Self {
        let (health, instance, probes) = (&status.health, &status.instance, &status.probes);
        let detail = |check: &Check| clean(&format!("{}: {}", check.name, check.detail));
        let nginx = health.checks.iter().find(|check| check.name == "nginx");
        let failing = health.checks.iter().filter(|check| check.status == health::Status::Fail);
        let failing: Vec<String> = failing.map(detail).collect();
        let cause =
            if failing.is_empty() { nginx.map(detail).unwrap_or_default() } else { failing.join("; ") };
        let since = health.history.last().and_then(|change| change.at.parse::<Timestamp>().ok());
        let now = status.at.parse::<Timestamp>().ok();
        let ago_ms = |then: Option<Timestamp>| {
            let ms = now.zip(then).and_then(|(now, then)| (now - then).total(Unit::Millisecond).ok());
            ms.map(|ms| ms.max(0.0) as u64)
        };
        let elapsed_ms = |started: &str| ago_ms(started.parse().ok()).unwrap_or(0);
        let count = |key: &str| probes.more.get(key).and_then(Value::as_u64);
        Self {
            instance: clean(&instance.instance),
            zone: clean(&instance.zone),
            kind: clean(&instance.kind),
            lifecycle: clean(&instance.lifecycle_state),
            up_ms: status.uptime_ms,
            healthy: health.status == health::Verdict::Pass,
            cause,
            since_ms: ago_ms(since),
            nginx_up: status.nginx.up,
            nginx: nginx.map(|check| clean(&check.detail)).unwrap_or_default(),
            probes: clean(&probes.explanation),
            expected_ms: probes.more.get("expected_ms").and_then(Value::as_i64),
            nodes: probes.nodes.iter().map(node).collect(),
            fault: status.fault.as_ref().map(|fault| Fault {
                mode: fault.mode.name().to_owned(),
                kind: Some(fault.mode),
                elapsed_ms: elapsed_ms(&fault.started),
                by: clean(&fault.by),
                remaining_ms: fault.remaining_ms,
                overdue: fault.overdue,
            }),
            stress: status.stress.iter().map(stress).collect(),
            loads: status
                .stress
                .iter()
                .map(|stress| Load {
                    workers: stress.workers,
                    load_pct: stress.load_pct,
                    target_pct: stress.target_pct,
                    elapsed_ms: elapsed_ms(&stress.started),
                    remaining_ms: stress.remaining_ms,
                })
                .collect(),
            asked_directly: !probes.nodes.is_empty() && probes.nodes.iter().all(is_direct),
            baseline_pct: status.cpu.baseline_pct,
            lines: count("lines").zip(count("probes")),
            unwell: health.checks.iter().filter_map(unwell).collect(),
            verdicts: health.history.iter().filter_map(verdict).collect(),
        }
    }
}

fn is_direct(node: &status::Node) -> bool {
    node.more.get("direct").and_then(Value::as_bool).unwrap_or(false)
}

fn unwell(check: &Check) -> Option<(String, String, Tone)> {
    let tone = match check.status {
        health::Status::Fail => Tone::Bad,
        health::Status::Warn => Tone::Warn,
        _ => return None,
    };
    // Those have a row.
    let shown = matches!(check.name.as_str(), "nginx" | "fault");
    (!shown).then(|| (clean(&check.name), clean(&check.detail), tone))
}

fn verdict(change: &health::Change) -> Option<(i64, bool, String)> {
    let at = change.at.parse::<Timestamp>().ok()?.as_second();
    // The first verdict is no change.
    change.from.map(|_| (at, change.to == health::Verdict::Pass, clean(&change.detail)))
}

fn node(node: &status::Node) -> Node {
    let count = |key: &str| node.more.get(key).and_then(Value::as_u64);
    let codes = node.more.get("codes").and_then(Value::as_object);
    let all =
        codes.into_iter().flatten().filter_map(|(code, n)| Some((code.parse::<u16>().ok()?, n.as_u64()?)));
    Node {
        // The picture marks what has come since the look before: what counts from the start, not a window.
        count: NodeCount {
            // Of a node that probes several paths each is a rhythm of its own.
            node: match node.more.get("path").and_then(Value::as_str) {
                Some(path) => format!("{} {}", node.node, clean(path)),
                None => node.node.to_string(),
            },
            probes: count("probes_total").unwrap_or(node.probes),
            not_ok: count("not_ok").unwrap_or(0),
            missed: count("missed_total").map_or(node.missed, |total| total + count("overdue").unwrap_or(0)),
        },
        missed: node.missed,
        p50_ms: node.interval_p50_ms,
        on_time: node.more.get("on_time").and_then(Value::as_bool),
        code: all.max_by_key(|(_, n)| *n).map(|(code, _)| code),
    }
}

fn stress(stress: &status::Stress) -> String {
    let what = match (stress.target_pct, stress.load_pct) {
        (Some(target), _) => format!("host at {target:.0} %"),
        (None, Some(load)) => format!("{} x {load:.0} %", stress.workers),
        (None, None) => format!("{} workers", stress.workers),
    };
    let who = clean(&stress.who);
    match stress.remaining_ms {
        Some(left) => format!("{what}, {} left, by {who}", clock(left / 1000)),
        None => format!("{what}, by {who}"),
    }
}

/// Seconds as `m:ss`, or `h:mm:ss`.
pub fn clock(secs: u64) -> String {
    match secs / 3600 {
        0 => format!("{}:{:02}", secs / 60, secs % 60),
        hours => format!("{hours}:{:02}:{:02}", secs / 60 % 60, secs % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Status {
        serde_json::from_value(json!({
            "event": "status", "version": "1", "at": "2026-11-27T17:00:11.000Z", "uptime_ms": 5,
            "instance": {
                "source": "imds", "instance": "i-1", "zone": "z", "type": "t", "lifecycle_state": "InService",
                "spot_action": "none", "rebalance": "none",
            },
            "health": {
                "status": "fail", "fresh": true, "draining": false,
                "checks": [
                    {"name": "nginx", "status": "fail", "detail": "refuses\u{1b}[2J connections", "age_ms": 1},
                    {"name": "disk", "status": "pass", "detail": "3 %", "age_ms": 1},
                    {"name": "volume", "status": "warn", "detail": "read-only", "age_ms": 1},
                ],
                "history": [{
                    "at": "2026-11-27T17:00:00.000Z", "from": "pass", "to": "fail", "cause": "check",
                    "detail": "why", "held_ms": 9,
                }],
            },
            "nginx": {"url": null, "up": false},
            "probes": {"confirmed": false, "explanation": "x", "expected_ms": 5000,
                "lines": 40, "probes": 9, "nodes": [{
                "node": "10.0.0.1", "probes": 9, "missed": 1, "missed_total": 2, "interval_p50_ms": 5000,
                "not_ok": 2, "codes": {"200": 7, "502": 2},
            }]},
            "fault": {
                "mode": "stop", "phase": "injected", "started": "2026-11-27T17:00:05.000Z", "by": "x", "remaining_ms": 5, "overdue": false,
            },
            "stress": [{
                "who": "root", "pid": 1, "workers": 1, "load_pct": 100.0, "target_pct": null,
                "started": "2026-11-27T17:00:00.000Z",
                "remaining_ms": 61_000,
            }],
            "cpu": {"busy_pct": null, "steal_pct": null},
            "listener": {
                "address": "0.0.0.0:8080", "realtime": false, "open": 0, "accepted": 0, "evicted": 0,
                "timed_out": 0, "floods": 0,
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_cause_is_the_failing_check_and_what_others_wrote_is_printable() {
        let facts = Facts::of(&status());
        assert_eq!((facts.healthy, facts.nginx_up, facts.since_ms), (false, Some(false), Some(11_000)));
        assert_eq!(facts.cause, "nginx: refuses?[2J connections");
        let node = &facts.nodes[0];
        assert_eq!((node.count.not_ok, node.count.missed, node.missed, node.code), (2, 2, 1, Some(200)));
        assert_eq!(facts.expected_ms, Some(5000));
        assert_eq!(facts.stress, ["1 x 100 %, 1:01 left, by root"]);
        let fault = facts.fault.unwrap();
        assert_eq!((fault.mode.as_str(), fault.kind, fault.elapsed_ms), ("stop", Some(Mode::Stop), 6000));
        assert_eq!((facts.loads[0].elapsed_ms, facts.loads[0].remaining_ms), (11_000, Some(61_000)));
        assert_eq!((facts.lines, facts.asked_directly), (Some((40, 9)), false));
        // nginx has a row of its own.
        assert_eq!(facts.unwell, [("volume".to_owned(), "read-only".to_owned(), Tone::Warn)]);
        assert_eq!(facts.verdicts, [(1_795_798_800, false, "why".to_owned())]);
    }

    #[test]
    fn times_are_written_as_clocks_show_them() {
        assert_eq!([clock(5), clock(348), clock(3661)], ["0:05", "5:48", "1:01:01"]);
    }
}
