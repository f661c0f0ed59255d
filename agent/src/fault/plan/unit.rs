//! Where systemd runs nginx: which unit it belongs to, and stopping and restarting it as `service` does. Driven
//! through systemctl(1), as systemd 219 already has it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::nginx::master::{Master, read_pid};
use crate::sys::file::read_trusted;
use crate::sys::proc::Stat;
use crate::sys::run::bounded;

/// Longer than a default stop of systemd takes before it kills (TimeoutStopSec=, 90 s) makes no sense for a fault.
const PATIENCE: Duration = Duration::from_secs(20);
/// For who must not wait.
const BRIEF: Duration = Duration::from_secs(2);

/// Whether systemd runs this machine (sd_booted(3)).
pub(in crate::fault) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether this machine is being shut down or rebooted: systemd refuses to start anything then, and waits for every
/// process, by default for 90 s (`DefaultTimeoutStopSec=`). All ways down lead through one target (bootup(7)); behind it
/// process 1 is systemd-shutdown(8), which nobody can ask.
pub(in crate::fault) fn is_going_down() -> bool {
    let first = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    // The kernel keeps 15 bytes of a name (proc_pid_comm(5)).
    if first.trim_end() == "systemd-shutdow" {
        return true;
    }
    let said = || properties_within("shutdown.target", &["ActiveState", "Job"], BRIEF).unwrap_or_default();
    is_booted()
        && said().iter().any(|(name, value)| match name.as_str() {
            "Job" => !["", "0"].contains(&value.as_str()),
            _ => ["active", "activating"].contains(&value.as_str()),
        })
}

/// The unit whose main process nginx is, as systemd says (`MainPID=`, or what its `PIDFile=` names); `None` for one that
/// was started by hand, whosever control group it sits in.
///
/// An init script names systemd no process (systemd-sysv-generator(8)): it counts where its text names this nginx, and
/// nothing but this nginx runs in its unit.
///
/// # Errors
/// When systemd doesn't say.
pub(in crate::fault) fn of(master: &Master) -> io::Result<Option<String>> {
    let pid = master.id.pid;
    let Some(unit) = is_booted().then(|| cgroup_unit(pid)).flatten() else { return Ok(None) };
    let said = properties(&unit, &["MainPID", "PIDFile", "SourcePath"])?;
    let get = |name: &str| said.get(name).map(String::as_str).unwrap_or_default();
    let is_named = || read_pid(Path::new(get("PIDFile"))).is_ok_and(|named| named == pid);
    let is_its = get("MainPID").parse() == Ok(pid)
        || !get("PIDFile").is_empty() && is_named()
        || get("SourcePath").starts_with("/etc/") && is_its_script(Path::new(get("SourcePath")), master);
    Ok(is_its.then_some(unit))
}

/// Whether an init script starts this very nginx, and nothing else is left of what it started.
fn is_its_script(script: &Path, master: &Master) -> bool {
    let Ok(Some(text)) = read_trusted(script, 1 << 20) else { return false };
    let text = String::from_utf8_lossy(&text);
    let names = |path: &Path| path.to_str().is_some_and(|path| text.contains(path));
    let pid = master.id.pid;
    let family = |other: &i32| *other == pid || Stat::of(*other).is_ok_and(|s| s.parent == pid);
    (names(&master.exe.path) || names(&master.conf) || names(&master.pid_file))
        && std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|ours| {
            let same = |other: &i32| {
                std::fs::read_to_string(format!("/proc/{other}/cgroup")).is_ok_and(|theirs| theirs == ours)
            };
            crate::sys::proc::pids().iter().filter(|other| same(other)).all(family)
        })
}

/// The service in whose control group a process is.
pub(in crate::fault) fn cgroup_unit(pid: i32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok().and_then(|text| unit_in(&text))
}

/// The units that systemd stops together with this one and that are active: what requires it, is bound to it or part of
/// it (systemd.unit(5)), and what depends on those in turn.
///
/// # Errors
/// When systemd doesn't say.
pub(in crate::fault) fn dependents(unit: &str) -> io::Result<Vec<String>> {
    const BACKWARDS: [&str; 4] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"];
    let mut found: Vec<String> = Vec::new();
    let mut next = vec![unit.to_owned()];
    while let Some(unit) = next.pop() {
        let said = properties(&unit, &BACKWARDS)?;
        for name in said.values().flat_map(|all| all.split_ascii_whitespace()) {
            if name == unit || found.iter().any(|known| known == name) || !is_active(name) {
                continue;
            }
            found.push(name.to_owned());
            next.push(name.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether systemd calls a unit active.
pub(in crate::fault) fn is_active(unit: &str) -> bool {
    property(unit, "ActiveState")
        .is_ok_and(|state| ["active", "activating", "reloading"].contains(&state.as_str()))
}

/// Starts those again; doesn't wait, as at boot our own unit may be in the way.
pub(in crate::fault) fn start_again(units: &[String]) -> io::Result<()> {
    let mut args = vec!["--no-block", "start", "--"];
    args.extend(units.iter().map(String::as_str));
    systemctl(&args, PATIENCE).map(drop)
}

/// Where the lines of `/proc/PID/cgroup` say that systemd keeps a process: of its two hierarchies a container may have
/// but one.
pub(in crate::fault) fn kept_at(lines: &[String]) -> Option<&str> {
    let paths = || lines.iter().filter_map(|line| managed_path(line));
    let is_systemds = |path: &&str| [".service", ".scope", ".slice"].iter().any(|kind| path.contains(kind));
    paths().find(is_systemds).or_else(|| paths().next())
}

/// The path of a line of `/proc/PID/cgroup` in the hierarchy that systemd manages.
fn managed_path(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(':')?;
    let (hierarchy, path) = rest.split_once(':')?;
    ["", "name=systemd"].contains(&hierarchy).then_some(path)
}

/// Out of `/proc/PID/cgroup` (cgroups(7)): the unified hierarchy and systemd's own, of which a container may have but
/// one. A user's manager has units of its own that the machine's doesn't know.
fn unit_in(text: &str) -> Option<String> {
    text.lines().filter_map(managed_path).find_map(|path| {
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

/// Several properties of a unit.
fn properties(unit: &str, names: &[&str]) -> io::Result<BTreeMap<String, String>> {
    properties_within(unit, names, PATIENCE)
}

fn properties_within(unit: &str, names: &[&str], limit: Duration) -> io::Result<BTreeMap<String, String>> {
    let text = systemctl(&["show", "-p", &names.join(","), "--", unit], limit)?;
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(text.lines().filter_map(pair).collect())
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
