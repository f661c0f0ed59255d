//! Prints the tables of `BENCHMARKS.md` as Markdown: `bench stress`.

use std::io::Write;

use anyhow::bail;
use world::bench;

fn main() -> anyhow::Result<()> {
    let Some(room) = std::env::args().nth(1) else { bail!("which tables? one of: stress") };
    let tables = match room.as_str() {
        "stress" => bench::stress::run()?,
        _ => bail!("{room}: no such tables; one of: stress"),
    };
    let mut stdout = std::io::stdout().lock();
    for table in tables {
        write!(stdout, "{table}")?;
    }
    Ok(())
}
