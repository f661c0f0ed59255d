//! The promise, kept outside the process that made it, that a fault ends: what is on record, and who waits for its
//! deadline.

pub(super) mod arm;
pub(super) mod keeper;
pub(super) mod lock;
pub(super) mod mark;
mod mode;
pub mod record;
mod stored;
mod target;
pub(super) mod timer;
