//! What it takes to run nginx as it was run before, and the process that does it: `agent __start` takes on what the old
//! master had and becomes nginx. A process of its own, as none of that may happen to the one that waits for it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::environment;
use crate::fault::record::Target;
use crate::sys::attributes::Attributes;
use crate::sys::become_like::{become_like, join_cgroup};
use crate::sys::proc::Credentials;

/// A program, and who runs it how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Launch {
    program: PathBuf,
    /// The name it is told that it has.
    name: String,
    pub(super) args: Vec<String>,
    cwd: PathBuf,
    /// `NAME=VALUE`, a NUL behind each.
    environment: Vec<u8>,
    credentials: Credentials,
    attributes: Option<Attributes>,
    /// The control groups it shall run in; none: where we are.
    pub(super) groups: Vec<PathBuf>,
    /// Says on stdout what can't be had, before it runs.
    pub(super) tell: bool,
}

/// What `agent __start` has to say before it becomes nginx.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Report {
    /// What nginx doesn't get that it had.
    pub(super) lacking: Vec<String>,
    /// Why nginx is not run at all.
    pub(super) failed: Option<String>,
}

impl Launch {
    /// The nginx of `target`, with the environment `variables`.
    pub(super) fn of(target: &Target, variables: &[(OsString, OsString)]) -> Self {
        let mut block = Vec::new();
        for (name, value) in variables {
            block.extend_from_slice(name.as_encoded_bytes());
            block.push(b'=');
            block.extend_from_slice(value.as_encoded_bytes());
            block.push(0);
        }
        let program = target.exe.path.clone();
        Self {
            name: target.name.clone().unwrap_or_else(|| program.to_string_lossy().into_owned()),
            program,
            args: target.args.clone(),
            cwd: target.cwd.clone(),
            environment: block,
            credentials: target.credentials.clone(),
            attributes: target.attributes.clone(),
            groups: Vec::new(),
            tell: false,
        }
    }

    /// As `agent __start` reads it.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Takes on what the old one had; what couldn't be had.
    fn prepare(&self) -> io::Result<Vec<String>> {
        // It fails for who leads a process group already, and then there is a session of our own.
        let _ = nix::unistd::setsid();
        let mut lacking = Vec::new();
        for folder in &self.groups {
            if let Err(e) = join_cgroup(folder) {
                lacking.push(format!("control group {}: {e}", folder.display()));
            }
        }
        if let Err(e) = std::env::set_current_dir(&self.cwd) {
            lacking.push(format!("working folder {}: {e}", self.cwd.display()));
            std::env::set_current_dir("/")?;
        }
        let attributes = match &self.attributes {
            Some(attributes) => attributes.clone(),
            // A record of an older version: its user and its open files are all that is known.
            None => older(&self.credentials)?,
        };
        lacking.extend(become_like(&self.credentials, &attributes)?);
        Ok(lacking)
    }

    fn exec(&self) -> io::Error {
        let mut command = Command::new(&self.program);
        command.arg0(&self.name).args(&self.args).env_clear().envs(environment::variables(&self.environment));
        command.exec()
    }
}

/// Our own attributes, with the limit of open files that is on record.
fn older(who: &Credentials) -> io::Result<Attributes> {
    let mut attributes = Attributes::of(std::process::id().cast_signed())?;
    if let Some((soft, hard)) = who.open_files {
        attributes.limits.insert("Max open files".into(), (Some(soft), Some(hard)));
    }
    if who.uid != 0 {
        attributes.capabilities.permitted = 0;
        attributes.capabilities.ambient = 0;
    }
    Ok(attributes)
}

/// The life of `agent __start`: reads what to run from stdin, which is a file in memory, writes its report behind it, and
/// becomes nginx. Returns only when that isn't possible.
///
/// # Errors
/// Why nginx isn't run.
pub fn become_nginx() -> io::Result<std::convert::Infallible> {
    let memory = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
    let launch: Launch = serde_json::from_slice(&contents(&memory)?).map_err(io::Error::other)?;
    let prepared = launch.prepare();
    let mut report = Report::default();
    let failed = match prepared {
        Ok(lacking) => {
            report.lacking = lacking;
            None
        }
        Err(e) => Some(e),
    };
    if launch.tell {
        let mut stdout = io::stdout().lock();
        report.lacking.iter().try_for_each(|line| writeln!(stdout, "{line}"))?;
    }
    let say = |report: &Report| -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.insert(0, b'\n');
        line.push(b'\n');
        memory.write_all_at(&line, memory.metadata()?.len())
    };
    let error = match failed {
        Some(e) => e,
        None => {
            say(&report)?;
            rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
            launch.exec()
        }
    };
    say(&Report { failed: Some(error.to_string()), ..report })?;
    Err(error)
}

/// The report that is in the memory behind what was to be run, if there is one yet; the last one counts.
pub(super) fn report(memory: &File) -> Option<Report> {
    let text = String::from_utf8(contents(memory).ok()?).ok()?;
    let last = text.trim_end().rsplit('\n').next()?;
    serde_json::from_str::<serde_json::Value>(last).ok()?.get("lacking")?;
    serde_json::from_str(last).ok()
}

/// By position, as both processes share one offset.
fn contents(memory: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(memory.metadata()?.len()).unwrap_or(0)];
    memory.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// What is in the memory, as text.
pub(super) fn text_of(memory: &File) -> String {
    contents(memory).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Our own program, for the lifetime of this process, whatever has become of its file.
pub(super) fn ourselves() -> PathBuf {
    Path::new("/proc").join(std::process::id().to_string()).join("exe")
}
