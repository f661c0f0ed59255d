//! What a drill is told to do, and what it tells while it does it.

use std::net::SocketAddr;
use std::time::Duration;

use super::guard::Limits;
use super::phase::{Marks, Phase};
use crate::config::Paths;
use crate::drill::client::names::Change;
use crate::drill::client::sample::{Book, Sample};
use crate::drill::client::target::Target;
use crate::fault::event::Told;
use crate::fault::{FaultError, preflight};

/// What is to be done.
#[derive(Debug)]
pub struct Drill {
    /// Whom to ask.
    pub target: Target,
    /// The addresses that the name has at the start.
    pub first: Vec<SocketAddr>,
    /// Requests a second to each.
    pub rps: u32,
    /// How long everything must be well before.
    pub baseline: Duration,
    /// How long it is watched after.
    pub after: Duration,
    /// How long an answer may take.
    pub deadline: Duration,
    /// What fails.
    pub what: What,
    /// What is allowed.
    pub limits: Limits,
    /// Go on although the baseline isn't clean.
    pub force: bool,
    /// The name by which the target answers.
    pub us: Option<String>,
}

/// What fails.
#[derive(Debug)]
pub enum What {
    /// nginx here.
    Fault(Paths, preflight::Request),
    /// Something elsewhere, within this time.
    Observe(Duration),
}

/// What there is to show.
#[derive(Debug)]
pub enum Event<'a> {
    /// A phase begins.
    Phase(Phase, Duration),
    /// A request has ended.
    Request(&'a Book, &'a Sample),
    /// The name's addresses have changed.
    Name(&'a Change, Duration),
    /// The fault tells something.
    Fault(&'a Told),
    /// Something to know that stops nothing.
    Warning(String),
    /// A tenth of a second has passed.
    Tick(&'a Book, &'a Marks, f64, Duration),
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// Something is wrong already.
    #[error("the baseline is not clean: {0}; see to it first, or go on all the same with --force")]
    Unclean(String),
    /// There is no fault.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The system refuses.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}
