//! `agent`: health, load and failure for the instances of an Auto Scaling group.
//!
//! The house, from the roof down; each room imports only rooms below it:
//!
//! - `main.rs`: parse, log, dispatch, turn the result into an exit code.
//! - [`cli`]: one file a verb; flags, people's text, JSON Lines, exit codes.
//! - [`watch`]: everything at a glance, on a terminal; it reads what `serve` says.
//! - [`serve`]: the listeners, the serving thread, the daemon's life.
//! - [`health`]: the verdict, sampled in the background.
//! - [`drill`]: a fault measured through the load balancer.
//! - [`fault`]: simulated failures and how each one ends.
//! - [`probes`]: the load balancer's probes, followed and judged: the three rooms below, tied together.
//! - [`cadence`]: when probes arrived, their rhythm, and the verdict. Pure.
//! - [`access_log`]: which logs nginx writes, in which formats, and what their lines say.
//! - [`logtail`]: every line of a file once, whatever happens to it. It knows nothing of nginx.
//! - [`nginx`]: its configuration, read as nginx reads it, and the address that tells whether it answers.
//! - [`identity`]: who this instance is, from its metadata service.
//! - [`stress`]: CPU load at a share that is asked for, and what CloudWatch will read.
//! - [`config`]: loading settings and saying where a wrong one stands.
//! - [`sys`]: clocks, `/proc`, trusted files, scheduling; the only room with `unsafe`.

pub mod access_log;
pub mod cadence;
pub mod cli;
pub mod config;
pub mod drill;
pub mod fault;
pub mod health;
pub mod identity;
pub mod logtail;
pub mod nginx;
pub mod probes;
pub mod serve;
pub mod stress;
pub mod sys;
pub mod watch;
