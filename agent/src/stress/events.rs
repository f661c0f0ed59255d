//! What programs read of a stress: JSON Lines, each with its `event`.

use serde::{Deserialize, Serialize};

use super::forecast::Forecast;
use super::minutes::Datapoint;
use super::summary::Summary;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StressEvent {
    /// What a run would do, and no run (`--explain`).
    Explained(Box<Opening>),
    /// The workers burn.
    Started(Box<Opening>),
    /// Every ten seconds.
    Progress(Progress),
    /// A minute of the clock is over.
    Minute(Datapoint),
    /// What the alarm will do has changed.
    Forecast(Box<Forecast>),
    /// Something holds the load back.
    Hint {
        /// What, and what follows from it.
        message: String,
    },
    /// The last line.
    Summary(Box<Summary>),
}

/// What is known before a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Opening {
    /// Threads that burn.
    pub workers: u32,
    /// How long; `null`: until interrupted.
    pub secs: Option<f64>,
    /// How the workers yield, as a part of a sentence.
    pub manners: String,
    /// CPUs of the host, over which CloudWatch averages.
    pub host_cpus: u32,
    /// CPUs that may be used.
    pub allowed_cpus: u32,
    /// CPUs' time that a cgroup quota allows.
    pub quota_cpus: Option<f64>,
    /// Since the host booted.
    pub uptime_secs: u64,
    /// The instance's type, where it was asked for (`--explain`) and the metadata service answered.
    pub instance_type: Option<String>,
    /// What a burstable type is held at without CPU credits, in percent of each vCPU.
    pub baseline_pct: Option<f64>,
    /// What is worth knowing, for people.
    pub notices: Vec<String>,
    /// What the policy's alarm will do, where one is named.
    pub forecast: Option<Forecast>,
}

/// A look at a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Progress {
    /// Since the start.
    pub elapsed_ms: u64,
    /// Each worker's share of one CPU in this second.
    pub worker_pct: f64,
    /// What CPUUtilization counts.
    pub host_busy_pct: f64,
    /// What the hypervisor withheld.
    pub host_steal_pct: f64,
}
