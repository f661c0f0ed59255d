//! What the daemon says at one moment, as far as the picture shows it.

use serde_json::Value;

use super::picture::clean;
use crate::serve::history::NodeCount;

/// A fault in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// `stop`, `hang`, …
    pub mode: String,
    /// How far it has come.
    pub phase: String,
    /// Who started it.
    pub by: String,
    /// How long it still lasts.
    pub remaining_ms: u64,
    /// Whether its deadline has passed.
    pub overdue: bool,
}

/// A node of the load balancer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Its counts.
    pub count: NodeCount,
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
}

impl Facts {
    /// Reads the object that `/status` gives.
    pub fn of(status: &Value) -> Self {
        let text = |value: &Value| clean(value.as_str().unwrap_or_default());
        let (health, instance, probes) = (&status["health"], &status["instance"], &status["probes"]);
        let healthy = health["status"] == "pass";
        let checks = health["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let detail = |check: &Value| format!("{}: {}", text(&check["name"]), text(&check["detail"]));
        let nginx = checks.iter().find(|check| check["name"] == "nginx");
        let failing: Vec<String> = checks.iter().filter(|c| c["status"] == "fail").map(detail).collect();
        let cause = match () {
            () if !failing.is_empty() => failing.join("; "),
            () if health["draining"] == true => "draining before its end".to_owned(),
            () => nginx.map(detail).unwrap_or_default(),
        };
        let fault = status["fault"].as_object().map(|fault| Fault {
            mode: text(fault.get("mode").unwrap_or(&Value::Null)),
            phase: text(fault.get("phase").unwrap_or(&Value::Null)),
            by: text(fault.get("by").unwrap_or(&Value::Null)),
            remaining_ms: fault.get("remaining_ms").and_then(Value::as_u64).unwrap_or(0),
            overdue: fault.get("overdue").and_then(Value::as_bool).unwrap_or(false),
        });
        let history = health["history"].as_array().and_then(|all| all.last());
        Self {
            instance: text(&instance["instance"]),
            zone: text(&instance["zone"]),
            kind: text(&instance["type"]),
            lifecycle: text(&instance["lifecycle_state"]),
            up_ms: status["uptime_ms"].as_u64().unwrap_or(0),
            healthy,
            cause,
            since_ms: history.and_then(|last| last["for_ms"].as_u64()),
            nginx_up: status["nginx"]["up"].as_bool(),
            nginx: nginx.map(|check| text(&check["detail"])).unwrap_or_default(),
            probes: text(&probes["explanation"]),
            expected_ms: probes["expected_ms"].as_i64(),
            nodes: probes["nodes"].as_array().into_iter().flatten().map(node).collect(),
            fault,
            stress: status["stress"].as_array().into_iter().flatten().map(stress).collect(),
        }
    }
}

fn node(value: &Value) -> Node {
    let codes = value["codes"].as_object();
    let all =
        || codes.into_iter().flatten().filter_map(|(code, n)| Some((code.parse::<u16>().ok()?, n.as_u64()?)));
    let count = |key: &str| value[key].as_u64().unwrap_or(0);
    Node {
        count: NodeCount {
            node: clean(value["node"].as_str().unwrap_or_default()),
            probes: count("probes"),
            not_ok: count("not_ok"),
            missed: count("missed"),
        },
        p50_ms: value["interval_p50_ms"].as_i64(),
        on_time: value["on_time"].as_bool(),
        code: all().max_by_key(|(_, n)| *n).map(|(code, _)| code),
    }
}

fn stress(value: &Value) -> String {
    let pct = |key: &str| value[key].as_f64();
    let what = match (pct("target_pct"), pct("load_pct")) {
        (Some(target), _) => format!("host at {target:.0} %"),
        (None, Some(load)) => format!("{} x {load:.0} %", value["workers"].as_u64().unwrap_or(0)),
        (None, None) => format!("{} workers", value["workers"].as_u64().unwrap_or(0)),
    };
    let who = clean(value["who"].as_str().unwrap_or_default());
    match value["remaining_ms"].as_u64() {
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

    #[test]
    fn the_cause_is_the_failing_check() {
        let facts = Facts::of(&json!({
            "health": {"status": "fail", "checks": [
                {"name": "nginx", "status": "fail", "detail": "refuses\u{1b}[2J connections"},
                {"name": "disk", "status": "pass", "detail": "3 %"},
            ]},
            "nginx": {"up": false},
            "probes": {"nodes": [{"node": "10.0.0.1", "probes": 9, "missed": 2, "not_ok": 2, "codes": {"200": 7, "502": 2}}]},
            "stress": [{"who": "root", "workers": 1, "load_pct": 100.0, "remaining_ms": 61_000}],
            "fault": {"mode": "stop", "by": "x", "remaining_ms": 5, "overdue": false},
        }));
        assert_eq!((facts.healthy, facts.nginx_up), (false, Some(false)));
        assert_eq!(facts.cause, "nginx: refuses?[2J connections");
        assert_eq!((facts.nodes[0].count.not_ok, facts.nodes[0].code), (2, Some(200)));
        assert_eq!(facts.stress, ["1 x 100 %, 1:01 left, by root"]);
        assert_eq!(facts.fault.unwrap().mode, "stop");
        assert_eq!(Facts::of(&Value::Null), Facts::default());
    }

    #[test]
    fn times_are_written_as_clocks_show_them() {
        assert_eq!([clock(5), clock(348), clock(3661)], ["0:05", "5:48", "1:01:01"]);
    }
}
