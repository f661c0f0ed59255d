//! What there is to know about the nginx on this machine: its configuration, its processes, whether it answers.

pub mod answer;
pub mod ask;
pub(crate) mod built;
pub mod conf;
mod configured;
pub mod master;
pub mod target;
mod title;
mod url;
