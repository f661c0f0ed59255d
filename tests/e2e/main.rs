//! The real agent against a real nginx. One binary; a module a room.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs)]

mod alb;
mod bake;
mod demo;
mod drill;
mod fault;
mod imds;
mod packaging;
mod probes;
mod serve;
mod stress;
mod stress_end;
mod stress_manners;
mod watch;
mod world;
