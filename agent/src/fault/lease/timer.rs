//! The lease with systemd: a transient timer that belongs to PID 1 and so outlives every process of ours, the session
//! that started them, and the service that they run in. Beside the keeper, not in its place.

use std::io;
use std::time::Duration;

use crate::config::Paths;
use crate::fault::lease::record::Record;
use crate::fault::plan::unit::{property, run, systemctl};
use crate::sys::clock::since_boot;

const PATIENCE: Duration = Duration::from_secs(10);
/// The command and the keeper come first; the timer is for when neither is left.
const AFTER: Duration = Duration::from_millis(400);

/// The timer of a fault; its id is digits and dashes.
fn name(record: &Record) -> String {
    format!("asg-agent-fault-{}", record.id)
}

/// Arms it, where it isn't armed already, and reads back that it is.
pub(in crate::fault) fn arm(paths: &Paths, record: &Record) -> io::Result<()> {
    let timer = format!("{}.timer", name(record));
    if property(&timer, "ActiveState")? == "active" {
        return Ok(()); // for another keeper
    }
    let left = record.deadline().saturating_sub(since_boot()) + AFTER;
    let (unit, agent) = (format!("--unit={}", name(record)), std::env::current_exe()?);
    let active = format!("--on-active={}ms", left.as_millis());
    let path = |p: &std::path::Path| p.to_string_lossy().into_owned();
    let (agent, state, at, log) = (path(&agent), path(&paths.state), path(&paths.run), path(&paths.log));
    let args = [
        // The default accuracy is a minute (systemd.timer(5)).
        &unit,
        &active,
        "--timer-property=AccuracySec=100ms",
        "--property=KillMode=process",
        &agent,
        "__keep",
        "--due",
        "--fault",
        &record.id,
        "--state",
        &state,
        "--run",
        &at,
        "--log",
        &log,
    ];
    run(&["/usr/bin/systemd-run", "/bin/systemd-run"], &args, PATIENCE)?;
    match property(&timer, "ActiveState")?.as_str() {
        "active" => Ok(()),
        other => Err(io::Error::other(format!("{timer} is {other}"))),
    }
}

/// Takes it away; one that fires all the same finds nothing on record.
pub(in crate::fault) fn disarm(record: &Record) {
    let _ = systemctl(&["--no-block", "stop", &format!("{}.timer", name(record))], PATIENCE);
}
