//! The fault on record: written by root before anything is touched, read by whoever must end or honour it.
//! World-readable, root-owned, replaced as a whole; past its deadline it counts for nothing but recovery.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::nginx::answer::{Answer, Endpoint};
use crate::sys::attributes::Attributes;
use crate::sys::file;
use crate::sys::listening::Listening;
use crate::sys::proc::{Credentials, Exe, Identity};

/// A record is a few hundred bytes, and some for each listening socket; what is larger isn't ours.
const MAX_BYTES: u64 = 256 << 10;

/// How nginx is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// nginx is stopped gracefully.
    Stop,
    /// nginx is killed, master and workers.
    Crash,
    /// Every process of nginx is held: connections open, nothing answers.
    Hang,
    /// Packets to nginx's ports vanish.
    Drop,
    /// Connections to nginx's ports are reset.
    Reject,
    /// Requests are answered 503, or --status.
    Error,
    /// Only `/health` says 503.
    Unhealthy,
    /// `/health` answers late.
    Slow,
}

/// How far a fault has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// On record and with a lease; perhaps nothing was touched yet, perhaps it was.
    Armed,
    /// In force.
    #[default]
    Injected,
}

/// A fault and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was done.
    pub mode: Mode,
    /// The boot in which the deadline counts; a reboot ends every fault.
    pub boot_id: String,
    /// The end, as milliseconds of `CLOCK_BOOTTIME`.
    pub deadline_boottime_ms: u64,
    /// `slow`: how late `/health` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// `error`: what requests are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Tells this fault from every other one.
    #[serde(default)]
    pub id: String,
    /// How far it has come.
    #[serde(default)]
    pub phase: Phase,
    /// When it was started, RFC 3339.
    #[serde(default)]
    pub started: String,
    /// Who started it.
    #[serde(default)]
    pub by: String,
    /// The process that started it and watches over it; gone where that one was killed or has detached itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Identity>,
    /// The keeper that holds its lease; not known yet where nothing was injected yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper: Option<Identity>,
    /// The file that the command ran, and that its keepers run: it is known again also when it was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Exe>,
    /// Where `/health` is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<SocketAddr>,
    /// The nginx that fails, and how it comes back; none where only `/health` fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// An nginx as it was before the fault: what it takes to know it again, and to start it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its master.
    pub master: Identity,
    /// What it ran.
    pub exe: Exe,
    /// Its arguments, without the program's name.
    pub args: Vec<String>,
    /// The folder it was started in.
    pub cwd: PathBuf,
    /// Its configuration.
    pub conf: PathBuf,
    /// The file that names its master.
    pub pid_file: PathBuf,
    /// Who it was to the kernel.
    pub credentials: Credentials,
    /// Whether it stays with the process that starts it.
    pub foreground: bool,
    /// Where it answers.
    pub endpoint: Endpoint,
    /// What it is asked for there.
    #[serde(default = "root")]
    pub path: String,
    /// The systemd unit that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Where it takes connections from other machines.
    #[serde(default)]
    pub listens: Vec<SocketAddr>,
    /// The inodes of its sockets; whoever runs the same file and holds one of them descends from it.
    pub sockets: BTreeSet<u64>,
    /// The program's name, as it was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it had from whoever started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Attributes>,
    /// All that the kernel said of where it could be reached.
    #[serde(default)]
    pub listening: Listening,
    /// How it spoke at each TCP address, and what it answered there.
    #[serde(default)]
    pub answers: Vec<Answered>,
    /// The users of its workers: what they leave behind is theirs.
    #[serde(default)]
    pub workers: BTreeSet<u32>,
    /// The units that systemd stops with its unit, and that were active.
    #[serde(default)]
    pub dependents: Vec<String>,
}

fn root() -> String {
    "/".to_owned()
}

/// What an address of nginx answered before the fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Where it was asked, and how.
    pub endpoint: Endpoint,
    /// What came.
    pub was: Kind,
}

/// The kinds of answers that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// nginx answered: a status, or by closing what it had read (`return 444`).
    Status,
    /// It takes connections, and says nothing that is HTTP: a stream.
    Other,
    /// Nobody takes connections there that could be seen from here.
    Nothing,
}

impl Kind {
    /// Of an answer.
    pub(in crate::fault) fn of(answer: Answer) -> Self {
        match answer {
            Answer::Status(_) | Answer::NoStatus => Self::Status,
            Answer::Cut | Answer::Silent => Self::Other,
            Answer::Refused => Self::Nothing,
        }
    }
}

/// Why the record can't be known. Never to be taken for "no fault".
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file can't be read or trusted.
    #[error("cannot read the fault record {}: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The file can't be written or removed.
    #[error("cannot write the fault record {}: {why}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The file isn't a record.
    #[error("the fault record {} cannot be understood: {why}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where.
        why: serde_json::Error,
    },
}

impl Target {
    /// What still holds after a reboot: pids, starts and inodes name others now.
    pub(in crate::fault) fn of_another_boot(self) -> Self {
        // What a unit gives its processes now, it gives them; nobody's nginx is otherwise for having been rebooted.
        let attributes = self.attributes.filter(|_| self.unit.is_none());
        Self { master: Identity { pid: 0, start_ticks: 0 }, sockets: BTreeSet::new(), attributes, ..self }
    }
}

