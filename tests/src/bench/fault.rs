//! What becomes of faults when their makers are killed, and how soon nginx is back.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Table;
use crate::agent;
use crate::cable::Cable;
use crate::client::now_ms;
use crate::daemon::Daemon;
use crate::nginx::Nginx;
use crate::place::{Place, wait_until};

/// Deaths, by mode and by who dies; `BENCH_TRIALS` sets another number.
const TRIALS: usize = 100;
/// Recoveries, by mode.
const RECOVERIES: usize = 50;
const AT_ONCE: usize = 8;
const LONG: Duration = Duration::from_secs(20);
const MODES: [&str; 8] = ["stop", "crash", "hang", "drop", "reject", "error", "unhealthy", "slow"];
/// Those that end without any process of ours but the daemon.
const HELD: [&str; 6] = ["hang", "drop", "reject", "error", "unhealthy", "slow"];
const PACKETS: [&str; 3] = ["drop", "reject", "error"];

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// The command alone.
    Command,
    /// The command and its keeper.
    All,
}

impl Whom {
    fn name(self) -> &'static str {
        match self {
            Self::Command => "the command",
            Self::All => "the command and its keeper",
        }
    }
}

/// The table.
///
/// # Errors
/// When nginx or the agent doesn't start, or a fault doesn't end.
pub fn run() -> anyhow::Result<Vec<Table>> {
    let trials = std::env::var("BENCH_TRIALS").ok().and_then(|t| t.parse().ok()).unwrap_or(TRIALS);
    let mut killed = Table::new(
        "fail: SIGKILL at a random instant",
        &["mode", "killed", "trials", "left 1 s after the deadline", "past the deadline, p50", "p99", "max"],
    );
    for (mode, whom) in MODES.map(|m| (m, Whom::Command)).into_iter().chain(HELD.map(|m| (m, Whom::All))) {
        let mut past = kill_at_random(mode, whom, trials)?;
        let (name, late) = (whom.name(), past.iter().filter(|ms| **ms > 1000).count());
        killed.row(&[
            &mode,
            &name,
            &trials,
            &late,
            &at(&mut past, 50),
            &at(&mut past, 99),
            &at(&mut past, 100),
        ]);
    }
    killed.note(format!(
        "{AT_ONCE} trials at once, instants spread over the first 400 ms. Past the deadline: when nginx, as its clients \
         see it, or /health answers again; where only the command is killed, with no fault on record as well. Asked: 0 \
         left, p99 within 1 s; within 250 ms where the kernel holds the end. With all of ours killed, without systemd, a \
         stop or a crash lasts until the next command."
    ));
    let mut back =
        Table::new("fail: from recovery to the first answer", &["mode", "runs", "p50", "p99", "max"]);
    for mode in ["stop", "crash", "hang"] {
        let mut took = recoveries(mode)?;
        back.row(&[&mode, &took.len(), &at(&mut took, 50), &at(&mut took, 99), &at(&mut took, 100)]);
    }
    back.note("Without a service manager. Asked: p99 within 250 ms.");
    Ok(vec![killed, back, super::decoys::run()?])
}

fn at(values: &mut [u64], percent: usize) -> String {
    values.sort_unstable();
    let index = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(index).map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"))
}

