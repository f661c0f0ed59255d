//! What is shipped: the package on a machine with a real systemd, its unit, its nginx snippets.

mod life;

use std::path::{Path, PathBuf};
use std::process::Command;

use world::machine::Machine;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// The folder of everything that `make dist` and `make rpm` leave.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// The package that `make rpm` has left, as `release`; `None`, with a word, where there is none to be had.
pub(crate) fn package(release: &str) -> Option<PathBuf> {
    if std::env::consts::ARCH != "x86_64" || !target().join("dist/x86_64/agent").exists() {
        skipped("there is no package: `make rpm` first");
        return None;
    }
    let mut build = Command::new(Path::new(REPOSITORY).join("rpm/build.sh"));
    let output = build.env("RELEASE", release).env("CARGO_TARGET_DIR", target()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).lines().last().unwrap()))
}

/// A machine without the agent, and with these packages in its root folder.
pub(crate) fn machine(packages: &[PathBuf]) -> Option<Machine> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines");
    let machine = Machine::boot(&cache, |root| {
        std::fs::remove_file(root.join("usr/bin/agent"))?;
        for package in packages {
            std::fs::copy(package, root.join(package.file_name().unwrap_or_default()))?;
        }
        Ok(())
    });
    let machine = machine.unwrap();
    if machine.is_none() {
        skipped("mmdebstrap, systemd-nspawn or root is missing");
    }
    machine
}
