//! The world in which the agent is tested and shown: real nginx, real agents, a simulated load balancer. Every
//! instance of it has loopback addresses of its own, and what it started ends with it.

pub mod agent;
pub mod alb;
pub mod background;
pub mod bench;
pub mod cable;
pub mod chromium;
pub mod client;
pub mod cloud;
pub mod daemon;
pub mod decoys;
pub mod demo;
pub mod fleet;
pub mod haproxy;
pub mod http;
pub mod imds;
pub mod machine;
pub mod moto;
pub mod nginx;
pub mod place;
pub mod program;
pub mod tmux;
