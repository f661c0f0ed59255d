//! Writes what travels with the binary into a folder: `papers FOLDER TARGET`.
//!
//! - `man5/`: `agent.toml(5)`, from the structs of the settings ([`settings`]);
//! - `man1/`, `bash/`, `zsh/`, `fish/`: from the command line's own tree ([`commands`]);
//! - `LICENSES.txt` and `sbom.cdx.json`: of every crate in the binary for `TARGET` ([`crates`]).
//!
//! The same sources give the same bytes.

mod commands;
mod crates;
mod sections;
mod settings;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, target] = arguments.as_slice() else {
        return fail("usage: papers FOLDER TARGET");
    };
    match write(Path::new(folder), target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("papers: {e:#}")),
    }
}

#[allow(clippy::print_stderr)] // a tool of the build, whose output nobody parses
fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

fn write(folder: &Path, target: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    commands::manual(&folder.join("man1"))?;
    commands::completions(folder)?;
    let agent = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent"));
    settings::manual(&folder.join("man5"), agent)?;
    let crates = crates::in_the_binary(target)?;
    let put = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).with_context(|| folder.join(name).display().to_string())
    };
    put("LICENSES.txt", crates::licences(&crates)?)?;
    put("sbom.cdx.json", crates::bill_of_materials(&crates)?)
}
