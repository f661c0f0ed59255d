//! CPU load at a share that is asked for, and what CloudWatch will read of it.
//!
//! Pure: [`plan`] (what was asked for, what is impossible), [`curve`] (the load over time), `pacing` (one worker's
//! share, open loop), `control` (the whole host, closed loop), [`minutes`] (the clock's buckets), [`summary`].
//! With the kernel: `worker` and `pool` (the threads), [`host`] (`/proc/stat`), [`allowed`] (CPUs), [`run`].

pub mod allowed;
mod control;
pub mod curve;
pub mod host;
pub mod minutes;
mod pacing;
pub mod plan;
mod pool;
pub mod run;
pub mod summary;
mod worker;
