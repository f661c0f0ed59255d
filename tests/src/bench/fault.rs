//! What becomes of faults when their makers are killed, and how soon nginx is back.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::Table;
use crate::agent;
use crate::nginx::Nginx;
use crate::place::{Place, wait_until};

/// Deaths of the command, by mode; `BENCH_TRIALS` sets another number.
const TRIALS: usize = 340;
/// Recoveries, by mode.
const RECOVERIES: usize = 50;
const AT_ONCE: usize = 8;
const LONG: Duration = Duration::from_secs(20);
const MODES: [&str; 3] = ["stop", "crash", "hang"];

/// The table.
///
/// # Errors
/// When nginx or the agent doesn't start, or a fault doesn't end.
pub fn run() -> anyhow::Result<Vec<Table>> {
    let trials = std::env::var("BENCH_TRIALS").ok().and_then(|t| t.parse().ok()).unwrap_or(TRIALS);
    let mut killed = Table::new(
        "fail: SIGKILL of the command at a random instant",
        &["mode", "trials", "left 1 s after the deadline", "past the deadline, p50", "p99", "max"],
    );
    for mode in MODES {
        let (late, mut past) = kill_at_random(mode, trials)?;
        killed.row(&[&mode, &trials, &late, &at(&mut past, 50), &at(&mut past, 99), &at(&mut past, 100)]);
    }
    killed.note(format!(
        "{AT_ONCE} trials at once, instants spread over the first 400 ms. Past the deadline: when nginx answers again, \
         with no fault on record. Asked: 0 left, p99 within 1 s."
    ));
    let mut back =
        Table::new("fail: from recovery to the first answer", &["mode", "runs", "p50", "p99", "max"]);
    for mode in MODES {
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

fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// How many faults were left a second after their deadline, and when each was over.
fn kill_at_random(mode: &str, trials: usize) -> anyhow::Result<(usize, Vec<u64>)> {
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
            past.push(one(mode, instant).with_context(|| format!("{mode} killed after {instant:?}"))?);
        }
    };
    let all: Vec<anyhow::Result<Vec<u64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let past: Vec<u64> = all.into_iter().collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect();
    Ok((past.iter().filter(|ms| **ms > 1000).count(), past))
}

/// One fault whose command is killed: milliseconds past the deadline until it is over.
fn one(mode: &str, instant: Duration) -> anyhow::Result<u64> {
    let place = Place::new()?;
    let nginx = Nginx::start(&place, "", "location / { return 200; }")?;
    let conf = nginx.conf.to_string_lossy().into_owned();
    let mut fail = agent::command(&place, &["fail", "--mode", mode, "--secs", "1", "--conf", &conf]);
    let mut child = fail.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(instant);
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    child.wait()?;
    let record = place.join("state/fault.json");
    let deadline = std::fs::read(&record)
        .ok()
        .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok())
        .and_then(|record| record["deadline_boottime_ms"].as_u64())
        .unwrap_or_else(now_ms);
    let keeper = place.join("run/keeper.lock");
    let is_kept = || keeper.metadata().is_ok_and(|m| m.len() > 0);
    if record.exists() && !is_kept() && !wait_until(Duration::from_millis(500), is_kept) {
        // Killed between the record and the keeper: nothing was touched, and the next command clears it.
        wait_until(LONG, || now_ms() > deadline);
        agent::run(&place, &["recover"])?;
    }
    let start = Instant::now();
    while record.exists() || !nginx.answers() {
        ensure!(start.elapsed() < LONG, "the fault is still there");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(now_ms().saturating_sub(deadline))
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
