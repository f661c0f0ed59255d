//! Bringing nginx back, by what is observed and not by what was intended: continue what is stopped, wait for what
//! is ending, end what was orphaned, start what is gone, and believe none of it until it answers. Idempotent.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fault::family::{end_orphans, is_ours, verified};
use crate::fault::lease::record::Target;
use crate::fault::plan::unit;
use crate::fault::recovery::compare;
use crate::fault::recovery::start::start;
use crate::nginx::answer::Answer;
use crate::nginx::master::{Known, read_pid, successor};
use crate::sys::attributes::Attributes;
use crate::sys::become_like::adjust;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{self, Identity, Stat};

/// How long nginx may take to start (it retries to bind for 2.5 s) or to answer again.
pub(in crate::fault) const STARTED: Duration = Duration::from_secs(10);
/// How long a master that was told to end may take before it is told so more clearly.
const ENDED: Duration = Duration::from_secs(3);

/// Makes sure that nginx runs and answers; its environment lies in the state folder. Gives what is otherwise than it was
/// before. `Err` says what is in the way. Waits no longer once it is `hopeless`.
pub(in crate::fault) fn restore(
    target: &Target,
    state: &Path,
    is_keeper: &dyn Fn(i32) -> bool,
    hopeless: &dyn Fn() -> bool,
) -> Result<Vec<String>, String> {
    let told = |e: io::Error| e.to_string();
    // A stop that systemd hasn't ended yet would come after us: only another job ends it.
    let stopping = target.unit.as_deref().is_some_and(unit::is_changing);
    if let Some(master) = current(target).filter(|_| !stopping) {
        carry_on(target, master, is_keeper).map_err(told)?;
        // One that was told to end refuses at once; one that was only stopped answers.
        let asked = target.endpoint.ask_until(&target.path, STARTED, |a| {
            a.is_some() || a == Answer::Refused && is_ours(target) || hopeless()
        });
        if !asked.is_some() && hopeless() {
            return Err(answered(target, master, asked));
        }
        match asked {
            answer if answer.is_some() => return verify(target, state, Vec::new()),
            Answer::Refused if is_ours(target) => end_master(target).map_err(told)?,
            answer if master.is_alive() => return Err(answered(target, master, answer)),
            _ => {}
        }
    }
    end_orphans(target).map_err(told)?;
    remove_stale_pid_file(target);
    remove_stale_sockets(target);
    let started = match &target.unit {
        Some(unit) => unit::restart(unit).map(|()| Vec::new()).map_err(|e| e.to_string()),
        None => start(target, state),
    };
    if started.is_ok() {
        target
            .endpoint
            .ask_until(&target.path, STARTED, |a| a.is_some() && current(target).is_some() || hopeless());
    }
    if let (Some(_), Some(attributes), Some(master)) = (&target.unit, &target.attributes, current(target)) {
        // What somebody gave the old one by hand; its workers inherited it, unless they have something of their own.
        let was = Attributes::of(master.pid);
        for worker in proc::children(master.pid) {
            let same = |a: &Attributes| was.as_ref().is_ok_and(|was| was.differences(a).is_empty());
            if Attributes::of(worker).as_ref().is_ok_and(same) {
                adjust(worker, attributes);
            }
        }
        adjust(master.pid, attributes);
    }
    // Where ours could not start another one may have, begun by a recovery that was killed.
    let lacking = started.clone().unwrap_or_default();
    verify(target, state, lacking).map_err(|silent| {
        let unit = target.unit.as_deref().map_or(String::new(), |unit| format!("; {}", unit::state(unit)));
        format!("{}{unit}", started.err().unwrap_or(silent))
    })
}

