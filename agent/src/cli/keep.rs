//! `agent __keep`: the keeper of a fault. Started by `agent fail`, not by people.

use std::path::PathBuf;

use crate::cli::{Exit, Failure, exit::OrExit};
use crate::config::Paths;
use crate::fault;

/// Ends one fault at its deadline
#[derive(Debug, clap::Args)]
pub(super) struct Keep {
    #[arg(long)]
    fault: String,
    /// Its time is over
    #[arg(long)]
    due: bool,
    #[arg(long)]
    state: PathBuf,
    #[arg(long)]
    run: PathBuf,
    #[arg(long)]
    log: PathBuf,
}

impl Keep {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let paths = Paths { state: self.state, run: self.run, log: self.log };
        let end = if self.due { fault::end_due } else { fault::keep };
        end(&paths, &self.fault).or_exit(Exit::CannotTell)?;
        Ok(Exit::Done)
    }
}

/// `agent __start`: becomes the nginx that a fault ended. Returns only where that isn't possible.
pub(super) fn start() -> Result<Exit, Failure> {
    match fault::become_nginx().or_exit(Exit::CannotTell)? {}
}
