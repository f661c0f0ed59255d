//! Settings in three steps: what the file says, what was asked for besides (`AGENT_*`, then flags), what is valid.
//! Knows how to load and to say where a wrong value stands; each room declares its own section.

mod address;
mod duration;
mod environment;
mod known_paths;
mod load;
mod place;
mod words;

pub use address::{address, parse_address};
pub use duration::{Span, parse_duration, parse_span, spoken};
pub use environment::from_environment;
pub use load::{Asked, ConfigError, FileChoice, Invalid, Validate, load};

use std::path::PathBuf;

use serde::Deserialize;

/// `[paths]`: where the agent keeps what outlives a process.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Survives a reboot: the fault record, the place in the log.
    pub state: PathBuf,
    /// Gone with a reboot: locks, the record of a running stress.
    pub run: PathBuf,
    /// Where the history of faults is appended.
    pub log: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            state: "/var/lib/asg-agent".into(),
            run: "/run/asg-agent".into(),
            log: "/var/log/asg-agent".into(),
        }
    }
}
