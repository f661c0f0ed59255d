//! `agent status`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use jiff::Timestamp;

use super::exit::OrExit;
use super::output::Output;
use super::{Common, Exit, Failure, Settings};
use crate::config::{Asked, spoken};
use crate::health::Verdict;
use crate::serve::status::{Cpu, Node, Status};
use crate::serve::wrong::WrongClient;

/// How long the daemon may take.
const LIMIT: Duration = Duration::from_secs(3);
/// So many nodes are shown one by one, and so many changes.
const MOST_NODES: usize = 16;
const LAST_CHANGES: usize = 5;

/// Show what the running daemon knows: the verdict and why, its checks, nginx, probes, faults, CPU
///
/// Exit 0 healthy, 1 unhealthy, 3 no daemon answers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's admin address [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR:PORT")]
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
        people(&status, Timestamp::now()).iter().for_each(|line| out.text(line));
        Ok(if status.health.status == Verdict::Pass { Exit::Done } else { Exit::No })
    }
}

/// What the daemon says of itself.
pub(super) fn ask(admin: SocketAddr) -> anyhow::Result<Status> {
    let url = format!("http://{admin}/status");
    let fetch = async {
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        client.get(&url).send().await?.error_for_status()?.text().await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime
        .block_on(fetch)
        .map_err(|e| match () {
            () if e.is_connect() => anyhow!("nothing listens there"),
            () if e.is_timeout() => anyhow!("it is silent for {} s", LIMIT.as_secs()),
            () => anyhow!(e.without_url()),
        })
        .with_context(|| format!("no daemon answers at {url} (is `agent serve` running?)"))?;
    serde_json::from_str(&text).with_context(|| format!("{url} is not an agent of this version"))
}

/// `1 probe`, `2 probes`.
fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

fn millis(ms: u64) -> String {
    spoken(Duration::from_millis(ms))
}

/// How long ago a time was, as people say it.
fn ago(at: &str, now: Timestamp) -> String {
    match at.parse::<Timestamp>() {
        Ok(at) => {
            let since = Duration::try_from(now.duration_since(at)).unwrap_or_default();
            format!("{} ago", spoken(Duration::from_secs(since.as_secs())))
        }
        Err(_) => at.to_owned(),
    }
}

/// The same for people.
fn people(status: &Status, now: Timestamp) -> Vec<String> {
    let health = &status.health;
    let verdict = if health.status == Verdict::Pass { "HEALTHY" } else { "UNHEALTHY" };
    let mut lines = vec![format!(
        "{verdict}  agent {}, up {}{}{}",
        status.version,
        millis(status.uptime_ms),
        if health.draining { ", draining" } else { "" },
        if health.fresh { "" } else { ", its checks are stale" },
    )];
    lines.push(instance(status));
    let padded = |name: &str, status: &serde_json::Value| {
        format!("{name:<9} {:<6}", status.as_str().unwrap_or_default())
    };
    lines.extend(health.checks.iter().map(|check| {
        let outcome = serde_json::to_value(check.status).unwrap_or_default();
        format!("{} {} ({} ago)", padded(&check.name, &outcome), check.detail, millis(check.age_ms))
    }));
    lines.extend(changes(status, now));
    lines.push(format!("probes    {}", status.probes.explanation));
    lines.extend(nodes(&status.probes.nodes, now));
    if let Some(fault) = &status.fault {
        let mode = fault.mode.name();
        lines.push(match fault.overdue {
            false => format!("fault     {mode} for another {}", millis(fault.remaining_ms)),
            true => format!("fault     {mode} is past its deadline: `agent recover` as root ends it"),
        });
    }
    for stress in &status.stress {
        let what = match (stress.target_pct, stress.load_pct) {
            (Some(target), _) => format!("holds the host at {target} %"),
            (None, load) => format!("{} × {} % of a CPU", stress.workers, load.unwrap_or(100.0)),
        };
        let left = match stress.remaining_ms {
            Some(ms) => format!("for another {}", millis(ms)),
            None => "until interrupted".to_owned(),
        };
        lines.push(format!("stress    {what} {left}, started by {}", stress.who));
    }
    lines.extend(cpu(&status.cpu));
    let listener = &status.listener;
    lines.push(format!(
        "listener  {}, {} open, {} taken, real-time priority {}",
        listener.address,
        listener.open,
        listener.accepted,
        if listener.realtime { "on" } else { "off" }
    ));
    lines.extend(listener.wrong.iter().map(|client| wrong(client, now)));
    if status.log_lines_dropped > 0 {
        lines.push(format!("log       {} found no reader", counted(status.log_lines_dropped, "line")));
    }
    lines
}

fn instance(status: &Status) -> String {
    let instance = &status.instance;
    let is_told = |value: &&str| !matches!(*value, "none" | "unknown" | "");
    let Some(id) = Some(instance.instance.as_str()).filter(is_told) else {
        let why = match instance.instance.as_str() {
            "none" => "none: no metadata service answers here",
            _ => "not known yet",
        };
        return format!("instance  {why}");
    };
    let mut who = format!("instance  {id}");
    if is_told(&instance.zone.as_str()) {
        who += &format!(" in {}", instance.zone);
    }
    for (value, label) in [
        (&instance.kind, "type"),
        (&instance.lifecycle_state, "state"),
        (&instance.spot_action, "Spot"),
        (&instance.rebalance, "rebalance"),
    ] {
        if is_told(&value.as_str()) {
            who += &format!(", {label} {value}");
        }
    }
    who
}

/// The last changes of the verdict, where it ever changed.
fn changes(status: &Status, now: Timestamp) -> Vec<String> {
    let history = &status.health.history;
    if history.len() < 2 {
        return Vec::new();
    }
    let skipped = history.len().saturating_sub(LAST_CHANGES);
    let line = |(index, change): (usize, &crate::health::Change)| {
        let label = if index == 0 { "changes" } else { "" };
        let after = change
            .held_ms
            .zip(change.from)
            .map(|(ms, from)| format!(" after {} of {}", millis(ms), from.code()));
        format!(
            "{label:<9} {} {}{} ({}): {}",
            ago(&change.at, now),
            change.to.code(),
            after.unwrap_or_default(),
            change.cause,
            change.detail
        )
    };
    history.iter().skip(skipped).rev().enumerate().map(line).collect()
}

fn nodes(nodes: &[Node], now: Timestamp) -> Vec<String> {
    let line = |node: &Node| {
        let more = |key: &str| node.more.get(key).and_then(serde_json::Value::as_str);
        let path = more("path").map_or_else(String::new, |path| format!(" {path}"));
        let last = more("last_off_rhythm");
        let when = last.map_or_else(String::new, |at| format!(", last out of rhythm {}", ago(at, now)));
        let (count, missed) = (counted(node.probes, "probe"), node.missed);
        format!("  node    {}{path}: {count}, {missed} missed in the last 15 min{when}", node.node)
    };
    let mut lines: Vec<String> = nodes.iter().take(MOST_NODES).map(line).collect();
    if let Some(more) = nodes.len().checked_sub(MOST_NODES).filter(|more| *more > 0) {
        lines.push(format!("          and {} (`--json` lists them all)", counted(more as u64, "more node")));
    }
    lines
}

fn cpu(cpu: &Cpu) -> Option<String> {
    let (busy, steal) = cpu.busy_pct.zip(cpu.steal_pct)?;
    let when = cpu.over_ms.zip(cpu.age_ms).map(|(over, age)| {
        let ago = if age < 1000 { "now".to_owned() } else { format!("{} ago", millis(age / 1000 * 1000)) };
        format!(" (over {}, until {ago})", millis(over.next_multiple_of(1000)))
    });
    Some(format!("cpu       {busy:.1} % busy, {steal:.1} % stolen{}", when.unwrap_or_default()))
}

fn wrong(client: &WrongClient, now: Timestamp) -> String {
    let what = match &client.last_request {
        Some(request) => format!("{} ({request})", client.kind.words()),
        None => client.kind.words().to_owned(),
    };
    format!(
        "refused   {what} {}×, last from {} {}: {}",
        client.count,
        client.last_peer,
        ago(&client.last_at, now),
        client.cure
    )
}
