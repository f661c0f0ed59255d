//! What every drill tells of itself.

use jiff::Timestamp;
use serde::Serialize;

use crate::drill::client::target::Target;
use crate::fault::history;
use crate::sys::clock::rfc3339;

/// Who measured what, when and with what.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct About {
    /// Of the agent.
    pub version: &'static str,
    /// When it began, RFC 3339.
    pub started: String,
    /// Who started it.
    pub by: String,
    /// What was measured.
    pub url: String,
    /// The Host header.
    pub host: String,
    /// Requests a second to each node.
    pub rps: u32,
}

impl About {
    /// A drill that begins now.
    pub fn of(target: &Target, rps: u32) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started: rfc3339(Timestamp::now()),
            by: history::who(|name| std::env::var(name).ok()),
            url: target.url.clone(),
            host: target.host.to_str().unwrap_or_default().to_owned(),
            rps,
        }
    }
}
