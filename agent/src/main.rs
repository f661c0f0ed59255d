//! Parse, log, dispatch, turn the result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    asg_agent::cli::main()
}
