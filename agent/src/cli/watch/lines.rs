//! The lines of `agent watch --json`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::serve::status::Status;
use crate::sys::clock::rfc3339;
use crate::watch::clients::Row;
use crate::watch::model::Model;

/// A line of `agent watch --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct WatchEvent {
    event: WatchName,
    /// When, RFC 3339.
    at: String,
    /// What the daemon says; `null` where it doesn't.
    status: Option<Status>,
    /// Why it doesn't.
    no_daemon: Option<String>,
    /// The host's CPU over the last second.
    cpu: Option<CpuNow>,
    /// Answers through each address of the load balancer, since the view began.
    nodes: Vec<Answers>,
    /// Answers of each instance.
    instances: Vec<Answers>,
}

/// The event's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum WatchName {
    Watch,
}

/// In percent of the host.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CpuNow {
    busy_pct: f64,
    steal_pct: f64,
}

/// What came through one address, or from one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Answers {
    name: String,
    answers: u32,
    failures: u32,
    /// Why it fails now; `null` where it doesn't.
    failing: Option<String>,
}

impl Answers {
    fn of(row: &Row) -> Self {
        let (answers, failures) = row.sum(0, i64::MAX);
        let failing = row.failing.as_ref().map(|(error, _)| error.clone());
        Self { name: row.name.clone(), answers, failures, failing }
    }
}

impl WatchEvent {
    /// What is known now.
    pub(super) fn of(model: &Model, status: Option<Status>) -> Self {
        let clients = &model.clients;
        Self {
            event: WatchName::Watch,
            at: rfc3339(Timestamp::now()),
            status,
            no_daemon: model.no_daemon.clone(),
            cpu: model.cpu.map(|cpu| CpuNow { busy_pct: cpu.busy_pct, steal_pct: cpu.steal_pct }),
            nodes: clients.nodes.iter().map(Answers::of).collect(),
            instances: clients.instances.iter().map(Answers::of).collect(),
        }
    }
}
