//! Parse, log, dispatch, turn the result into an exit code.

use std::process::ExitCode;

use asg_agent::cli;
use clap::Parser;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
