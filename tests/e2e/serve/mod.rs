//! `agent serve`: what it answers, whom it cuts off, when it changes its mind, how it starts and ends.

mod answers;
mod checks;
mod dialects;
mod identity;
mod life;
mod limits;
mod never_dead;
mod probes;
mod says_why;
mod settings;
mod volume;
