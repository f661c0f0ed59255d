//! `agent drill`: what clients lose when this target fails, and how the group grows under load.

pub(super) mod args;
mod context;
mod drain;
mod ends;
mod failover;
mod history;
mod live;
mod paper;
mod result_view;
mod scale;
mod scale_view;
mod start;
mod view;

use super::{Common, Exit, Failure};

/// Measure through the load balancer what a failure costs, and what it should
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    Failover(Box<failover::Failover>),
    Scale(Box<scale::Scale>),
    Drain(Box<drain::Drain>),
    List(history::List),
    Show(history::Show),
}

impl Args {
    /// Runs the verb to its end.
    ///
    /// # Errors
    /// Exit 2 for wrong usage, 3 where nothing can be measured, 4 where something is wrong already.
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        match self.what {
            Kind::Failover(args) => args.run(common),
            Kind::Scale(args) => args.run(common),
            Kind::Drain(args) => args.run(common),
            Kind::List(args) => args.run(common),
            Kind::Show(args) => args.run(common),
        }
    }
}
