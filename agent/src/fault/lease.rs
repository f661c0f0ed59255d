//! The lease without systemd: a keeper, this same binary in a session of its own, that ends the fault when nobody
//! else does. It is there and waiting before anything is touched, or nothing is touched.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use super::answerer::answer_with;
use super::error::FaultError;
use super::event::{Told, Why};
use super::hold::hold;
use super::record::{Mode, Record};
use super::recover::{boot_id, end, lock};
use super::{timer, unit};
use crate::config::Paths;
use crate::sys::clock::since_boot;
use crate::sys::file::{Lock, read_trusted};
use crate::sys::pidfd::Handle;
use crate::sys::proc::{Credentials, Exe, Identity, Stat};
use crate::sys::spawn;
use crate::sys::trace::Held;
use crate::sys::wait::{Waiter, Woken};

/// How long the keeper may take to come up, on a machine whose every CPU burns.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What the keeper says when the fault can be injected.
const READY: &[u8] = b"ready\n";
/// What it is told when it shall begin with its part, and what it says when it has, before a port.
const BEGIN: &[u8] = b"begin\n";
const BEGUN: &str = "begun ";
/// How long the command that started the fault is given to end it before the keeper does.
const COURTESY: Duration = Duration::from_millis(300);
/// How long the lock is waited for: longer than the longest recovery.
const OTHERS: Duration = Duration::from_secs(30);

/// The keeper that was started.
#[derive(Debug)]
pub(super) struct Keeper {
    child: Child,
    process: Handle,
    /// What it says; the end of it after that.
    stdout: ChildStdout,
}

impl Keeper {
    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.process.id.pid
    }

    /// Readable when it has ended.
    pub(super) fn ended(&self) -> &Handle {
        &self.process
    }

    /// Waits for its end and reaps it.
    pub(super) fn wait(mut self) {
        let _ = self.child.wait();
    }

    /// Lets it begin what only it can do (hold nginx, answer in its place), and waits until it does; the port that it
    /// answers at, or zero.
    pub(super) fn begin(&mut self) -> Result<u16, FaultError> {
        let pid = self.pid();
        let failed = |source| FaultError::Inject { what: format!("the part of keeper {pid}"), source };
        let stdin = self.child.stdin.take().ok_or_else(|| failed(io::Error::other("no pipe to it")))?;
        (&stdin).write_all(BEGIN).map_err(failed)?;
        let said = read_line(&mut self.stdout);
        match said.as_deref() {
            Some(line) => {
                let line = String::from_utf8_lossy(line);
                let port = line.trim().strip_prefix(BEGUN).and_then(|port| port.parse().ok());
                port.ok_or_else(|| failed(io::Error::other(line.trim().to_owned())))
            }
            None => Err(failed(io::Error::other("it did not answer"))),
        }
    }

    /// Whether it has ended; it is reaped then.
    pub(super) fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

/// Starts the keeper of the fault on record and waits until it says that it keeps it. Believes it only after seeing
/// that it leads a session of its own and holds the keepers' lock.
pub(super) fn arm(paths: &Paths, record: &Record) -> Result<Keeper, FaultError> {
    let failed = |e: &dyn std::fmt::Display| FaultError::Lease(e.to_string());
    let who = Identity::ours().and_then(|us| Credentials::of(us.pid)).map_err(|e| failed(&e))?;
    let program = std::env::current_exe().map_err(|e| failed(&e))?;
    let mut command = Command::new(program);
    command.arg("__keep").arg("--fault").arg(&record.id);
    command.arg("--state").arg(&paths.state).arg("--run").arg(&paths.run).arg("--log").arg(&paths.log);
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = spawn::detached(&mut command, &who).spawn().map_err(|e| failed(&e))?;
    let stdout = child.stdout.take();
    let mut stdout = stdout.ok_or_else(|| failed(&"there is no pipe from it"))?;
    let ready = read_line(&mut stdout).as_deref() == Some(READY);
    let id = Identity::of(child.id().cast_signed()).map_err(|e| failed(&e))?;
    let process = Handle::open(id).map_err(|e| failed(&e))?;
    let process = process.filter(|_| {
        ready && Stat::of(id.pid).is_ok_and(|s| s.session == id.pid) && is_held(paths).unwrap_or(false)
    });
    let timed = if unit::is_booted() { timer::arm(paths, record) } else { Ok(()) };
    match (process, timed) {
        (Some(process), Ok(())) => Ok(Keeper { child, process, stdout }),
        (process, timed) => {
            let _ = child.kill();
            let _ = child.wait();
            let silent = process.is_none().then(|| "it did not say that it is there".to_owned());
            Err(FaultError::Lease(silent.or(timed.err().map(|e| e.to_string())).unwrap_or_default()))
        }
    }
}

