//! Simulated failures, each with a deadline that it can't outlive.
//!
//! The order of a fault: preflight (`plan`) → record and lease (`lease`) → inject (`modes`) → verify the effect → hold →
//! recover and verify (`recovery`); `run` goes through it, `history` keeps what happened. The lease is a keeper, and
//! under systemd a timer beside it.

mod actor;
mod bounds;
mod error;
pub mod event;
mod failpoint;
mod family;
pub mod history;
mod lease;
pub mod machine;
mod modes;
mod plan;
mod recovery;
pub mod run;
mod status;

pub use actor::describe;
pub use bounds::{MAX, MAX_FORCED};
pub use error::FaultError;
pub use lease::keeper::{end_due, keep};
pub use lease::record::{self, Mode, Record};
pub use plan::{preflight, rehearsal};
pub use recovery::launch::become_nginx;
pub use recovery::recover::{Ended, reconcile, recover_now};
pub use status::Snapshot;
