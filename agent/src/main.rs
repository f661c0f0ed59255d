//! Parse, log, dispatch, turn the result into an exit code.

use std::process::ExitCode;

/// A plain error where there is no memory.
#[global_allocator]
static ALLOCATOR: asg_agent::sys::alloc::OrExit = asg_agent::sys::alloc::OrExit;

fn main() -> ExitCode {
    asg_agent::cli::main()
}
