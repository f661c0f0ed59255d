//! CPU load at a share that is asked for, and what CloudWatch will read of it.
//!
//! - Pure: [`plan`] (what was asked for, what is impossible), [`curve`] (the load over time), `pacing` (one worker's
//!   share, open loop), `control` (the whole host, closed loop), [`minutes`] (the clock's buckets), [`forecast`] (what an
//!   alarm will read: the one model), [`opening`] (what is said before a run), [`success`] and [`summary`] (what it came
//!   to), [`events`] (what programs read).
//! - With the kernel: `worker` and `pool` (the threads), [`aside`] (those that are no workers), [`manners`] (how they
//!   yield), [`host`] (`/proc/stat`), [`allowed`] (CPUs), [`record`] (for the daemon), [`run`] (from the first to the last
//!   moment), [`hints`] (what holds the load back).

pub mod allowed;
pub mod aside;
mod control;
pub mod curve;
pub mod events;
pub mod forecast;
pub mod hints;
pub mod host;
pub mod manners;
pub mod minutes;
pub mod opening;
mod pacing;
pub mod plan;
mod pool;
pub mod record;
pub mod run;
pub mod success;
pub mod summary;
mod worker;
