//! `[fault]`, and the bounds that no setting moves.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

/// The longest fault that needs no `--force`.
pub const MAX: Duration = Duration::from_secs(300);
/// The longest of all.
pub const MAX_FORCED: Duration = Duration::from_secs(3600);

/// `[fault]`: where the effect of a fault is looked at.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Where the daemon of this machine serves `/health`; `unhealthy` and `slow` are verified there.
    pub health: SocketAddr,
}

impl Default for Faults {
    fn default() -> Self {
        Self { health: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080) }
    }
}
