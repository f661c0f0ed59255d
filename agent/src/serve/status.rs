//! `/status`: everything at one moment, as one JSON object. `agent status` reads it back with the same types.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::counters::Counters;
use super::history::{CELL_SECS, History, NodeCount, Observation};
use super::wrong::WrongClient;
use crate::health::{self, Board, Change, Report, Verdict};
use crate::identity::Identity;
use crate::stress::hints::baseline_pct;
use crate::stress::record;
use crate::sys::{clock, log};
use crate::{fault, probes};

/// The object that `agent status --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// `"status"`.
    pub event: Kind,
    /// The daemon's.
    pub version: String,
    /// When it said this, RFC 3339.
    pub at: String,
    /// How long it has run.
    pub uptime_ms: u64,
    /// Who this is, and what AWS has announced.
    pub instance: Identity,
    /// What `/health` says and why.
    pub health: Health,
    /// What is asked.
    pub nginx: Nginx,
    /// The load balancer's probes.
    pub probes: Probes,
    /// The simulated failure on record.
    pub fault: Option<fault::Snapshot>,
    /// The stresses that run.
    #[serde(default)]
    pub stress: Vec<Stress>,
    /// CPU time of the whole host.
    pub cpu: Cpu,
    /// The public listener.
    pub listener: Listener,
    /// Lines of the daemon's log that found no reader in time.
    #[serde(default)]
    pub log_lines_dropped: u64,
}

/// The event's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `"status"`.
    Status,
}

/// What `/health` says and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Health {
    /// `pass` is 200, `fail` 503.
    pub status: Verdict,
    /// Whether the checks were made lately.
    pub fresh: bool,
    /// Whether the agent is ending.
    pub draining: bool,
    /// Each check as it was found last.
    pub checks: Vec<Check>,
    /// What it said before and why it changed, the latest change last; the last 50.
    #[serde(default)]
    pub history: Vec<Change>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// `nginx`, `fault`, `leaving`, `draining`, `disk`, `memory`, `volume`.
    pub name: String,
    /// Its outcome.
    pub status: health::Status,
    /// What was found, for people.
    pub detail: String,
    /// How long ago.
    pub age_ms: u64,
}

/// What nginx is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Nginx {
    /// For what; `null` when nobody asks.
    pub url: Option<String>,
    /// Whether it answers; `null` before the first answer.
    pub up: Option<bool>,
}

/// The load balancer's probes, as far as others than people read them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Probes {
    /// Whether the cadence is confirmed.
    pub confirmed: bool,
    /// Why, or why not, for people.
    pub explanation: String,
    /// Each node.
    pub nodes: Vec<Node>,
    /// What else is known.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

impl Probes {
    fn of(snapshot: &probes::watcher::Snapshot) -> Self {
        let value = serde_json::to_value(snapshot).unwrap_or_default();
        let explanation = snapshot.explanation.to_string();
        serde_json::from_value(value).unwrap_or(Self {
            confirmed: snapshot.confirmed,
            explanation,
            nodes: Vec::new(),
            more: serde_json::Map::new(),
        })
    }
}

/// One node of the load balancer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Node {
    /// Its address.
    pub node: std::net::IpAddr,
    /// How many probes it sent.
    pub probes: u64,
    /// How many it should have sent besides.
    pub missed: u64,
    /// The median interval.
    pub interval_p50_ms: Option<i64>,
    /// What else is known.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// A stress that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stress {
    /// Who started it.
    pub who: String,
    /// The process.
    pub pid: u32,
    /// How many threads burn.
    pub workers: u32,
    /// The share of one CPU that each shall use at most, in percent.
    pub load_pct: Option<f64>,
    /// The share of the host that shall be busy, in percent.
    pub target_pct: Option<f64>,
    /// When it started, RFC 3339.
    pub started: String,
    /// How long it still runs; `null`: until it is interrupted.
    pub remaining_ms: Option<u64>,
}

/// CPU time of the whole host.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cpu {
    /// Used, in percent of all CPUs, as CloudWatch counts it.
    pub busy_pct: Option<f64>,
    /// Withheld by the hypervisor.
    pub steal_pct: Option<f64>,
    /// How long ago that was measured.
    #[serde(default)]
    pub age_ms: Option<u64>,
    /// Over how long.
    #[serde(default)]
    pub over_ms: Option<u64>,
    /// What this type of instance earns CPU credits for, where it earns any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_pct: Option<f64>,
}

/// The public listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether the serving thread has real-time priority right now.
    pub realtime: bool,
    /// Connections open now.
    pub open: u64,
    /// Connections taken.
    pub accepted: u64,
    /// Connections closed to make room for newer ones.
    pub evicted: u64,
    /// Connections of clients that were too slow.
    pub timed_out: u64,
    /// Floods.
    pub floods: u64,
    /// What clients sent that gets no 200, with the likely cure.
    #[serde(default)]
    pub wrong: Vec<WrongClient>,
}

