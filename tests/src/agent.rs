//! The real `agent` binary, run in a place of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::place::Place;

/// The binary under test: `AGENT_BIN`, else the one that `cargo build` left beside this program.
///
/// # Panics
/// When its sources are newer than it.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("AGENT_BIN").map_or_else(built, PathBuf::from)).clone()
}

fn built() -> PathBuf {
    let us = std::env::current_exe().unwrap_or_default();
    let binary = us
        .ancestors()
        .map(|folder| folder.join("agent"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| "agent".into());
    let stale = changed(&binary) < newest_source(&binary);
    assert!(!stale, "{} is older than its sources: cargo build --workspace", binary.display());
    binary
}

/// When the newest of its sources was changed, which cargo names in a file beside it.
fn newest_source(binary: &Path) -> Option<SystemTime> {
    let sources = fs::read_to_string(binary.with_extension("d")).ok()?;
    sources.split_whitespace().skip(1).filter_map(|source| changed(Path::new(source))).max()
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

/// A command line of the agent whose state, run and log folders and configuration lie in `place`. The environment
/// is empty but for `PATH`.
pub fn command(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    for (name, folder) in [("STATE", "state"), ("RUN", "run"), ("LOG", "log")] {
        command.env(format!("AGENT_PATHS_{name}"), place.join(folder));
    }
    // On an instance of EC2 the hardware would tell who it is.
    command.env("AGENT_IDENTITY_HARDWARE", place.join("asset-tag"));
    let config = place.join("agent.toml");
    if config.is_file() {
        command.env("AGENT_CONFIG", config);
    }
    command.args(args).current_dir(place.path()).stdin(Stdio::null());
    command
}

/// Writes the configuration that the next [`command`] of this place reads.
///
/// # Errors
/// When it can't be written.
pub fn configure(place: &Place, toml: &str) -> std::io::Result<()> {
    fs::write(place.join("agent.toml"), toml)
}

/// Runs a command line to its end.
///
/// # Errors
/// When the binary isn't there.
pub fn run(place: &Place, args: &[&str]) -> anyhow::Result<Output> {
    command(place, args).output().with_context(|| format!("{}: run `cargo build` first", binary().display()))
}

/// The JSON lines of an output.
pub fn events(stdout: &[u8]) -> Vec<Value> {
    stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// An agent that runs beside the test. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Mutex<Receiver<String>>,
    stderr: PathBuf,
}

impl Running {
    /// Starts a command line; its stderr goes to a file in the place.
    ///
    /// # Errors
    /// When the binary isn't there.
    pub fn start(place: &Place, args: &[&str]) -> anyhow::Result<Self> {
        Self::spawn(place, command(place, args))
    }

    /// Starts a command made by [`command`] and changed since.
    ///
    /// # Errors
    /// When the binary isn't there.
    pub fn spawn(place: &Place, mut command: Command) -> anyhow::Result<Self> {
        let stderr = tempfile::Builder::new().prefix("stderr-").tempfile_in(place.path())?.keep()?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr.0)
            .spawn()
            .with_context(|| format!("{}: run `cargo build` first", binary().display()))?;
        let (lines, stdout) = channel();
        let pipe = child.stdout.take().context("no stdout")?;
        std::thread::spawn(move || {
            BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Ok(Self { child, stdout: Mutex::new(stdout), stderr: stderr.1 })
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> nix::Result<()> {
        kill(Pid::from_raw(self.pid()), signal)
    }

    /// The next line of its stdout; `None` when it closed it.
    ///
    /// # Errors
    /// When none comes within `limit`.
    pub fn line(&self, limit: Duration) -> anyhow::Result<Option<String>> {
        let stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        match stdout.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("no line within {limit:?}; stderr: {}", self.stderr()),
        }
    }

    /// Waits for the JSON line whose `event` is `name`.
    ///
    /// # Errors
    /// When it doesn't come within `limit`, or the process ends before.
    pub fn event(&self, name: &str, limit: Duration) -> anyhow::Result<Value> {
        let end = Instant::now() + limit;
        while let Some(line) = self.line(end.saturating_duration_since(Instant::now()))? {
            match serde_json::from_str::<Value>(&line) {
                Ok(event) if event["event"] == name => return Ok(event),
                _ => {}
            }
        }
        bail!("ended without the event {name}; stderr: {}", self.stderr())
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it doesn't end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("still runs after {limit:?}; stderr: {}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it doesn't end within 10 s.
    pub fn end(mut self, signal: Signal) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(Duration::from_secs(10))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes of ours in a place: the agent's, not nginx's.
pub fn processes(place: &Place) -> Vec<i32> {
    let ours = binary();
    let runs_agent = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == ours);
    place.processes().into_iter().filter(runs_agent).collect()
}

/// Whether a file's text, once it exists, contains `text`.
pub fn file_contains(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|all| all.contains(text))
}