/// When each fault was over.
fn kill_at_random(mode: &str, whom: Whom, trials: usize) -> anyhow::Result<Vec<u64>> {
    let next = AtomicUsize::new(0);
    let worker = || -> anyhow::Result<Vec<u64>> {
        let mut past = Vec::new();
        loop {
            let trial = next.fetch_add(1, Ordering::Relaxed);
            if trial >= trials {
                return Ok(past);
            }
            // 173 and 400 have no common divisor: every instant comes up, in no order.
            let instant = Duration::from_millis((trial * 173 % 400) as u64);
            past.push(one(mode, whom, instant).with_context(|| format!("{mode} killed after {instant:?}"))?);
        }
    };
    let all: Vec<anyhow::Result<Vec<u64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    Ok(all.into_iter().collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// One fault whose makers are killed: milliseconds past the deadline until it is over.
fn one(mode: &str, whom: Whom, instant: Duration) -> anyhow::Result<u64> {
    let stage = Stage::new(mode)?;
    let mut fail = stage.fail(mode);
    let mut child = fail.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(instant);
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    child.wait()?;
    if whom == Whom::All {
        stage.kill_all()?;
    }
    let record = stage.place().join("state/fault.json");
    let deadline = std::fs::read(&record)
        .ok()
        .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok())
        .and_then(|record| record["deadline_boottime_ms"].as_u64())
        .unwrap_or_else(now_ms);
    let keeper = stage.place().join("run/keeper.lock");
    let is_kept = || keeper.metadata().is_ok_and(|m| m.len() > 0);
    let unkept = || !is_kept() && !wait_until(Duration::from_millis(500), is_kept);
    if whom == Whom::Command && record.exists() && unkept() {
        // Killed between the record and the keeper: nothing was touched, and the next command clears it.
        wait_until(LONG, || now_ms() > deadline);
        stage.recover()?;
    }
    let start = Instant::now();
    while whom == Whom::Command && record.exists() || !stage.serves() {
        ensure!(start.elapsed() < LONG, "the fault is still there");
        std::thread::sleep(Duration::from_millis(2));
    }
    let past = now_ms().saturating_sub(deadline);
    stage.recover()?;
    ensure!(!record.exists() && wait_until(LONG, || stage.serves()), "it was not cleared up");
    Ok(past)
}

/// Where a fault is made.
#[allow(clippy::large_enum_variant)] // there are eight of them at a time
enum Stage {
    /// nginx on this machine, and the daemon where `/health` is what fails.
    Here { daemon: Option<Daemon>, nginx: Nginx, place: Place },
    /// nginx behind a cable, where packets are what fails.
    There(Cable),
}

impl Stage {
    fn new(mode: &str) -> anyhow::Result<Self> {
        if PACKETS.contains(&mode) {
            return Ok(Self::There(Cable::new()?.context("no namespaces or no nft here")?));
        }
        let place = Place::new()?;
        let nginx = Nginx::start(&place, "", "location / { return 200; }")?;
        let health = ["unhealthy", "slow"].contains(&mode);
        let url = format!("--nginx-url=http://{}/", nginx.addr);
        let daemon = health.then(|| Daemon::start(&place, &[&url])).transpose()?;
        if let Some(daemon) = &daemon {
            daemon.wait_for(200, LONG)?;
        }
        Ok(Self::Here { daemon, nginx, place })
    }

    fn place(&self) -> &Place {
        match self {
            Self::Here { place, .. } => place,
            Self::There(cable) => &cable.place,
        }
    }

    fn fail(&self, mode: &str) -> Command {
        match self {
            Self::There(cable) => cable.fail(&format!("--mode {mode} --secs 1")),
            Self::Here { daemon: Some(daemon), place, .. } => {
                let mut fail = agent::command(place, &["fail", "--mode", mode, "--secs", "1"]);
                fail.env("AGENT_SERVE_ADMIN", daemon.admin.to_string());
                fail
            }
            Self::Here { nginx, place, .. } => {
                let conf = nginx.conf.to_string_lossy();
                agent::command(place, &["fail", "--mode", mode, "--secs", "1", "--conf", &conf])
            }
        }
    }

    /// Kills every process of ours but the daemon, whose `/health` is what is looked at.
    fn kill_all(&self) -> anyhow::Result<()> {
        let spared = match self {
            Self::Here { daemon: Some(daemon), .. } => daemon.process.pid(),
            _ => 0,
        };
        let left = || agent::processes(self.place()).into_iter().filter(|pid| *pid != spared).collect();
        let gone = || {
            let left: Vec<i32> = left();
            for pid in &left {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            left.is_empty()
        };
        ensure!(wait_until(LONG, gone), "agents are left");
        Ok(())
    }

    fn recover(&self) -> anyhow::Result<()> {
        let mut recover = match self {
            Self::Here { place, .. } => agent::command(place, &["recover"]),
            Self::There(cable) => cable.recover(),
        };
        let output = recover.output()?;
        ensure!(output.status.success(), "recover: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Whether nobody would notice anything.
    fn serves(&self) -> bool {
        const PROMPT: Duration = Duration::from_millis(500);
        match self {
            Self::Here { daemon: Some(daemon), .. } => {
                daemon.health().is_ok_and(|answer| answer.status == 200 && answer.took < PROMPT)
            }
            Self::Here { nginx, .. } => nginx.answers(),
            Self::There(cable) => cable.get_within(Duration::from_millis(30)).is_ok_and(|s| s == 200),
        }
    }
}

/// `first_ok_after_ms` of faults that end undisturbed.
fn recoveries(mode: &str) -> anyhow::Result<Vec<u64>> {
    let place = Place::new()?;
    let nginx = Nginx::start(&place, "", "location / { return 200; }")?;
    let conf = nginx.conf.to_string_lossy().into_owned();
    let fault = ["fail", "--json", "--detach", "--mode", mode, "--secs", "60", "--conf", &conf];
    let mut took = Vec::new();
    for _ in 0..RECOVERIES {
        ensure!(agent::run(&place, &fault)?.status.success(), "no fault");
        let events = agent::events(&agent::run(&place, &["recover", "--json"])?.stdout);
        let last = events.last().context("no result")?;
        took.push(last["first_ok_after_ms"].as_u64().context("not recovered")?);
    }
    Ok(took)
}