impl Mode {
    /// Whether nginx itself is made to fail; otherwise only what `/health` says.
    pub fn touches_nginx(self) -> bool {
        !matches!(self, Self::Unhealthy | Self::Slow)
    }

    /// Whether packets for nginx are dropped, reset or redirected; nginx itself isn't touched.
    pub fn touches_packets(self) -> bool {
        matches!(self, Self::Drop | Self::Reject | Self::Error)
    }

    /// Whether the effect goes with the keeper: it holds nginx, or answers in its place.
    pub fn needs_keeper(self) -> bool {
        matches!(self, Self::Hang | Self::Error)
    }

    /// Whether nginx is gone as long as the fault lasts.
    pub fn ends_nginx(self) -> bool {
        matches!(self, Self::Stop | Self::Crash)
    }

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Error => "error",
            Self::Unhealthy => "unhealthy",
            Self::Slow => "slow",
        }
    }
}

impl Record {
    /// The record's file in the state folder.
    pub fn path(state: &Path) -> PathBuf {
        state.join("fault.json")
    }

    /// The fault on record, past its deadline or not; `None` where there is no file.
    ///
    /// # Errors
    /// When there is one that can't be read, trusted or understood.
    pub fn read(state: &Path) -> Result<Option<Self>, RecordError> {
        let path = Self::path(state);
        let bytes = file::read_trusted(&path, MAX_BYTES)
            .map_err(|why| RecordError::Read { path: path.clone(), why })?;
        bytes.map(|b| serde_json::from_slice(&b).map_err(|why| RecordError::Parse { path, why })).transpose()
    }

    /// Puts this record in the place of the one there is. It survives a power cut once the folder was synced, too.
    ///
    /// # Errors
    /// When it can't be written; the old one is then still there.
    pub fn write(&self, state: &Path) -> Result<(), RecordError> {
        let path = Self::path(state);
        let bytes = serde_json::to_vec(self).map_err(io::Error::other);
        // One that couldn't be read again would be a fault that nobody ends.
        let fits = |bytes: &Vec<u8>| bytes.len() as u64 <= MAX_BYTES;
        bytes
            .and_then(|b| if fits(&b) { Ok(b) } else { Err(io::Error::other("it would be too large")) })
            .and_then(|bytes| file::put(&path, &bytes, 0o644))
            .map_err(|why| RecordError::Write { path, why })
    }

    /// Removes the record: the fault is over, verified. It stays so through a power cut once the folder was synced, too.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn remove(state: &Path) -> Result<(), RecordError> {
        let path = Self::path(state);
        file::unlink(&path).map_err(|why| RecordError::Write { path, why })
    }

    /// How long the fault is still in force at `now` (since boot) in the boot `boot_id`; `None` when it is over, and
    /// before it was injected.
    pub fn remaining(&self, now: Duration, boot_id: &str) -> Option<Duration> {
        self.time_left(now, boot_id).filter(|_| self.phase == Phase::Injected)
    }

    /// How long it is until the deadline, injected or not; `None` when that has passed, or with another boot.
    pub fn time_left(&self, now: Duration, boot_id: &str) -> Option<Duration> {
        let left = Duration::from_millis(self.deadline_boottime_ms).checked_sub(now)?;
        (self.boot_id == boot_id && !left.is_zero()).then_some(left)
    }

    /// Where and what to ask to see the effect: nginx itself, or `/health`.
    pub fn endpoint(&self) -> Option<(Endpoint, &str)> {
        let health = || Some((Endpoint::http(self.health?), "/health"));
        self.target.as_ref().map(|t| (t.endpoint.clone(), t.path.as_str())).or_else(health)
    }

    /// The deadline, since boot.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_boottime_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let text = r#"{"mode":"slow","boot_id":"b","deadline_boottime_ms":5000,"delay_ms":10}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_fault_ends_at_its_deadline_and_with_a_reboot() {
        let at = |s, boot: &str| record().remaining(Duration::from_secs(s), boot);
        assert_eq!(at(4, "b"), Some(Duration::from_secs(1)));
        assert_eq!(at(5, "b"), None);
        assert_eq!(at(9, "b"), None);
        assert_eq!(at(1, "another"), None);
    }

    #[test]
    fn a_fault_that_is_only_armed_is_not_in_force_yet() {
        let armed = Record { phase: Phase::Armed, ..record() };
        assert_eq!(armed.remaining(Duration::from_secs(4), "b"), None);
        assert_eq!(armed.time_left(Duration::from_secs(4), "b"), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_record_that_is_no_record_is_an_error_and_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Record::read(dir.path()).unwrap().is_none());
        let path = Record::path(dir.path());
        file::replace(&path, &serde_json::to_vec(&record()).unwrap(), 0o644).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record()));
        file::replace(&path, b"{\"mode\":", 0o644).unwrap();
        assert!(matches!(Record::read(dir.path()), Err(RecordError::Parse { .. })));
        file::replace(&path, b"{}", 0o666).unwrap();
        assert!(matches!(Record::read(dir.path()), Err(RecordError::Read { .. })));
    }
}
