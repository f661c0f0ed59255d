//! The lease with systemd: a transient timer that belongs to PID 1 and so outlives every process of ours, the session
//! that started them, and the service that they run in. Beside the keeper, not in its place.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, linkat, statvfs};

use crate::config::Paths;
use crate::fault::lease::record::Record;
use crate::fault::plan::unit::{property, run, systemctl};
use crate::sys::clock::since_boot;
use crate::sys::file;

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
    let (unit, agent) = (format!("--unit={}", name(record)), program(paths)?);
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

/// What it runs: a name of our own for the very file that we run, so that it is there, and the same, whatever becomes of
/// the one that we were started by. Where that can't be had (another file system, one where nothing may be run), that one.
fn program(paths: &Paths) -> io::Result<PathBuf> {
    let own = link(paths);
    let may_run = || statvfs(&paths.state).is_ok_and(|s| !s.f_flag.contains(StatVfsMountFlags::NOEXEC));
    let _ = file::unlink(&own);
    let linked = linkat(CWD, "/proc/self/exe", CWD, &own, AtFlags::SYMLINK_FOLLOW);
    if linked.is_ok() && may_run() { Ok(own) } else { std::env::current_exe() }
}

/// Called as the program is: `ps` and `pkill` know it by that name.
fn link(paths: &Paths) -> PathBuf {
    paths.state.join("agent")
}

/// Takes it away; one that fires all the same finds nothing on record.
pub(in crate::fault) fn disarm(paths: &Paths, record: &Record) {
    let _ = file::unlink(&link(paths));
    let _ = systemctl(&["--no-block", "stop", &format!("{}.timer", name(record))], PATIENCE);
}
