//! What programs read of `agent fail` and `agent recover` besides the steps of the fault: JSON Lines, each with its
//! `event`.

use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use crate::fault::Mode;
use crate::fault::event::Outcome;
use crate::fault::rehearsal::Rehearsal;
use crate::nginx::ask::Address;

/// A line of `agent fail` that is no step of the fault.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum FailEvent<'a> {
    /// `--dry-run`: what would be done.
    Plan(Planned<'a>),
    /// `--dry-run`: nothing, as a fault is active.
    #[serde(rename = "plan")]
    Active {
        /// What was asked for.
        mode: Mode,
        /// The fault on record, for people.
        active: &'a str,
    },
    /// The last line.
    Result(&'a Outcome),
    /// The last line but the error, where nginx was not seen to answer again.
    #[serde(rename = "result")]
    #[cfg_attr(test, schemars(extend("maxProperties" = 2)))]
    NotRecovered {
        /// `false`.
        recovered: bool,
    },
}

/// What would be done.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Planned<'a> {
    /// How nginx would fail.
    pub(super) mode: Mode,
    /// How long.
    pub(super) secs: f64,
    /// What would be sent, to whom.
    pub(super) signals: Vec<String>,
    /// What would start nginx again; `null`: it runs on.
    pub(super) restore: Option<&'a str>,
    /// Whether nginx could be brought back, tried.
    pub(super) rehearsal: &'a Rehearsal,
    /// The nginx that would fail; without it nginx is not touched.
    #[serde(flatten)]
    pub(super) nginx: Option<PlannedNginx<'a>>,
}

/// The nginx that would fail.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PlannedNginx<'a> {
    /// The master.
    pub(super) pid: i32,
    /// Its workers.
    pub(super) workers: &'a [i32],
    /// The configuration by which it runs.
    pub(super) conf: &'a Path,
    /// Where it would be waited for.
    pub(super) answers_at: &'a Address,
    /// What it listens on, where only its connections would be touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ports: Option<&'a [SocketAddr]>,
    /// Where it would be started again, and as whom.
    #[serde(flatten)]
    pub(super) start: Option<PlannedStart<'a>>,
}

/// How nginx would be started again.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PlannedStart<'a> {
    /// The working directory.
    pub(super) cwd: &'a Path,
    /// The user.
    pub(super) uid: u32,
    /// The unit of systemd that it is.
    pub(super) unit: Option<&'a str>,
    /// The units that systemd would stop with it, and that would be started again.
    pub(super) dependents: &'a [String],
}

/// The last line of `agent recover`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename = "result")]
pub(super) struct Recovered<'a> {
    /// The fault that was ended; `null`: there was none.
    pub(super) fault: Option<Mode>,
    /// `true`.
    pub(super) recovered: bool,
    /// What became of the fault that was ended.
    #[serde(flatten)]
    pub(super) end: Option<RecoveredHere<'a>>,
}

/// What became of a fault that was ended here.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct RecoveredHere<'a> {
    /// From the beginning of the end to the first answer.
    pub(super) first_ok_after_ms: u64,
    /// What of nginx is otherwise than it was.
    pub(super) differences: &'a [String],
}
