//! `/status`: everything at one moment, as one JSON object.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::counters::Counters;
use super::history::{History, NodeCount, Observation};
use crate::health::{Board, Report};
use crate::probes;
use crate::stress::record;
use crate::sys::clock;

/// Where the admin listener gets what it tells: snapshots of what others own.
pub(super) struct Sources {
    pub started: Instant,
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
            node: node.node.to_string(),
            probes: node.probes,
            not_ok: node.not_ok,
            missed: node.missed,
        };
        Observation {
            at: jiff::Timestamp::now().as_second(),
            cpu: None,
            health: Some(self.is_healthy()),
            nginx: report.nginx_up,
            fault: report.fault.as_ref().filter(|fault| !fault.overdue).map(|f| f.mode.name().to_owned()),
            stress: !record::read(&self.run).is_empty(),
            nodes: probes.nodes.iter().map(count).collect(),
        }
    }

    /// The object that `agent status --json` prints.
    pub(super) fn status(&self) -> Value {
        let now = Instant::now();
        let age_ms = |at: Instant| now.saturating_duration_since(at).as_millis() as u64;
        let report = self.report.borrow().clone();
        let checks: Vec<Value> = report
            .checks
            .iter()
            .map(|c| json!({"name": c.name, "status": c.status, "detail": c.detail, "age_ms": age_ms(c.at)}))
            .collect();
        let fault = report.fault.map(|mut fault| {
            fault.remaining_ms = fault.remaining_ms.saturating_sub(age_ms(report.at));
            fault.overdue |= fault.remaining_ms == 0;
            fault
        });
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        let counters = &self.counters;
        let cpu = report.host.and_then(|host| host.cpu);
        json!({
            "event": "status",
            "version": env!("CARGO_PKG_VERSION"),
            "at": clock::rfc3339(jiff::Timestamp::now()),
            "uptime_ms": age_ms(self.started),
            "instance": report.identity,
            "health": {
                "status": if self.is_healthy() { "pass" } else { "fail" },
                "fresh": self.board.is_fresh(now),
                "draining": self.board.is_draining(),
                "checks": checks,
            },
            "nginx": {"url": report.nginx_target, "up": report.nginx_up},
            "probes": *self.probes.borrow().clone(),
            "fault": fault,
            "stress": stress(&self.run),
            "cpu": {"busy_pct": cpu.map(|c| c.busy_pct), "steal_pct": cpu.map(|c| c.steal_pct)},
            "listener": {
                "address": self.listen.to_string(),
                "realtime": counters.realtime.load(Relaxed),
                "open": count(&counters.open),
                "accepted": count(&counters.accepted),
                "evicted": count(&counters.evicted),
                "timed_out": count(&counters.timed_out),
                "floods": count(&counters.floods),
            },
        })
    }
}

/// The stresses that run now, each with the time that it still has.
fn stress(run: &Path) -> Vec<Value> {
    let now = clock::since_boot();
    let one = |running: record::Running| {
        json!({
            "who": running.who,
            "pid": running.pid,
            "workers": running.workers,
            "load_pct": running.load_pct,
            "target_pct": running.target_pct,
            "started": running.started,
            "remaining_ms": running.remaining(now).map(|left| left.as_millis() as u64),
        })
    };
    record::read(run).into_iter().map(one).collect()
}
