//! What the samplers know, for `status` and `/metrics`; never for the public.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::history::Change;
use super::host::HostSample;
use crate::fault;
use crate::identity::Identity;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// `nginx`, `fault`, `leaving`, `draining`, `disk`, `memory`, `volume`.
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
    /// Whether `/health` says 200 as long as this is fresh.
    pub pass: bool,
    /// What it said before and why it changed, the latest change last.
    pub history: Vec<Change>,
    /// How often it turned to 200 and to 503.
    pub turned: (u64, u64),
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