/// Where the admin listener gets what it tells: snapshots of what others own.
pub(super) struct Sources {
    pub started: Instant,
    pub started_at: jiff::Timestamp,
    pub listen: SocketAddr,
    pub board: Arc<Board>,
    pub report: watch::Receiver<Report>,
    pub probes: watch::Receiver<Arc<probes::watcher::Snapshot>>,
    /// Where a running stress is on record.
    pub run: PathBuf,
    pub counters: Arc<Counters>,
    /// The last hour.
    pub history: watch::Receiver<History>,
}

impl Sources {
    /// Whether `/health` says 200 right now.
    pub(super) fn is_healthy(&self) -> bool {
        self.board.decide(Instant::now(), clock::since_boot).answer.status.is_success()
    }

    /// What the history keeps of this moment.
    pub(super) fn observation(&self) -> Observation {
        let report = self.report.borrow();
        let probes = self.probes.borrow();
        let count = |node: &crate::cadence::NodeReport| NodeCount {
            // Of a node that probes several paths each is a rhythm of its own.
            node: node.path.as_ref().map_or(node.node.to_string(), |path| format!("{} {path}", node.node)),
            probes: node.probes,
            not_ok: node.not_ok,
            missed: node.missed_total + node.overdue,
        };
        let now = jiff::Timestamp::now().as_second();
        Observation {
            at: now,
            cpu: None,
            health: Some(self.is_healthy() && !failed_since(&report.history, now - CELL_SECS)),
            nginx: report.nginx_up,
            fault: report.fault.as_ref().filter(|fault| !fault.overdue).map(|f| f.mode.name().to_owned()),
            stress: !record::read(&self.run).is_empty(),
            nodes: probes.nodes.iter().map(count).collect(),
        }
    }

    /// Everything at this moment.
    pub(super) fn status(&self) -> Status {
        let now = Instant::now();
        let age_ms = |at: Instant| now.saturating_duration_since(at).as_millis() as u64;
        let report = self.report.borrow().clone();
        let check = |check: health::Check| Check {
            name: check.name.to_owned(),
            status: check.status,
            detail: check.detail,
            age_ms: age_ms(check.at),
        };
        let fault = report.fault.map(|mut fault| {
            // The report may be a moment old; the deadline isn't.
            fault.remaining_ms = fault.remaining_ms.saturating_sub(age_ms(report.at));
            fault.overdue = fault.remaining_ms == 0;
            fault
        });
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let counters = &self.counters;
        let cpu = report.host.and_then(|host| host.cpu);
        let baseline_pct = baseline_pct(&report.identity.kind);
        let measured = report.host.filter(|_| cpu.is_some());
        let ms = |duration: Duration| duration.as_millis() as u64;
        Status {
            event: Kind::Status,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: clock::rfc3339(jiff::Timestamp::now()),
            uptime_ms: age_ms(self.started),
            instance: report.identity,
            health: Health {
                status: Verdict::of(self.is_healthy()),
                fresh: self.board.is_fresh(now),
                draining: self.board.is_draining(),
                checks: report.checks.into_iter().map(check).collect(),
                history: report.history,
            },
            nginx: Nginx { url: report.nginx_target, up: report.nginx_up },
            probes: Probes::of(&self.probes.borrow().clone()),
            fault,
            stress: stress(&self.run),
            cpu: Cpu {
                busy_pct: cpu.map(|c| c.busy_pct),
                steal_pct: cpu.map(|c| c.steal_pct),
                age_ms: measured.map(|host| age_ms(host.at)),
                over_ms: measured.map(|host| ms(host.over)),
                baseline_pct,
            },
            listener: Listener {
                address: self.listen,
                realtime: counters.realtime.load(Relaxed),
                open: count(&counters.open),
                accepted: count(&counters.accepted),
                evicted: count(&counters.evicted),
                timed_out: count(&counters.timed_out),
                floods: count(&counters.floods),
                wrong: counters.wrong.seen(self.listen.port()),
            },
            log_lines_dropped: log::dropped(),
        }
    }
}

/// Whether `/health` said 503 at any moment after `since`, in seconds since the epoch.
fn failed_since(changes: &[Change], since: i64) -> bool {
    let at = |change: &Change| change.at.parse::<jiff::Timestamp>().map_or(0, |at| at.as_second());
    let recent = changes.iter().rev().take_while(|change| at(change) > since);
    recent.clone().any(|change| change.to == Verdict::Fail || change.from == Some(Verdict::Fail))
}

/// The stresses that run now, each with the time that it still has.
fn stress(run: &Path) -> Vec<Stress> {
    let now = clock::since_boot();
    let one = |running: record::Running| Stress {
        remaining_ms: running.remaining(now).map(|left| left.as_millis() as u64),
        who: running.who,
        pid: running.pid,
        workers: running.workers,
        load_pct: running.load_pct,
        target_pct: running.target_pct,
        started: running.started,
    };
    record::read(run).into_iter().map(one).collect()
}
