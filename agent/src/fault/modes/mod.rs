//! The ways in which nginx is made to fail, and what each needs of this machine.

pub(super) mod answerer;
pub(super) mod effect;
pub(super) mod hold;
pub(super) mod inject;
pub(super) mod packets;
