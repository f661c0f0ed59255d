//! The command line: one file a verb. Scripts depend on its flags, exit codes and JSON keys.

mod drill;
pub mod exit;
mod fail;
mod keep;
pub mod output;
mod probes;
mod probes_view;
mod recover;
mod serve;
mod settings;
mod status;
mod stress;
mod stress_view;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use exit::{Exit, Failure};
pub use settings::Settings;

/// Health, load and failure for the instances of an Auto Scaling group.
#[derive(Debug, Parser)]
#[command(name = "agent", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// JSON Lines on stdout; the last line is the result
    #[arg(long, global = true)]
    pub json: bool,
    /// Settings [default: /etc/asg-agent/agent.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE", env = "AGENT_CONFIG")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(serve::Args),
    Stress(Box<stress::Args>),
    Probes(Box<probes::Args>),
    Fail(fail::Fail),
    Recover(recover::Recover),
    Drill(drill::Args),
    Status(status::Args),
    #[command(name = "__keep", hide = true)]
    Keep(keep::Keep),
}

/// Runs a parsed command line to its end.
pub fn run(cli: Cli) -> ExitCode {
    let Cli { common, verb } = cli;
    if !matches!(verb, Verb::Keep(_) | Verb::Recover(_)) {
        recover::overdue(&common);
    }
    let result: Result<Exit, Failure> = match verb {
        Verb::Drill(args) => args.run(&common),
        Verb::Fail(args) => args.run(&common),
        Verb::Recover(args) => args.run(&common),
        Verb::Keep(args) => args.run(),
        Verb::Probes(args) => args.run(&common),
        Verb::Serve(args) => args.run(&common),
        Verb::Status(args) => args.run(&common),
        Verb::Stress(args) => args.run(&common),
    };
    exit::code(result, common.json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
