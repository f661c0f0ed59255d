//! What a fault tells while it goes on; the command line prints it.

use jiff::Timestamp;
use serde::Serialize;

use crate::fault::lease::record::{Mode, Record};
use crate::nginx::answer::Answer;
use crate::sys::clock::rfc3339;

/// Why a fault ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its time was over.
    Deadline,
    /// Ctrl-C, SIGTERM, or the terminal hung up.
    Signal,
    /// `agent recover`, or the keeper on being told to end.
    Asked,
    /// It had no effect, or could not be injected.
    NoEffect,
    /// The keeper was killed, and the kernel let go of what it held.
    Released,
    /// The machine was started again meanwhile.
    Reboot,
    /// Something else started nginx again.
    Undone,
    /// Its effect went before its time.
    Lost,
    /// Its keeper is gone and can't be replaced.
    Unkept,
}

/// A step, and when.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
    /// Which.
    #[serde(flatten)]
    pub step: Step,
    /// What is done.
    pub mode: Mode,
    /// When, RFC 3339.
    pub at: String,
}

impl Event {
    /// A step of the fault on record, now.
    pub fn now(record: &Record, step: Step) -> Self {
        Self { step, mode: record.mode(), at: rfc3339(Timestamp::now()) }
    }
}

/// The steps, in their order.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Step {
    /// On record, and its end is assured.
    Armed {
        /// The master that will fail.
        pid: Option<i32>,
        /// How long.
        duration_ms: u64,
        /// Who holds the lease.
        lease: &'static str,
        /// The keeper.
        lease_pid: i32,
    },
    /// nginx was told, or the daemon.
    Injected,
    /// It was seen to fail.
    Effective {
        /// How.
        observed: String,
    },
    /// Its effect went before its time.
    Lost {
        /// How long it was there.
        effective_ms: u64,
        /// What became of it.
        what: String,
    },
    /// The end has begun.
    Recovering {
        /// Why.
        why: Why,
    },
    /// It was seen to answer.
    Recovered {
        /// From the beginning of the end to the first answer.
        first_ok_after_ms: u64,
    },
}

/// What the one who looks on is told.
#[derive(Debug, Clone)]
pub enum Told {
    /// A step was done.
    Event(Event),
    /// Another second of the fault has passed.
    Holding {
        /// How long it still lasts, in seconds.
        left: u64,
        /// What nginx, or `/health`, does right now.
        observed: Answer,
    },
    /// Something to know that stops nothing.
    Warning(String),
}

/// Where a fault tells what goes on.
pub type Tell<'a> = &'a mut dyn FnMut(Told);

/// How a fault ended.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Outcome {
    /// Whether nginx, or `/health`, was seen to fail.
    pub effective: bool,
    /// Whether it was seen to answer again; unknown for a fault that goes on without us.
    pub recovered: Option<bool>,
    /// How long it was in force.
    pub held_ms: Option<u64>,
    /// How long its effect was there, from the first look that saw it to the end or to the look that missed it.
    pub effective_ms: Option<u64>,
    /// From the beginning of the end to the first answer.
    pub first_ok_after_ms: Option<u64>,
    /// What of nginx is otherwise than it was before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// What became of an effect that went before its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// Whether it goes on without us.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// The signal that ended it early.
    #[serde(skip)]
    pub signal: Option<i32>,
}
