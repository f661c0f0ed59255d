//! `agent serve`: two listeners and what keeps them honest.
//!
//! The serving thread alone answers `/health`, with real-time priority where permitted, and does nothing else. The
//! main thread runs the samplers, the admin listener and the watchdog at normal priority.

mod admin;
mod connection;
mod counters;
mod daemon;
mod events;
mod flood;
mod front;
pub mod history;
mod metrics;
mod page;
mod public;
pub mod status;
pub mod wrong;

pub use daemon::{Inputs, ServeError, run};

use std::net::SocketAddr;

use serde::Deserialize;

use crate::config::{self, Invalid, Span};

/// `[serve]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where `/health` is answered.
    #[serde(deserialize_with = "config::address")]
    pub listen: SocketAddr,
    /// Where `/status` and `/metrics` are answered; loopback only.
    #[serde(deserialize_with = "config::address")]
    pub admin: SocketAddr,
    /// How long serving goes on after SIGTERM, with 503, so that the load balancer takes the target out.
    pub drain: Span,
    /// Connections open at once; at the limit the one that has been quiet for longest makes room.
    pub max_connections: usize,
    /// Whether the serving thread asks for real-time priority.
    pub realtime: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8081)),
            drain: Span::millis(10_000),
            max_connections: 512,
            realtime: true,
        }
    }
}

impl Settings {
    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), Invalid> {
        if !self.admin.ip().is_loopback() {
            let message = format!("{} is not a loopback address: it would tell the world", self.admin.ip());
            return Err(Invalid::new("serve.admin", message));
        }
        if self.listen == self.admin && self.listen.port() != 0 {
            let message = format!(
                "serve.listen and serve.admin are both {}: choose another port for one of them (--listen, --admin)",
                self.admin
            );
            return Err(Invalid::between("serve.admin", "serve.listen", message));
        }
        if !(16..=10_000).contains(&self.max_connections) {
            return Err(Invalid::new("serve.max_connections", "must be from 16 to 10000"));
        }
        if self.drain > Span::millis(3_600_000) {
            return Err(Invalid::new("serve.drain", "must be at most 1h"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_listener_stays_on_loopback() {
        let settings = |admin: &str| Settings { admin: admin.parse().unwrap(), ..Settings::default() };
        assert!(settings("127.0.0.9:1").validate().is_ok() && settings("[::1]:1").validate().is_ok());
        for world in ["0.0.0.0:8081", "10.0.0.1:8081", "[::]:8081"] {
            assert_eq!(settings(world).validate().unwrap_err().key, "serve.admin");
        }
        assert!(
            Settings { listen: "127.0.0.1:8081".parse().unwrap(), ..Settings::default() }.validate().is_err()
        );
    }
}
