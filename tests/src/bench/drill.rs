//! What measuring costs, and whether the log of a real load balancer agrees with what was measured.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;

use super::Table;
use crate::agent;
use crate::fleet::{OTHER, OURS};
use crate::haproxy::{Check, Haproxy};
use crate::nginx::Nginx;
use crate::place::Place;

const SECS: f64 = 10.0;
const DEADLINE: Duration = Duration::from_secs(1);

/// The tables.
///
/// # Errors
/// When something doesn't start, or a drill doesn't end.
pub fn run() -> anyhow::Result<Vec<Table>> {
    Ok(vec![cost()?, agreement()?])
}

fn cost() -> anyhow::Result<Table> {
    let places = [Place::new()?, Place::new()?];
    let mut nodes = Vec::new();
    for place in &places {
        Nginx::start(place, "", "location / { return 200; }")?;
        nodes.push(place.ip.to_string());
    }
    let mut table = Table::new(
        "drill: the cost of measuring two nodes",
        &["requests/s", "CPU, % of a core", "µs a request", "sent > 20 ms late, %", "latency p50", "p99"],
    );
    for rps in [10, 50, 250] {
        let (rate, secs) = (rps.to_string(), SECS.to_string());
        let before = cpu()?;
        let (_, last) = drill(
            &places[0],
            &[
                "--observe",
                "--url",
                "http://bench/",
                "--resolve",
                &nodes.join(","),
                "--rps",
                &rate,
                "--secs",
                &secs,
                "--baseline",
                "1s",
            ],
        )?;
        let used = cpu()? - before;
        let requests = last["requests"].as_f64().context("no requests")?;
        let phase = last["phases"].as_array().and_then(|all| all.last()).context("no phase")?;
        table.row(&[
            &(2 * rps),
            &format!("{:.1}", 100.0 * used / (SECS + 1.0)),
            &format!("{:.0}", 1e6 * used / requests),
            &last["schedule"]["late_pct"],
            &format!("{:.2} ms", phase["p50_ms"].as_f64().unwrap_or(f64::NAN)),
            &format!("{:.2} ms", phase["p99_ms"].as_f64().unwrap_or(f64::NAN)),
        ]);
    }
    table.note(
        "Half of the requests on new connections, over loopback: the kernel's work for both ends is in it, and the start \
         of the program. Asked: 10 % at 500 a second.",
    );
    Ok(table)
}

fn agreement() -> anyhow::Result<Table> {
    let mut table = Table::new(
        "drill: the outage window beside HAProxy's own log, 25 requests a second a node",
        &["mode", "node", "measured", "HAProxy's log", "difference"],
    );
    for (mode, secs) in [("stop", "4"), ("crash", "4"), ("hang", "5")] {
        let (ours, other) = (Place::new()?, Place::new()?);
        let web = |place: &Place, name: &str| {
            Nginx::start(place, "", &format!("location / {{ add_header X-Instance-Id {name}; return 200; }}"))
        };
        let (first, second) = (web(&ours, OURS)?, web(&other, OTHER)?);
        let interval = Duration::from_secs(1);
        let check = Check { interval, timeout: interval.mul_f64(0.4), rise: 2, fall: 2, redispatch: false };
        let targets: [SocketAddr; 2] = [first.addr, second.addr];
        let Some(haproxy) = Haproxy::start(check, &targets)? else {
            table.note("HAProxy is not installed here.");
            return Ok(table);
        };
        let conf = first.conf.to_string_lossy().into_owned();
        let (_, last) = drill(
            &ours,
            &[
                "--mode",
                mode,
                "--secs",
                secs,
                "--url",
                "http://bench/",
                "--resolve",
                &haproxy.nodes(),
                "--rps",
                "25",
                "--baseline",
                "1s",
                "--deadline",
                "1s",
                "--conf",
                &conf,
                "--expect-instance",
                OURS,
                "--interval",
                "1s",
                "--timeout",
                "400ms",
                "--healthy",
                "2",
                "--unhealthy",
                "2",
            ],
        )?;
        let judged = haproxy.outages(DEADLINE)?;
        for node in last["nodes"].as_array().context("no nodes")? {
            let name = node["node"].as_str().context("no name")?;
            let (measured, log) =
                (node["outage_ms"].as_f64().unwrap_or(0.0), judged.get(name).copied().unwrap_or(0.0));
            let difference = format!("{:.0} ms", measured - log);
            table.row(&[&mode, &name, &format!("{measured:.0} ms"), &format!("{log:.0} ms"), &difference]);
        }
    }
    table.note("Asked: within 100 ms.");
    Ok(table)
}

/// A drill's exit code and result.
fn drill(place: &Place, args: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
    let mut all = vec!["drill", "failover", "--json"];
    all.extend(args);
    let mut command = agent::command(place, &all);
    let output = command.env("AGENT_IDENTITY_ENDPOINT", format!("http://{}:1", place.ip)).output()?;
    let last = agent::events(&output.stdout).pop().context("no result")?;
    ensure!(last["event"] == "result", "{last} {}", String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code(), last))
}

/// CPU seconds of all children that have ended.
fn cpu() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let secs = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(secs(usage.user_time()) + secs(usage.system_time()))
}
