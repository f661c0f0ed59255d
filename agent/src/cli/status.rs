//! `agent status`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::exit::OrExit;
use super::output::Output;
use super::{Common, Exit, Failure, Settings};
use crate::config::{Asked, parse_address};

/// How long the daemon may take.
const LIMIT: Duration = Duration::from_secs(3);

/// Show what the running daemon knows: the verdict, its checks, nginx, probes, faults, CPU
///
/// Exit 0 healthy, 1 unhealthy, 3 no daemon answers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's admin address [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    admin: Option<SocketAddr>,
}

impl Args {
    /// Asks the daemon once.
    ///
    /// # Errors
    /// Exit 3 when none answers.
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        let admin = self.admin.map(|addr| Asked::flag("--admin", "serve.admin", addr.to_string()));
        let settings = Settings::load(common, admin.into_iter().collect())?;
        let status = ask(settings.serve.admin).or_exit(Exit::CannotTell)?;
        let mut out = Output::new(common.json);
        out.event(&status);
        people(&status).iter().for_each(|line| out.text(line));
        Ok(if status["health"]["status"] == "pass" { Exit::Done } else { Exit::No })
    }
}

/// What the daemon says of itself.
pub(super) fn ask(admin: SocketAddr) -> anyhow::Result<Value> {
    let url = format!("http://{admin}/status");
    let fetch = async {
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        client.get(&url).send().await?.error_for_status()?.text().await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime
        .block_on(fetch)
        .map_err(|e| anyhow!(e.without_url()))
        .with_context(|| format!("no daemon answers at {url} (is `agent serve` running?)"))?;
    let status: Value = serde_json::from_str(&text).with_context(|| format!("{url} answers no JSON"))?;
    anyhow::ensure!(status["event"] == "status", "{url} is not an agent");
    Ok(status)
}

/// The same for people.
fn people(status: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let health = &status["health"];
    let mut lines = vec![format!(
        "{}  agent {}, up {} s{}",
        if health["status"] == "pass" { "HEALTHY" } else { "UNHEALTHY" },
        text(&status["version"]),
        (number(&status["uptime_ms"]) / 1e3).round(),
        if health["draining"] == true { ", draining" } else { "" },
    )];
    let instance = &status["instance"];
    let mut who = format!("instance  {} in {}", text(&instance["instance"]), text(&instance["zone"]));
    for (key, label) in
        [("type", "type"), ("lifecycle_state", "state"), ("spot_action", "Spot"), ("rebalance", "rebalance")]
    {
        let value = text(&instance[key]);
        if value != "none" && value != "unknown" {
            who.push_str(&format!(", {label} {value}"));
        }
    }
    lines.push(who);
    for check in health["checks"].as_array().into_iter().flatten() {
        let age = number(&check["age_ms"]) / 1e3;
        lines.push(format!(
            "{:<9} {:<6} {} ({age:.1} s ago)",
            text(&check["name"]),
            text(&check["status"]),
            text(&check["detail"])
        ));
    }
    let probes = &status["probes"];
    lines.push(format!("probes    {}", text(&probes["explanation"])));
    for node in probes["nodes"].as_array().into_iter().flatten() {
        let (node, count, missed) = (text(&node["node"]), &node["probes"], &node["missed"]);
        lines.push(format!("  node    {node}: {count} probes, {missed} missed"));
    }
    let fault = &status["fault"];
    if !fault.is_null() {
        let mode = text(&fault["mode"]);
        lines.push(match fault["overdue"] == true {
            false => format!("fault     {mode} for another {:.0} s", number(&fault["remaining_ms"]) / 1e3),
            true => format!("fault     {mode} is past its deadline: `agent recover` as root ends it"),
        });
    }
    for stress in status["stress"].as_array().into_iter().flatten() {
        let what = match (stress["target_pct"].as_f64(), stress["load_pct"].as_f64()) {
            (Some(target), _) => format!("holds the host at {target} %"),
            (None, load) => format!("{} × {} % of a CPU", stress["workers"], load.unwrap_or(100.0)),
        };
        let left = match stress["remaining_ms"].as_f64() {
            Some(ms) => format!("for another {:.0} s", ms / 1e3),
            None => "until interrupted".to_owned(),
        };
        lines.push(format!("stress    {what} {left}, started by {}", text(&stress["who"])));
    }
    let cpu = &status["cpu"];
    if !cpu["busy_pct"].is_null() {
        let (busy, steal) = (number(&cpu["busy_pct"]), number(&cpu["steal_pct"]));
        lines.push(format!("cpu       {busy:.1} % busy, {steal:.1} % stolen"));
    }
    let listener = &status["listener"];
    lines.push(format!(
        "listener  {}, {} open, {} taken, real-time priority {}",
        text(&listener["address"]),
        listener["open"],
        listener["accepted"],
        if listener["realtime"] == true { "on" } else { "off" }
    ));
    lines
}