/// Removes the files of Unix sockets that a killed nginx left behind and nobody listens on: a new one can't bind to them.
fn remove_stale_sockets(target: &Target) {
    use std::os::unix::fs::FileTypeExt;
    for path in &target.listening.unix {
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
        let refused = std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if is_socket && refused {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes a pid file that names another process than this nginx, be it another nginx: an init script's `stop`, which
/// is the first half of `restart`, would signal whoever bears that pid now.
fn remove_stale_pid_file(target: &Target) {
    let named = read_pid(&target.pid_file);
    if named.is_ok_and(|pid| current(target).is_none_or(|master| master.pid != pid)) {
        let _ = std::fs::remove_file(&target.pid_file);
    }
}

/// Only a verified master that answers is a recovery: orphans answer as well, and so does whoever took the port. Gives
/// what is otherwise than it was, with what is known to be `lacking`.
fn verify(target: &Target, state: &Path, lacking: Vec<String>) -> Result<Vec<String>, String> {
    let answer = target.endpoint.ask(&target.path, Duration::from_secs(2));
    let Some(master) = current(target) else {
        return Err(format!(
            "no master with {} runs; {} {answer}",
            target.conf.display(),
            target.endpoint.addr
        ));
    };
    if !answer.is_some() {
        return Err(answered(target, master, answer));
    }
    let mut found = Vec::new();
    // Workers of one start take their connections one after the other.
    let end = Instant::now() + ENDED;
    let mut gone = compare::listeners(target, master);
    while !gone.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        gone = compare::listeners(target, master);
    }
    found.extend(gone);
    let mut otherwise = compare::differences(target, master, state);
    // What couldn't be had says why something is otherwise.
    for what in lacking {
        let name = what.split(": ").next().unwrap_or(&what);
        match otherwise.iter_mut().find(|difference| difference.starts_with(name)) {
            Some(difference) => difference.push_str(&format!(" ({what})")),
            None => otherwise.push(what),
        }
    }
    found.extend(otherwise);
    found.extend(dependents(target));
    Ok(found)
}

/// Starts again what systemd stopped together with nginx, and waits for it; those that don't come up.
fn dependents(target: &Target) -> Vec<String> {
    let down = || target.dependents.iter().filter(|unit| !unit::is_active(unit)).cloned().collect::<Vec<_>>();
    let before = down();
    if before.is_empty() {
        return Vec::new();
    }
    let asked = unit::start_again(&before);
    let end = Instant::now() + STARTED;
    while asked.is_ok() && !down().is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let why = asked.err().map_or(String::new(), |e| format!(": {e}"));
    down()
        .into_iter()
        .map(|unit| format!("{unit} was stopped with nginx and is not active again{why}"))
        .collect()
}

fn answered(target: &Target, master: Identity, answer: Answer) -> String {
    format!("nginx {} {answer} at {}", master.pid, target.endpoint.addr)
}

/// The master that serves this configuration now: the recorded one, or one started since by the same program and user.
fn current(target: &Target) -> Option<Identity> {
    if is_ours(target) {
        return Some(target.master);
    }
    successor(&Known {
        program: &target.exe.path,
        uid: target.credentials.uid,
        pid_file: &target.pid_file,
        args: &target.args,
        listening: &target.listening,
    })
}

/// Continues the master and its workers where they are stopped; those that a keeper of ours holds by ending that
/// one, as nobody but the tracer can let them go, and the kernel does when it dies.
fn carry_on(target: &Target, master: Identity, is_keeper: &dyn Fn(i32) -> bool) -> io::Result<()> {
    let family: Vec<i32> = proc::children(master.pid).into_iter().chain([master.pid]).collect();
    let tracers: BTreeSet<i32> = family.iter().filter_map(|pid| proc::tracer(*pid)).collect();
    for tracer in tracers.into_iter().filter(|pid| is_keeper(*pid)) {
        if let Ok(id) = Identity::of(tracer)
            && let Some(keeper) = Handle::open(id)?.filter(|_| is_keeper(tracer))
        {
            keeper.signal(Signal::KILL)?;
            keeper.wait_end(ENDED);
        }
    }
    let family = family.into_iter();
    for id in family.filter(|pid| Stat::of(*pid).is_ok_and(|s| s.state == 'T')).map(Identity::of) {
        if let Some(process) = verified(target, id?)? {
            process.signal(Signal::CONT)?;
        }
    }
    Ok(())
}

/// Ends a master that was told to stop and hasn't yet.
fn end_master(target: &Target) -> io::Result<()> {
    let Some(master) = verified(target, target.master)? else { return Ok(()) };
    for signal in [Signal::TERM, Signal::KILL] {
        if master.wait_end(ENDED) {
            break;
        }
        master.signal(signal)?;
    }
    if master.wait_end(ENDED) { Ok(()) } else { Err(io::Error::other("the old master does not end")) }
}
