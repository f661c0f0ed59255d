//! `make demo`: all verbs of the agent against real nginx behind a simulated load balancer, in about a minute.

use std::process::ExitCode;

fn main() -> ExitCode {
    world::demo::main(std::env::args().nth(1).as_deref())
}
