//! The command line: one file a verb. Scripts depend on its flags, exit codes and JSON keys.

mod drill;
pub mod exit;
mod fail;
mod fail_events;
mod keep;
pub mod output;
mod probes;
mod probes_balancer;
mod probes_daemon;
mod probes_events;
mod probes_logs;
mod probes_view;
mod recover;
mod schema;
mod serve;
mod settings;
mod status;
mod stress;
mod told;
mod watch;
mod writer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

pub use exit::{Exit, Failure};
pub use settings::Settings;

/// Health, load and failure for the instances of an Auto Scaling group.
#[derive(Debug, Parser)]
#[command(name = "agent", version, max_term_width = 100, arg_required_else_help = true)]
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
    Watch(watch::Args),
    Status(status::Args),
    Schema(schema::Args),
    /// The guard of the terminal of `agent watch`
    #[command(name = watch::GUARD, hide = true)]
    Screen,
    #[command(name = "__keep", hide = true)]
    Keep(keep::Keep),
    /// Becomes the nginx that a fault ended
    #[command(name = "__start", hide = true)]
    Start,
}

/// Reads the command line of this process, and runs it to its end.
pub fn main() -> ExitCode {
    // One that was started through /proc/self/exe would be called "exe" by ps, top and pkill.
    if std::fs::read_to_string("/proc/self/comm").is_ok_and(|name| name.trim() == "exe") {
        let _ = rustix::thread::set_name(c"agent");
    }
    let args: Vec<OsString> = std::env::args_os().collect();
    let args = stress::called_as_stress(&args).unwrap_or(args);
    if let Some(answer) = stress::foreign(&args) {
        let json = args.iter().any(|arg| arg == "--json");
        return exit::code(Err(Failure::new(Exit::Usage, anyhow::anyhow!(answer))), json);
    }
    match Cli::try_parse_from(args) {
        Ok(cli) => run(cli),
        Err(error) => usage(&error),
    }
}

/// Runs a parsed command line to its end.
pub fn run(cli: Cli) -> ExitCode {
    let Cli { common, verb } = cli;
    if !matches!(verb, Verb::Keep(_) | Verb::Start | Verb::Recover(_) | Verb::Screen) {
        recover::overdue(&common);
    }
    // A stress does so at its end, when nothing waits for it.
    if !matches!(verb, Verb::Keep(_) | Verb::Start | Verb::Stress(_) | Verb::Screen) {
        crate::stress::manners::sweep();
    }
    let result: Result<Exit, Failure> = match verb {
        Verb::Drill(args) => args.run(&common),
        Verb::Fail(args) => args.run(&common),
        Verb::Recover(args) => args.run(&common),
        Verb::Keep(args) => args.run(),
        Verb::Start => keep::start(),
        Verb::Probes(args) => args.run(&common),
        Verb::Serve(args) => args.run(&common),
        Verb::Status(args) => args.run(&common),
        Verb::Watch(args) => args.run(&common),
        Verb::Schema(args) => args.run(&common),
        Verb::Screen => watch::guard(),
        Verb::Stress(args) => args.run(&common),
    };
    let code = exit::code(result, common.json);
    output::finish();
    code
}

/// Tells what is wrong with a command line, or the help or the version that it asks for; exit code 2, or 0.
pub fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == "--json");
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || !json {
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    exit::code(Err(Failure::new(Exit::Usage, anyhow::anyhow!(usage_line(error)))), true)
}

/// What clap says, in one line: without the usage, with what it suggests.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let told = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let told: Vec<&str> = told.map(str::trim).filter(|line| !line.is_empty()).collect();
    told.join("; ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_flag_is_one_line_with_what_was_meant() {
        let error = Cli::try_parse_from(["agent", "stress", "--sec", "3"]).unwrap_err();
        let line = usage_line(&error);
        assert!(line.starts_with("unexpected argument '--sec' found") && line.contains("--secs"), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}
