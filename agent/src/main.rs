//! Parse, log, dispatch, turn the result into an exit code.

use std::process::ExitCode;

use asg_agent::cli;
use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => cli::run(cli),
        Err(error) => cli::usage(&error),
    }
}
