//! Simulated failures, each with a deadline that it can't outlive.
//!
//! The order of a fault: `preflight` → `record` → `lease` → `inject` → verify the effect → hold → `recover` → verify;
//! `run` goes through it, `history` keeps what happened. The lease is a `keeper`, and under systemd a `timer` beside it.

mod answerer;
mod bounds;
mod environment;
mod error;
pub mod event;
mod failpoint;
pub mod history;
mod hold;
mod inject;
mod keeper;
mod lease;
mod notes;
mod packets;
pub mod preflight;
pub mod record;
mod recover;
mod restore;
pub mod run;
mod start;
mod status;
mod timer;
mod unit;

pub use bounds::{MAX, MAX_FORCED};
pub use error::FaultError;
pub use keeper::{end_due, keep};
pub use record::{Mode, Record};
pub use recover::{Ended, reconcile, recover_now};
pub use status::Snapshot;
