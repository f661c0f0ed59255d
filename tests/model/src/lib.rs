//! The life of a fault in a world where everything goes wrong. The actors are `asg_agent::fault::machine::Machine`s, the
//! very ones that the agent executes; the world is a handful of files, locks, processes and an nginx; the adversary kills,
//! stops, cuts the power, removes files and steps clocks between any two actions. [`check::explore`] goes through every
//! state that can be reached, and [`bugs::Bug`] shows that it would find what is wrong.

pub mod adversary;
pub mod bugs;
pub mod check;
pub mod perform;
pub mod world;
