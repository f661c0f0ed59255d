//! What the samplers know, for `status` and `/metrics`; never for the public.

use std::time::Instant;

use serde::Serialize;

use super::host::HostSample;
use crate::fault;
use crate::identity::Identity;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Pass,
    /// Worth a look; the target stays healthy.
    Warn,
    /// The target is unhealthy.
    Fail,
    /// There is nothing to check.
    Absent,
    /// It can't be checked, and nobody requires it.
    Unknown,
}

/// One check, as it was found last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `nginx`, `disk`, `memory`, `fault`, `draining`, `freshness`.
    pub name: &'static str,
    /// Its outcome.
    pub status: Status,
    /// What was found, for people.
    pub detail: String,
    /// When it was found.
    pub at: Instant,
}

/// Everything at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// When.
    pub at: Instant,
    /// Whether `/health` says 200 (freshness and draining not counted in yet).
    pub pass: bool,
    /// The checks in a fixed order.
    pub checks: Vec<Check>,
    /// What nginx is asked for; `None` when nobody asks.
    pub nginx_target: Option<String>,
    /// Whether nginx answers; `None` before the first sample and when nobody asks.
    pub nginx_up: Option<bool>,
    /// Who this is.
    pub identity: Identity,
    /// The fault on record.
    pub fault: Option<fault::Snapshot>,
    /// Disk, memory and CPU.
    pub host: Option<HostSample>,
}
