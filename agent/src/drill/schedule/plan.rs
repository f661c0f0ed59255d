//! What a drill is told to do, and what it tells while it does it.

use std::net::SocketAddr;
use std::time::Duration;

use super::guard::Limits;
use super::phase::{Marks, Phase};
use super::refuse::Refusal;
use crate::config::Paths;
use crate::drill::analysis::group::Group;
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
    /// End it as soon as no address sends requests to this target any more.
    pub until_drained: bool,
    /// Go on although the baseline speaks against it.
    pub force: bool,
    /// The name by which the target answers.
    pub us: Option<String>,
    /// What the target here calls itself, where it could be asked.
    pub here: Option<String>,
    /// The header in which answers name their instance.
    pub header: String,
    /// The target group.
    pub group: Group,
}

/// What fails.
#[derive(Debug)]
pub enum What {
    /// nginx here.
    Fault(Paths, preflight::Request),
    /// Something elsewhere, within this time.
    Observe(Duration),
}

/// Why a drill ends its fault early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A signal.
    Signal(i32),
    /// A limit was exceeded: which.
    Limit(String),
    /// No address sends requests here any more.
    Drained,
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
    /// What speaks against the fault, whether or not it is made all the same.
    Refused(&'a [Refusal]),
    /// This drill ends the fault early, and why.
    Ending(&'a Ending),
    /// A tenth of a second has passed.
    Tick(&'a Book, &'a Marks, f64, Duration),
}

fn sentences(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join(". ")
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// Something speaks against it.
    #[error("refused, nothing was touched: {}; or go on all the same with --force", sentences(.0))]
    Refused(Vec<Refusal>),
    /// There is no fault.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The system refuses.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        why: std::io::Error,
    },
}
