//! What there is to know about the nginx on this machine.

pub mod conf;
pub mod target;
