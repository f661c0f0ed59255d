//! Drills through the simulated load balancer, and through a real one.

mod cable;
mod day;
mod drain;
mod early;
mod failover;
mod haproxy;
mod history;
mod names;
mod narrow;
mod page;
mod pages;
mod predict;
mod refused;
mod scale;
mod tls;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use world::agent;

/// Far more than anything here takes: a busy machine breaks no test.
const LONG: Duration = Duration::from_secs(60);

/// Runs a command to its end: exit code, JSON lines, stderr.
fn finish(mut command: Command) -> (i32, Vec<Value>, String) {
    let output = command.output().unwrap();
    let mut stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code().is_none() {
        stderr.push_str(&output.status.to_string());
    }
    (output.status.code().unwrap_or(-1), agent::events(&output.stdout), stderr)
}

/// The events of one kind.
fn all<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

/// The last line, which must be the result.
fn result(events: &[Value]) -> &Value {
    let last = events.last().unwrap();
    assert_eq!(last["event"], "result", "{last}");
    last
}

/// What a drill predicts holds where probes and requests are sent in time. On a machine that is busy with other tests they
/// may not be: a drill whose hypothesis fails is tried again, and right is who is right once in three times.
fn up_to_three_times(mut one: impl FnMut() -> Result<(), String>) {
    let failures: Vec<String> = (0..3).map_while(|_| one().err()).collect();
    assert!(failures.len() < 3, "{failures:#?}");
}