/// The next line that the keeper says; `None` when it says none in time.
fn read_line(stdout: &mut ChildStdout) -> Option<Vec<u8>> {
    let mut said = Vec::new();
    let end = since_boot() + HANDSHAKE;
    while !said.ends_with(b"\n") {
        let left = end.saturating_sub(since_boot());
        let timeout = rustix::time::Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&*stdout, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        let mut chunk = [0; 256];
        match stdout.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(n) => said.extend_from_slice(chunk.get(..n)?),
        }
    }
    Some(said)
}

fn keepers_lock(paths: &Paths) -> std::path::PathBuf {
    paths.run.join("keeper.lock")
}

/// Whether a keeper is there.
pub(super) fn is_held(paths: &Paths) -> Result<bool, FaultError> {
    let path = keepers_lock(paths);
    let free = Lock::try_take(&path).map_err(|source| FaultError::File { path, source })?;
    Ok(free.is_none())
}

/// Tells the keeper (unless that is `us`) to look: what it kept is over.
pub(super) fn release(paths: &Paths, us: Option<Identity>) {
    let Ok(Some(text)) = read_trusted(&keepers_lock(paths), 256) else { return };
    let Ok(keeper) = serde_json::from_slice::<Identity>(&text) else { return };
    if Some(keeper) != us
        && let Ok(Some(process)) = Handle::open(keeper)
        && is_agent(keeper.pid)
    {
        let _ = process.signal(Signal::TERM);
    }
}

/// Whether a process runs this same binary.
pub(super) fn is_agent(pid: i32) -> bool {
    matches!((std::env::current_exe(), Exe::of(pid)), (Ok(ours), Ok(theirs)) if ours == theirs.path)
}

/// The keeper's whole life: holds the lease of the fault `id`, says so, waits, and ends it. A recovery that isn't
/// verified is tried again until it is. SIGTERM ends the fault early: the keeper isn't to die with it on record.
///
/// # Errors
/// When there is nothing to keep, or the kernel doesn't let it wait.
pub fn keep(paths: &Paths, id: &str) -> Result<(), FaultError> {
    let waiter = Waiter::new().map_err(FaultError::Wait)?;
    let path = keepers_lock(paths);
    let failed = |source| FaultError::File { path: path.clone(), source };
    let keepers = Lock::take_within(&path, Duration::from_secs(2)).map_err(failed)?;
    let Some(keepers) = keepers else { return Err(FaultError::Busy(Duration::from_secs(2))) };
    let us = Identity::ours().map_err(FaultError::Wait)?;
    keepers.note(&serde_json::to_string(&us).unwrap_or_default()).map_err(failed)?;
    let Some(record) = Record::read(&paths.state)?.filter(|r| r.id == id) else { return Ok(()) };
    say(READY).map_err(FaultError::Wait)?;
    let mut held = match record.mode {
        Mode::Hang | Mode::Error => begin_when_told(&waiter, &record).map_err(FaultError::Wait)?,
        _ => None,
    };
    say_no_more().map_err(FaultError::Wait)?;

    let mut instant = record.deadline();
    let mut wait = Duration::from_millis(250);
    let mut courtesy = true;
    loop {
        let woken = waiter.until(instant, None).map_err(FaultError::Wait)?;
        match Record::read(&paths.state) {
            Ok(Some(r)) if r.id == id => {}
            Ok(_) => return Ok(()),
            // Unreadable is not gone: it is looked at again.
            Err(_) => {}
        }
        if woken == Woken::Time && courtesy && record.holder.is_some_and(|h| h.is_alive()) {
            courtesy = false;
            instant = since_boot() + COURTESY;
            continue;
        }
        let why = if woken == Woken::Time { Why::Deadline } else { Why::Asked };
        drop(held.take());
        match attempt(paths, &record, why) {
            Ok(()) => return Ok(()),
            Err(_) => {
                instant = since_boot() + wait;
                wait = (2 * wait).min(Duration::from_secs(30));
            }
        }
    }
}

