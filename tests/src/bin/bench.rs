//! Measures, and prints the tables of `BENCHMARKS.md` as Markdown: `bench`, or `bench ROOM`. The other words are
//! roles that it plays for itself in a process of its own.

use std::io::Write;

use anyhow::{Context, bail};
use world::bench::{Table, drill, fault, health, probes, stress};

/// A room and what measures it.
type Room = (&'static str, fn() -> anyhow::Result<Vec<Table>>);
const ROOMS: [Room; 5] = [
    ("health", health::run),
    ("stress", stress::run),
    ("probes", probes::run),
    ("fault", fault::run),
    ("drill", drill::run),
];

/// What one must know to read the tables.
const HEAD: &str = "# Benchmarks\n\n\
    Written by `make bench`: the agent beside its peers, in the same run on the same machine. Ratios matter, absolute \
    times are the machine's. A note below a table says when others kept the machine busy.\n";

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let word = args.next();
    let mut argument = || args.next().context("an argument is missing");
    let mut stdout = std::io::stdout().lock();
    match word.as_deref() {
        Some("bare-axum") => return health::bare_axum(argument()?.parse()?),
        Some("burn") => health::burn(argument()?.parse()?),
        Some("probe") => {
            for latency in health::probe(argument()?.parse()?)? {
                writeln!(stdout, "{latency:.4}")?;
            }
            return Ok(());
        }
        _ => {}
    }
    let chosen = ROOMS.iter().filter(|(name, _)| word.as_deref().is_none_or(|word| word == *name));
    if chosen.clone().next().is_none() {
        bail!("no such room; one of: {}", ROOMS.map(|(name, _)| name).join(", "));
    }
    if word.is_none() {
        writeln!(stdout, "{HEAD}")?;
    }
    for (_, measure) in chosen {
        for table in measure()? {
            write!(stdout, "{table}")?;
        }
    }
    Ok(())
}
