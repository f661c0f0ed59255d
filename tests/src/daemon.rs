//! `agent serve` in a place of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::agent::{self, Running};
use crate::http::{self, Answer};
use crate::place::{Place, wait_until};

/// A running daemon. Dropped, it is killed.
#[derive(Debug)]
pub struct Daemon {
    /// The process.
    pub process: Running,
    /// Where `/health` is.
    pub public: SocketAddr,
    /// Where `/status` and `/metrics` are.
    pub admin: SocketAddr,
}

impl Daemon {
    /// Starts `agent serve` with `args` on ports 8080 and 8081 of the place and waits until it serves. Where the
    /// place's configuration names no metadata service, there is none.
    ///
    /// # Errors
    /// When it doesn't serve within 10 s.
    pub fn start(place: &Place, args: &[&str]) -> anyhow::Result<Self> {
        let public = SocketAddr::new(place.ip.into(), 8080);
        let admin = SocketAddr::new(place.ip.into(), 8081);
        let (listen, admin_flag) = (format!("--listen={public}"), format!("--admin={admin}"));
        let mut all = vec!["serve", &listen, &admin_flag];
        all.extend(args);
        let mut command = agent::command(place, &all);
        if !agent::file_contains(&place.join("agent.toml"), "[identity]") {
            command.env("AGENT_IDENTITY_ENDPOINT", format!("http://{}:1", place.ip));
        }
        let process = Running::spawn(place, command)?;
        let daemon = Self { process, public, admin };
        let serves = || daemon.process.stderr().contains("/health on http://");
        ensure!(wait_until(Duration::from_secs(10), serves), "no daemon: {}", daemon.process.stderr());
        Ok(daemon)
    }

    /// One `GET /health`.
    ///
    /// # Errors
    /// When it isn't answered within 5 s.
    pub fn health(&self) -> std::io::Result<Answer> {
        http::get(self.public, "/health", Duration::from_secs(5))
    }

    /// Waits until `/health` says `status`; says how long it took.
    ///
    /// # Errors
    /// When it doesn't within `limit`.
    pub fn wait_for(&self, status: u16, limit: Duration) -> anyhow::Result<Duration> {
        let start = std::time::Instant::now();
        let there = wait_until(limit, || self.health().is_ok_and(|answer| answer.status == status));
        let last = self.health().map(|answer| answer.status);
        ensure!(there, "no {status} within {limit:?} but {last:?}; {}", self.process.stderr());
        Ok(start.elapsed())
    }

    /// The object of `/status`.
    ///
    /// # Errors
    /// When the admin listener doesn't answer JSON.
    pub fn status(&self) -> anyhow::Result<Value> {
        let answer = http::get(self.admin, "/status", Duration::from_secs(5))?;
        serde_json::from_str(&answer.body).with_context(|| answer.body.clone())
    }

    /// The check called `name` in `/status`; null when there is none.
    ///
    /// # Errors
    /// When the admin listener doesn't answer JSON.
    pub fn check(&self, name: &str) -> anyhow::Result<Value> {
        let status = self.status()?;
        let checks = status["health"]["checks"].as_array();
        Ok(checks.into_iter().flatten().find(|check| check["name"] == name).cloned().unwrap_or_default())
    }

    /// The value of a metric, by its name and labels as they are written.
    ///
    /// # Errors
    /// When the admin listener doesn't answer or has no such metric.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let answer = http::get(self.admin, "/metrics", Duration::from_secs(5))?;
        let line = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no {name} in {}", answer.body))?.parse().context("no number")
    }
}
