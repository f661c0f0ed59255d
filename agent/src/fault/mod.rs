//! Simulated failures, each with a deadline that it can't outlive.

pub mod record;
