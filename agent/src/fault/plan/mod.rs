//! Before anything is touched: which nginx, is it well, who runs it, can it be brought back, and what is worth knowing.

mod choose;
pub(super) mod notes;
pub mod preflight;
pub mod rehearsal;
pub(super) mod unit;
