//! `aws` on the PATH of `ami-bake.sh` under test: see `world::cloud`.

use std::path::PathBuf;

use world::cloud::Cloud;

fn main() -> anyhow::Result<()> {
    let folder: PathBuf = std::env::var_os("STAND_IN_FOLDER").unwrap_or_default().into();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = Cloud::open(&folder).serve(&args, std::env::var("STAND_IN_FAULT").ok().as_deref())?;
    std::process::exit(code)
}
