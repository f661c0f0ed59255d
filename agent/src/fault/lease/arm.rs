//! The lease without systemd: a keeper, this same binary in a session of its own, that ends the fault when nobody
//! else does. It is there and waiting before anything is touched, or nothing is touched.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::config::Paths;
use crate::fault::error::FaultError;
use crate::fault::lease::record::Record;
use crate::fault::lease::timer;
use crate::fault::plan::unit;
use crate::sys::clock::since_boot;
use crate::sys::file::{Lock, read_trusted};
use crate::sys::pidfd::Handle;
use crate::sys::proc::{Credentials, Identity, Stat};
use crate::sys::spawn;

/// How long the keeper may take to come up, on a machine whose every CPU burns.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What the keeper says when the fault can be injected.
pub(in crate::fault) const READY: &[u8] = b"ready\n";
/// What it is told when it shall begin with its part, and what it says when it has, before a port.
pub(in crate::fault) const BEGIN: &[u8] = b"begin\n";
pub(in crate::fault) const BEGUN: &str = "begun ";

/// The keeper that was started.
#[derive(Debug)]
pub(in crate::fault) struct Keeper {
    child: Child,
    process: Handle,
    /// What it says; the end of it after that.
    stdout: ChildStdout,
}

impl Keeper {
    /// Its number.
    pub(in crate::fault) fn pid(&self) -> i32 {
        self.process.id.pid
    }

    /// Readable when it has ended.
    pub(in crate::fault) fn ended(&self) -> &Handle {
        &self.process
    }

    /// Waits for its end and reaps it.
    pub(in crate::fault) fn wait(mut self) {
        let _ = self.child.wait();
    }

    /// Lets it begin what only it can do (hold nginx, answer in its place), and waits until it does; the port that it
    /// answers at, or zero.
    pub(in crate::fault) fn begin(&mut self) -> Result<u16, FaultError> {
        let pid = self.pid();
        let failed = |why| FaultError::Inject { what: format!("the part of keeper {pid}"), why };
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
    pub(in crate::fault) fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

/// Starts the keeper of the fault on record and waits until it says that it keeps it. Believes it only after seeing
/// that it leads a session of its own and holds the keepers' lock.
pub(in crate::fault) fn arm(paths: &Paths, record: &Record) -> Result<Keeper, FaultError> {
    let failed = |e: &dyn std::fmt::Display| FaultError::Lease(e.to_string());
    let who = Identity::ours().and_then(|us| Credentials::of(us.pid)).map_err(|e| failed(&e))?;
    // Not by its name: that may be another file's by now, or nobody's.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(std::env::current_exe().unwrap_or_else(|_| "agent".into()));
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

/// The file whose lock a keeper holds, with its identity in it.
pub(in crate::fault) fn keepers_lock(paths: &Paths) -> std::path::PathBuf {
    paths.run.join("keeper.lock")
}

/// Whether a keeper is there.
pub(in crate::fault) fn is_held(paths: &Paths) -> Result<bool, FaultError> {
    let path = keepers_lock(paths);
    let free = Lock::try_take(&path).map_err(|why| FaultError::File { path, why })?;
    Ok(free.is_none())
}

/// The keeper that holds the lock.
pub(in crate::fault) fn keeper(paths: &Paths) -> Option<Identity> {
    let path = keepers_lock(paths);
    let text = read_trusted(&path, 256).ok().flatten()?;
    serde_json::from_slice(&text).ok().filter(|keeper: &Identity| Lock::is_held_by(&path, keeper.pid))
}

/// Tells the keepers there are (the one on record, and the one that holds the lock, unless that is `us`) to look: what
/// they kept is over.
pub(in crate::fault) fn release(paths: &Paths, recorded: Option<Identity>, us: Option<Identity>) {
    let locked = keeper(paths);
    let others = [recorded.filter(|id| Some(*id) != locked), locked];
    for keeper in others.into_iter().flatten().filter(|id| Some(*id) != us) {
        if let Ok(Some(process)) = Handle::open(keeper) {
            let _ = process.signal(Signal::TERM);
        }
    }
}

/// Whether a process is a keeper of this fault: the one on record, the one that holds the keepers' lock, or one that runs
/// the very file that the command ran. Never by a path: that may name another file by now.
pub(in crate::fault) fn is_keeper(paths: &Paths, record: &Record, pid: i32) -> bool {
    let Ok(id) = Identity::of(pid) else { return false };
    record.keeper == Some(id)
        || keeper(paths) == Some(id)
        || record.agent.as_ref().is_some_and(|agent| agent.is_run_by(pid))
}
