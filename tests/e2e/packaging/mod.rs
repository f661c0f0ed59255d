//! What is shipped: the package on a machine with a real systemd, its unit, its nginx snippets, its signature.

mod contents;
mod life;
mod nginx;
pub(crate) mod signature;
mod unit;
mod upgrade;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use world::machine::Machine;
use world::place::wait_until;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const LONG: Duration = Duration::from_secs(40);
/// The packages that were built already, by their release.
static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// The folder of everything that `make dist` and `make rpm` leave.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// Whether the program is installed.
fn there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A file of the repository.
fn source(path: &str) -> PathBuf {
    Path::new(REPOSITORY).join(path)
}

/// The package of the binary that `make dist` has left, as this release; `None`, with a word, where there is none.
pub(crate) fn package(release: &str) -> Option<PathBuf> {
    let arch = std::env::consts::ARCH;
    if !target().join("dist").join(arch).join("agent").exists() || !there("rpmbuild") {
        skipped("there is no package: `make dist` first, and install rpmbuild");
        return None;
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(package) = built.get(release) {
        return Some(package.clone());
    }
    let papers = world::agent::binary().with_file_name("papers");
    let mut build = Command::new(source("rpm/build.sh"));
    build.arg(arch).env("RELEASE", release).env("CARGO_TARGET_DIR", target());
    let output = build.env("PAPERS", papers).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    let package = PathBuf::from(String::from_utf8_lossy(&output.stdout).lines().last().unwrap());
    built.insert(release.to_owned(), package.clone());
    Some(package)
}

/// A machine without the agent, and with these packages in its root folder.
pub(crate) fn machine(packages: &[PathBuf]) -> Option<Machine> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines");
    let machine = Machine::boot(&cache, |root| {
        std::fs::remove_file(root.join("usr/bin/agent"))?;
        // Nobody waits here for a load balancer to notice.
        let quick = root.join("etc/systemd/system/asg-agent.service.d");
        std::fs::create_dir_all(&quick)?;
        std::fs::write(quick.join("quick.conf"), "[Service]\nEnvironment=AGENT_SERVE_DRAIN=10ms\n")?;
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

/// Runs a command line that must succeed.
fn run(machine: &Machine, line: &str) -> String {
    let (code, said) = try_run(machine, line);
    assert_eq!(code, Some(0), "`{line}`: {said}\n{}", journal(machine));
    said
}

fn try_run(machine: &Machine, line: &str) -> (Option<i32>, String) {
    let output = machine.sh(line).unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    (output.status.code(), said)
}

fn journal(machine: &Machine) -> String {
    machine
        .says("journalctl --no-pager -n 60 -u 'asg-agent*' -u nginx; systemctl --no-pager --failed")
        .unwrap()
}

/// The status that a URL is answered with; 000 where nobody answers.
fn status(machine: &Machine, args: &str) -> String {
    machine.says(&format!("curl -s -o /dev/null -m 2 -w '%{{http_code}}' {args}")).unwrap()
}

fn health(machine: &Machine) -> String {
    status(machine, "http://127.0.0.1:8080/health")
}

fn comes(machine: &Machine, code: &str) {
    assert!(wait_until(LONG, || health(machine) == code), "no {code}: {}", journal(machine));
}

/// A property of the service, as systemd knows it.
fn property(machine: &Machine, name: &str) -> String {
    machine.says(&format!("systemctl show -p {name} asg-agent | cut -d= -f2-")).unwrap()
}
