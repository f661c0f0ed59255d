//! Starting an nginx that no service manager runs, as it was started before; and a rehearsal of that.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::launch::{Launch, ourselves, report};
use super::restore::STARTED;
use super::{environment, outputs};
use crate::fault::plan::unit;
use crate::fault::record::Target;
use crate::sys::become_like::cgroup_folders;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{self, Identity};
use crate::sys::run::bounded;

/// Where distributions keep it; root's PATH may be anybody's.
const SYSTEMD_RUN: [&str; 2] = ["/usr/bin/systemd-run", "/bin/systemd-run"];
/// How long a scope may take to go whose last process has ended.
const GOING: Duration = Duration::from_secs(3);
const NO_SCOPE: &str = "could not be started in a scope of its own";
/// A configuration with a thousand servers and their certificates takes a few seconds.
const TESTED: Duration = Duration::from_secs(20);

/// Starts nginx as [`start_once`]. The scope that the old one had may take a moment to go.
pub(super) fn start(target: &Target, state: &Path) -> Result<Vec<String>, String> {
    let end = Instant::now() + GOING;
    loop {
        match start_once(target, state) {
            Err(e) if e.contains(NO_SCOPE) && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(100));
            }
            started => return started,
        }
    }
}

/// Starts nginx as it was started before, with the environment that was kept of it in the state folder. Gives what it
/// doesn't get that it had.
fn start_once(target: &Target, state: &Path) -> Result<Vec<String>, String> {
    let program = &target.exe.path;
    let failed = |e: io::Error| format!("{} could not be started: {e}", program.display());
    if !proc::is_trusted_program(program) {
        return Err(format!("{} is missing, or others than root can replace it", program.display()));
    }
    let variables = environment::kept(state);
    let mut launch = Launch::of(target, &variables);
    let mut lacking = Vec::new();
    let scope = match place_of(target) {
        Place::Groups(groups) => {
            launch.groups = groups;
            None
        }
        Place::Scope(name) => Some(name),
    };
    let said = memory("stderr").map_err(failed)?;
    let attributes = target.attributes.as_ref();
    let own_log = attributes.is_none_or(|a| a.logs_itself);
    let mut output = |what: &str, link: Option<&str>| -> io::Result<Stdio> {
        let Some(link) = link else { return Ok(outputs::null()?.into()) };
        outputs::again(link).map(Stdio::from).or_else(|e| {
            lacking.push(format!("{what} goes nowhere: {e}"));
            Ok(outputs::null()?.into())
        })
    };
    let stdout = output("stdout", attributes.map(|a| a.stdout.as_str())).map_err(failed)?;
    let stderr = if own_log {
        said.try_clone().map_err(failed)?.into()
    } else {
        output("stderr", attributes.map(|a| a.stderr.as_str())).map_err(failed)?
    };
    let memory = input(&launch).map_err(failed)?;
    let mut command = command(scope.as_deref());
    command.stdin(memory.try_clone().map_err(failed)?).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().map_err(failed)?;
    let id = Identity::of(child.id().cast_signed()).map_err(failed)?;
    if let Some(process) = Handle::open(id).map_err(failed)? {
        // One that stays in the foreground is asked whether it answers; it has to be there at least.
        let end = Instant::now() + STARTED;
        let begun = |process: &Handle| {
            target.foreground && report(&memory).is_some() && !process.wait_end(Duration::from_millis(50))
        };
        while !process.wait_end(Duration::from_millis(5)) && !begun(&process) {
            if Instant::now() > end {
                return Err(format!(
                    "{} has not become a daemon within {} s",
                    program.display(),
                    STARTED.as_secs()
                ));
            }
        }
        if !process.wait_end(Duration::ZERO) {
            lacking.extend(report(&memory).unwrap_or_default().lacking);
            return Ok(lacking);
        }
    }
    let ended = child.wait().map_err(failed)?;
    let told = report(&memory);
    if told.is_none() && scope.is_some() {
        return Err(format!("{} {NO_SCOPE}: systemd-run: {ended}", program.display()));
    }
    let told = told.unwrap_or_default();
    lacking.extend(told.lacking);
    if ended.success() {
        return Ok(lacking);
    }
    let said = super::launch::text_of(&said);
    let reason = told.failed.or_else(|| emergency(&said)).or_else(|| rehearse(target, &variables).err());
    Err(failed(io::Error::other(reason.unwrap_or_else(|| "it said nothing".to_owned()))))
}

