//! What clients lose when a target fails, measured through the load balancer, beside what they should lose.
//!
//! - [`client`]: requests as clients of the load balancer send them, and what is kept of each.
//! - [`schedule`]: when requests are due, the phases of a drill, the fault, and what ends it early.
//! - [`analysis`]: bounds, figures, answers, reports. All of it is pure but `rhythm` and `history`.
//! - [`events`]: what programs read of a drill, and what is read of an earlier one.

pub mod analysis;
pub mod client;
pub mod events;
pub mod schedule;
