//! `agent probes`: the tail under frozen readers and real rotations, the verdict against truths made by hand.

mod daemon;
mod logs;
mod poll;
mod shapes;
mod tail;
mod verdict;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use world::agent::{Running, events, run};
use world::place::Place;

const LIMIT: Duration = Duration::from_secs(20);
/// The moment at which logs made by hand begin.
const START: i64 = 1_700_000_000;

/// A line of `combined`: who, at which second, which path, as whom.
fn line(node: &str, second: i64, path: &str, agent: &str) -> String {
    let at = jiff::Timestamp::from_second(second).unwrap().strftime("%d/%b/%Y:%H:%M:%S +0000");
    format!("{node} - - [{at}] \"GET {path} HTTP/1.1\" 200 5 \"-\" \"{agent}\"\n")
}

fn probe(node: &str, second: i64, path: &str) -> String {
    line(node, second, path, "ELB-HealthChecker/2.0")
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

/// A probe whose path is its number, now.
fn numbered(log: &mut File, number: u32) {
    let now = jiff::Timestamp::now().as_second();
    log.write_all(probe("10.0.0.1", now, &format!("/{number}")).as_bytes()).unwrap();
}

/// Runs `agent probes --log LOG --json` with more flags; the exit code, the probes, the verdict.
fn judge(place: &Place, log: &Path, flags: &[&str]) -> (i32, usize, Value) {
    let args = [&["probes", "--json", "--log", log.to_str().unwrap()], flags].concat();
    let output = run(place, &args).unwrap();
    let events = events(&output.stdout);
    let verdict = events.last().cloned().unwrap_or_default();
    let probes = events.iter().filter(|e| e["event"] == "probe").count();
    (output.status.code().unwrap(), probes, verdict)
}

fn write_log(place: &Place, lines: impl IntoIterator<Item = String>) -> PathBuf {
    let path = place.join("access.log");
    fs::write(&path, lines.into_iter().collect::<String>()).unwrap();
    path
}

/// A follower of `log` that has read all that is there.
fn follow(place: &Place, log: &Path) -> Running {
    Running::start(place, &["probes", "--json", "--log", log.to_str().unwrap(), "--follow", "--from-start"])
        .unwrap()
}

/// The paths of probes until the one called `last`.
fn paths(agent: &Running, last: &str) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let event = agent.event("probe", LIMIT).unwrap();
        let path = event["path"].as_str().unwrap().to_owned();
        found.push(path.clone());
        if path == last {
            return found;
        }
    }
}
