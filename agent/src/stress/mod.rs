//! CPU load at a share that is asked for, and what CloudWatch will read of it.
//!
//! - Pure: [`plan`] (what was asked for, what is impossible), [`curve`] (the load over time), `pacing` (one worker's
//!   share, open loop), `control` (the whole host, closed loop), [`minutes`] (the clock's buckets), [`alarm`],
//!   [`notices`], `hints` (what is told before and during a run), [`summary`].
//! - With the kernel: `worker` and `pool` (the threads), [`manners`] (how they yield), [`host`] (`/proc/stat`),
//!   [`allowed`] (CPUs), [`record`] (for the daemon), [`run`] (from the first to the last moment).

pub mod alarm;
pub mod allowed;
mod control;
pub mod curve;
pub mod hints;
pub mod host;
pub mod manners;
pub mod minutes;
pub mod notices;
mod pacing;
pub mod plan;
mod pool;
pub mod record;
pub mod run;
pub mod summary;
mod worker;
