//! The end of a fault: nginx is brought back by what is observed, and is believed only once it answers.

mod compare;
pub(super) mod environment;
pub(super) mod launch;
pub(super) mod outputs;
pub(super) mod recover;
pub(super) mod restore;
pub(super) mod start;
