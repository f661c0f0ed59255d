//! The record as it lies on the disk: flat, so that every version reads what another one has written, across an upgrade
//! of the package during a fault.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Fault, Mode, Phase, Record, Target};
use crate::sys::proc::{Exe, Identity};

/// What a fault may take; which of these, its mode says.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// The nginx that fails.
    pub target: Option<Target>,
    /// What requests are answered.
    pub status: Option<u16>,
    /// How late `/health` answers.
    pub delay: Option<Duration>,
    /// Where `/health` is served.
    pub health: Option<SocketAddr>,
}

/// The file.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    mode: Mode,
    boot_id: String,
    deadline_boottime_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default)]
    id: String,
    #[serde(default)]
    phase: Phase,
    #[serde(default)]
    started: String,
    #[serde(default)]
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keeper: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<Exe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
}

impl TryFrom<Stored> for Record {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let parts = Parts {
            target: stored.target,
            status: stored.status,
            delay: stored.delay_ms.map(Duration::from_millis),
            health: stored.health,
        };
        let fault = Fault::new(stored.mode, parts);
        Ok(Self {
            fault: fault.map_err(|what| format!("of mode {}, but {what}", stored.mode.name()))?,
            boot_id: stored.boot_id,
            deadline_boottime_ms: stored.deadline_boottime_ms,
            id: stored.id,
            phase: stored.phase,
            started: stored.started,
            by: stored.by,
            holder: stored.holder,
            keeper: stored.keeper,
            agent: stored.agent,
        })
    }
}

impl From<Record> for Stored {
    fn from(record: Record) -> Self {
        let (mode, parts) = record.fault.into_parts();
        Self {
            mode,
            boot_id: record.boot_id,
            deadline_boottime_ms: record.deadline_boottime_ms,
            delay_ms: parts.delay.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            status: parts.status,
            id: record.id,
            phase: record.phase,
            started: record.started,
            by: record.by,
            holder: record.holder,
            keeper: record.keeper,
            agent: record.agent,
            health: parts.health,
            target: parts.target,
        }
    }
}