/// Lets nginx itself test whether it could start: its own program, user, limits, folder, environment and
/// configuration (`nginx -t`). Gives what it wouldn't get that it has.
pub(in crate::fault) fn rehearse(
    target: &Target,
    variables: &[(std::ffi::OsString, std::ffi::OsString)],
) -> Result<Vec<String>, String> {
    let program = target.exe.path.display();
    if !proc::is_trusted_program(&target.exe.path) {
        return Err(format!("{program} is missing, or others than root can replace it"));
    }
    let mut launch = Launch::of(target, variables);
    launch.args.push("-t".into());
    launch.tell = true;
    let done =
        bounded(&mut command(None), &launch.text(), TESTED).map_err(|e| format!("`{program} -t`: {e}"))?;
    if done.status.success() {
        return Ok(done.stdout.lines().map(str::to_owned).collect());
    }
    Err(emergency(&done.stderr).unwrap_or_else(|| format!("`{program} -t` ends with {}", done.status)))
}

/// What nginx gave as its reason, without the time and the process that it may have put before it.
fn emergency(said: &str) -> Option<String> {
    let line = said
        .lines()
        .find(|l| l.contains("[emerg]"))
        .or_else(|| said.lines().find(|l| !l.trim().is_empty()))?;
    let reason = line.split_once("[emerg]").map_or(line, |(_, reason)| reason).trim();
    let numbers = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '#');
    let reason =
        reason.split_once(": ").filter(|(process, _)| numbers(process)).map_or(reason, |(_, rest)| rest);
    Some(reason.to_owned())
}

/// `agent __start`, in a scope of its own where it has a name for one.
fn command(scope: Option<&str>) -> Command {
    let program = SYSTEMD_RUN.into_iter().find(|path| Path::new(path).exists());
    let mut command = match (scope, program) {
        (Some(scope), Some(program)) => {
            let mut command = Command::new(program);
            command.args(["--scope", "--quiet", "--collect"]).arg(format!("--unit={scope}")).arg(ourselves());
            command
        }
        _ => Command::new(ourselves()),
    };
    command.arg("__start").env_clear().current_dir("/");
    command
}

/// Where it shall run.
enum Place {
    /// In these control groups; none of them: where we are.
    Groups(Vec<std::path::PathBuf>),
    /// In a scope of its own, so that it ends with no service, ours or another's.
    Scope(String),
}

fn place_of(target: &Target) -> Place {
    let lines = target.attributes.as_ref().map(|a| a.cgroup.clone()).unwrap_or_default();
    let groups = cgroup_folders(&lines);
    if !unit::is_booted() {
        return Place::Groups(groups);
    }
    let managed = unit::kept_at(&lines);
    let mut name = DefaultHasher::new();
    target.conf.hash(&mut name);
    let name = format!("asg-agent-nginx-{:016x}.scope", name.finish());
    // One of ours goes with its last process, perhaps only in a moment.
    if managed.is_some_and(|path| path.ends_with(&name)) {
        return Place::Scope(name);
    }
    let is_session = managed.is_some_and(|path| path.ends_with(".scope") || !path.contains(".service"));
    if is_session && !groups.is_empty() && groups.len() == lines.len() {
        return Place::Groups(groups);
    }
    Place::Scope(name)
}

/// What will be otherwise around it when we start it; a line each.
pub(in crate::fault) fn surroundings(target: &Target) -> Vec<String> {
    let Some(attributes) = target.attributes.as_ref().filter(|_| target.unit.is_none()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if let Place::Scope(name) = place_of(target) {
        let at = unit::kept_at(&attributes.cgroup).unwrap_or("no control group");
        if !at.ends_with(&name) {
            found.push(format!(
                "no unit runs it, it only sits in {at}: it comes back in a scope of its own, {name}"
            ));
        }
    }
    let outputs = [("stdout", &attributes.stdout), ("stderr", &attributes.stderr)];
    let own = |what: &str| what == "stderr" && attributes.logs_itself;
    for (what, link) in outputs.into_iter().filter(|(what, _)| !own(what)) {
        if let Err(e) = outputs::again(link) {
            found.push(format!("its {what} could not be had again: {e}"));
        }
    }
    found
}

fn memory(name: &str) -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?))
}

fn input(launch: &Launch) -> io::Result<File> {
    use std::io::Write;
    let mut memory = memory("start")?;
    memory.write_all(launch.text().as_bytes())?;
    Ok(memory)
}
