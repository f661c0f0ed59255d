//! Whether anything but the nginx that is meant ever gets a signal: faults, and everything that may go wrong with them,
//! again and again among decoys.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::Table;
use crate::agent;
use crate::decoys::Decoys;
use crate::nginx::Nginx;
use crate::place::{Place, wait_until};

/// Tries of all kinds together; `BENCH_DECOYS` sets another number.
const TRIES: usize = 10_000;
const AT_ONCE: usize = 6;
const LONG: Duration = Duration::from_secs(20);

/// One kind of try.
type Try = fn(&Scene, usize) -> anyhow::Result<()>;
/// What is tried, in turn.
pub const KINDS: [(&str, Try); 5] = [
    ("crash and recovery", crash),
    ("--pid names a decoy", named),
    ("the pid file names a decoy", pid_file),
    ("the record names a recycled pid", recycled),
    ("nginx forks workers (reload)", forking),
];

/// An nginx among decoys.
#[derive(Debug)]
pub struct Scene {
    nginx: Nginx,
    decoys: Decoys,
    place: Place,
}

impl Scene {
    /// # Errors
    /// When one of them doesn't start.
    pub fn new() -> anyhow::Result<Self> {
        let place = Place::new()?;
        let nginx = Nginx::start(&place, "", "location / { return 200; }")?;
        let decoys = Decoys::around(&place, &nginx)?;
        Ok(Self { nginx, decoys, place })
    }

    /// Tries the kind `kind` and looks at the decoys.
    ///
    /// # Errors
    /// When a decoy was touched, or the try itself didn't go as it should.
    pub fn attempt(&self, kind: usize, n: usize) -> anyhow::Result<()> {
        let (what, attempt) = KINDS.get(kind % KINDS.len()).context("no such kind")?;
        let done = attempt(self, n).with_context(|| format!("{what}, try {n}"));
        self.decoys.are_untouched().with_context(|| format!("{what}, try {n}"))?;
        done
    }

    /// A command line, its exit code, and its last JSON line.
    fn agent(&self, args: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
        let output = agent::run(&self.place, args)?;
        Ok((output.status.code(), agent::events(&output.stdout).pop().unwrap_or_default()))
    }

    fn fail(&self, more: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
        let conf = self.nginx.conf.to_string_lossy();
        self.agent(&[&["fail", "--json", "--conf", &conf], more].concat())
    }

    /// One of all decoys; the other nginx too.
    fn one(&self, n: usize) -> i32 {
        let mut all = self.decoys.pids();
        all.push(self.decoys.other());
        all.get(n % all.len()).copied().unwrap_or_default()
    }
}

fn crash(scene: &Scene, n: usize) -> anyhow::Result<()> {
    let mode = ["crash", "stop"].get(n % 2).copied().unwrap_or("crash");
    let (code, last) = scene.fail(&["--mode", mode, "--secs", "60", "--detach"])?;
    ensure!(code == Some(0), "no fault: {last}");
    let (code, last) = scene.agent(&["recover", "--json"])?;
    ensure!(code == Some(0) && scene.nginx.answers(), "not recovered: {last}");
    Ok(())
}

fn named(scene: &Scene, n: usize) -> anyhow::Result<()> {
    let pids = scene.decoys.pids();
    let pid = pids.get(n % pids.len()).context("no decoys")?.to_string();
    let (code, last) = scene.agent(&["fail", "--json", "--mode", "crash", "--pid", &pid])?;
    ensure!(code == Some(3), "not refused: {last}");
    Ok(())
}

fn pid_file(scene: &Scene, n: usize) -> anyhow::Result<()> {
    let (path, master) = (scene.nginx.prefix().join("nginx.pid"), scene.nginx.master()?);
    std::fs::write(&path, scene.one(n).to_string())?;
    let tried = scene.fail(&["--mode", "crash"]);
    std::fs::write(&path, master.to_string())?;
    let (code, last) = tried?;
    ensure!(code == Some(3), "not refused: {last}");
    Ok(())
}

/// nginx is dead, and its pid is another's now; its pid file still has it.
fn recycled(scene: &Scene, n: usize) -> anyhow::Result<()> {
    let (code, last) = scene.fail(&["--mode", "crash", "--secs", "60", "--detach"])?;
    ensure!(code == Some(0), "no fault: {last}");
    let path = scene.place.join("state/fault.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let pid = scene.one(n);
    record["target"]["master"]["pid"] = json!(pid);
    std::fs::write(&path, record.to_string())?;
    std::fs::write(scene.nginx.prefix().join("nginx.pid"), pid.to_string())?;
    let (code, last) = scene.agent(&["recover", "--json"])?;
    ensure!(code == Some(0) && scene.nginx.answers(), "not recovered: {last}");
    Ok(())
}

/// A worker bears its master's title until it has its own; it is never taken for a master.
fn forking(scene: &Scene, _n: usize) -> anyhow::Result<()> {
    let master = scene.nginx.master()?;
    let done = AtomicBool::new(false);
    let planned = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = kill(Pid::from_raw(master), Signal::SIGHUP);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let planned =
            scene.agent(&["fail", "--json", "--mode", "crash", "--dry-run", "--pid", &master.to_string()]);
        done.store(true, Ordering::Relaxed);
        planned
    });
    let (code, last) = planned?;
    // A reload in between may have changed what was being read; then it is refused.
    ensure!(code != Some(0) || last["pid"] == master, "another one was meant: {last}");
    let settled = || scene.nginx.workers().len() == 2;
    ensure!(wait_until(LONG, settled), "the workers are {:?}", scene.nginx.workers());
    Ok(())
}

/// The table.
///
/// # Errors
/// When a decoy was touched, or a try didn't go as it should.
pub(super) fn run() -> anyhow::Result<Table> {
    let tries = std::env::var("BENCH_DECOYS").ok().and_then(|t| t.parse().ok()).unwrap_or(TRIES);
    let next = AtomicUsize::new(0);
    let worker = || -> anyhow::Result<()> {
        let scene = Scene::new()?;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= tries {
                return Ok(());
            }
            scene.attempt(n % KINDS.len(), n / KINDS.len())?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        threads
            .into_iter()
            .try_for_each(|t| t.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a try panicked"))))
    })?;
    let mut table = Table::new("fail: signals to decoys", &["what is tried", "tries", "signals to decoys"]);
    for (kind, (what, _)) in KINDS.iter().enumerate() {
        let count = tries / KINDS.len() + usize::from(kind < tries % KINDS.len());
        table.row(&[what, &count, &0]);
    }
    table.note(
        "Decoys: three processes with the master's title (one of them runs the same nginx), an innocent that pid file and \
         record name, strangers' nginx whose configuration is a FIFO, a bomb of includes or a file without an end, an \
         nginx with another configuration, the nginx of a container. A signal to one ends the bench.",
    );
    Ok(table)
}
