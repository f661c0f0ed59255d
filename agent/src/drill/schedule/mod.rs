//! A drill in time.
//!
//! - `pace`: when requests are due. `phase`: baseline → fault → hold → readmission → after. `plan`, `run`: what a drill is
//!   told to do, and the task that does it; `look`: what the book says meanwhile. `refuse`: what speaks against the
//!   fault. `breaker`: the fault. `signals`, `guard`: what ends it early. `load`: the load
//!   of a drill of scaling.

pub mod breaker;
pub mod guard;
pub mod load;
mod look;
pub mod pace;
pub mod phase;
pub mod plan;
pub mod refuse;
pub mod run;
pub mod signals;
