//! Where systemd runs nginx: which unit it belongs to, and stopping and restarting it as `service` does. Driven
//! through systemctl(1), as systemd 219 already has it.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::sys::run::bounded;

/// Longer than a default stop of systemd takes before it kills (TimeoutStopSec=, 90 s) makes no sense for a fault.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether systemd runs this machine (sd_booted(3)).
pub(in crate::fault) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The unit that a process belongs to, by its control group; `None` for one that was started by hand, and without
/// systemd.
pub(in crate::fault) fn of(pid: i32) -> Option<String> {
    is_booted()
        .then(|| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok())
        .flatten()
        .and_then(|t| unit_in(&t))
}

/// Out of `/proc/PID/cgroup` (cgroups(7)): the unified hierarchy and systemd's own, of which a container may have but
/// one. A user's manager has units of its own that the machine's doesn't know.
fn unit_in(text: &str) -> Option<String> {
    let path = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (hierarchy, path) = rest.split_once(':')?;
        ["", "name=systemd"].contains(&hierarchy).then(|| path.to_owned())
    };
    text.lines().filter_map(path).find_map(|path| {
        let unit = path.split('/').rfind(|part| part.ends_with(".service"))?;
        let fit = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let ours = !path.contains("/user.slice/") && unit.chars().all(fit) && !unit.starts_with('-');
        ours.then(|| unit.to_owned())
    })
}

/// Stops it, as `service nginx stop`; doesn't wait, as that may take as long as the longest download.
pub(in crate::fault) fn stop(unit: &str) -> io::Result<()> {
    systemctl(&["--no-block", "stop", unit], PATIENCE).map(drop)
}

/// Whether a job of systemd's is about to change it, for instance a stop that hasn't ended yet.
pub(in crate::fault) fn is_changing(unit: &str) -> bool {
    property(unit, "Job").is_ok_and(|job| !job.is_empty() && job != "0")
        || property(unit, "ActiveState").is_ok_and(|state| state == "deactivating")
}

/// Restarts it: `start` does nothing for a unit that believes to be active. Doesn't wait, as at boot our own unit may
/// be in the way of the job; whether nginx answers is seen by asking it.
pub(in crate::fault) fn restart(unit: &str) -> io::Result<()> {
    // A unit that failed too often is not started again until it is forgiven (StartLimitBurst=).
    let _ = systemctl(&["reset-failed", unit], PATIENCE);
    systemctl(&["--no-block", "restart", unit], PATIENCE).map(drop)
}

/// A property of a unit, as `systemctl show` tells it.
pub(in crate::fault) fn property(unit: &str, name: &str) -> io::Result<String> {
    let text = systemctl(&["show", "-p", name, unit], PATIENCE)?;
    Ok(text.trim().split_once('=').map_or("", |(_, value)| value).to_owned())
}

/// The unit's `Restart=` when it would undo a SIGKILL (systemd.service(5), its table of causes).
pub(in crate::fault) fn undoes_a_crash(unit: &str) -> io::Result<Option<String>> {
    let restart = property(unit, "Restart")?;
    let undoes = ["always", "on-failure", "on-abnormal", "on-abort"].contains(&restart.as_str());
    Ok(undoes.then_some(restart))
}

/// Whether the unit is started at boot.
pub(in crate::fault) fn is_enabled(unit: &str) -> bool {
    property(unit, "UnitFileState").is_ok_and(|state| state == "enabled")
}

/// What systemd says of a unit that doesn't come up.
pub(in crate::fault) fn state(unit: &str) -> String {
    let get = |name| property(unit, name).unwrap_or_default();
    format!("{unit} is {} ({}), result {}", get("ActiveState"), get("SubState"), get("Result"))
}

/// Runs systemctl.
pub(in crate::fault) fn systemctl(args: &[&str], limit: Duration) -> io::Result<String> {
    run(&["/usr/bin/systemctl", "/bin/systemctl"], args, limit)
}

/// Runs the first of these programs that exists; root's PATH may be anybody's.
pub(in crate::fault) fn run(programs: &[&str], args: &[&str], limit: Duration) -> io::Result<String> {
    let program = programs.iter().find(|path| Path::new(path).exists());
    let program = program.ok_or_else(|| io::Error::other(format!("{} is missing", programs.join(" or "))))?;
    let mut command = Command::new(program);
    command.args(args).env_clear().env("LC_ALL", "C").current_dir("/");
    let done = bounded(&mut command, "", limit)?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let why = done.stderr.lines().next().unwrap_or("failed without a word").to_owned();
    Err(io::Error::other(format!("{program} {}: {why}", args.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_last_service_of_the_path() {
        assert_eq!(unit_in("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        let old = "9:pids:/x\n1:name=systemd:/system.slice/nginx.service\n0::/\n";
        assert_eq!(unit_in(old).as_deref(), Some("nginx.service"));
        let contained = "9:name=systemd:/\n0::/system.slice/nginx.service\n";
        assert_eq!(unit_in(contained).as_deref(), Some("nginx.service"));
        let instance = "0::/system.slice/system-web.slice/web@a\\x2db.service\n";
        assert_eq!(unit_in(instance).as_deref(), Some("web@a\\x2db.service"));
    }

    #[test]
    fn what_was_started_by_hand_or_by_a_user_has_none() {
        for text in [
            "0::/user.slice/user-0.slice/session-1.scope\n",
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service\n",
            "0::/\n",
            "",
            "0::/system.slice/-x y.service\n",
        ] {
            assert_eq!(unit_in(text), None, "{text}");
        }
    }
}