/// What the timer does: ends the fault `id`, if it is still on record, as often as it takes.
///
/// # Errors
/// When the kernel doesn't let it wait.
pub fn end_due(paths: &Paths, id: &str) -> Result<(), FaultError> {
    let waiter = Waiter::new().map_err(FaultError::Wait)?;
    let mut wait = Duration::from_millis(250);
    let mut instant = Duration::ZERO;
    loop {
        match Record::read(&paths.state) {
            Ok(Some(record)) if record.id == id => {
                waiter.until(instant.max(record.deadline()), None).map_err(FaultError::Wait)?;
                if attempt(paths, &record, Why::Deadline).is_ok() {
                    return Ok(());
                }
            }
            Ok(_) => return Ok(()),
            Err(_) => drop(waiter.until(instant, None).map_err(FaultError::Wait)?),
        }
        instant = since_boot() + wait;
        wait = (2 * wait).min(Duration::from_secs(30));
    }
}

fn attempt(paths: &Paths, record: &Record, why: Why) -> Result<(), FaultError> {
    let lock = lock_in_spite_of(paths, record)?;
    let why = if record.boot_id == boot_id(paths)? { why } else { Why::Reboot };
    end(paths, &lock, Some(&record.id), why, &mut |_: Told| {}).map(drop)
}

/// Takes the lock. A command that was stopped (Ctrl-Z, a debugger) while holding it would keep the fault alive, so
/// it is ended; so is one that holds it for longer than any recovery lasts.
fn lock_in_spite_of(paths: &Paths, record: &Record) -> Result<Lock, FaultError> {
    let end = since_boot() + OTHERS;
    loop {
        if let Some(lock) = lock(paths, Duration::from_millis(100))? {
            return Ok(lock);
        }
        let Some(holder) = record.holder else { continue };
        let stopped = Stat::of(holder.pid).is_ok_and(|s| matches!(s.state, 'T' | 't'));
        if (stopped || since_boot() > end)
            && let Ok(Some(process)) = Handle::open(holder)
        {
            let _ = process.signal(Signal::KILL);
        }
    }
}

/// Waits until it is told to begin with its part, and does. Nobody tells a keeper that was started later: its fault is over,
/// as the kernel let go of nginx, or refuses connections, since the first one died.
fn begin_when_told(waiter: &Waiter, record: &Record) -> io::Result<Option<Held>> {
    let stdin = io::stdin();
    let Some(target) = &record.target else { return Ok(None) };
    if waiter.until(record.deadline(), Some(stdin.as_fd()))? != Woken::Ready {
        return Ok(None);
    }
    let mut told = [0; 16];
    let n = rustix::io::read(&stdin, &mut told)?;
    if told.get(..n) != Some(BEGIN) {
        return Ok(None);
    }
    let begun = match record.mode {
        Mode::Hang => hold(target, record.deadline()).map(|held| (Some(held), 0)),
        _ => answer_with(record.status.unwrap_or(503)).map(|port| (None, port)),
    };
    match begun {
        Ok((held, port)) => say(format!("{BEGUN}{port}\n").as_bytes()).map(|()| held),
        Err(e) => say(format!("{e}\n").as_bytes()).map(|()| None),
    }
}

/// Says something to the command that started us; nobody need be there to hear it.
fn say(text: &[u8]) -> io::Result<()> {
    match rustix::io::write(io::stdout().as_fd(), text) {
        Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Lets go of the pipe to the command that started us.
fn say_no_more() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
