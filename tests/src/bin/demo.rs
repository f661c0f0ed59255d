//! `make demo`: all verbs of the agent against real nginx behind a simulated load balancer, in about a minute.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    world::demo::main(args.get(1).map(String::as_str), args.get(2).map(String::as_str))
}
