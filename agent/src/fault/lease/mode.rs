//! The modes, and what each needs.

use serde::{Deserialize, Serialize};

/// How nginx is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// nginx is stopped gracefully.
    Stop,
    /// nginx is killed, master and workers.
    Crash,
    /// Every process of nginx is held: connections open, nothing answers.
    Hang,
    /// Packets to nginx's ports vanish.
    Drop,
    /// Connections to nginx's ports are reset.
    Reject,
    /// Requests are answered 503, or --status.
    Error,
    /// Only `/health` says 503.
    Unhealthy,
    /// `/health` answers late.
    Slow,
}

impl Mode {
    /// Whether nginx itself is made to fail; otherwise only what `/health` says.
    pub fn touches_nginx(self) -> bool {
        !matches!(self, Self::Unhealthy | Self::Slow)
    }

    /// Whether packets for nginx are dropped, reset or redirected; nginx itself isn't touched.
    pub fn touches_packets(self) -> bool {
        matches!(self, Self::Drop | Self::Reject | Self::Error)
    }

    /// Whether the effect goes with the keeper: it holds nginx, or answers in its place.
    pub fn needs_keeper(self) -> bool {
        matches!(self, Self::Hang | Self::Error)
    }

    /// Whether nginx is gone as long as the fault lasts.
    pub fn ends_nginx(self) -> bool {
        matches!(self, Self::Stop | Self::Crash)
    }

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Error => "error",
            Self::Unhealthy => "unhealthy",
            Self::Slow => "slow",
        }
    }
}
