//! The fault on record: written by root before anything is touched, read by whoever must end or honour it.
//! World-readable, root-owned, replaced as a whole; past its deadline it counts for nothing but recovery.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::mode::Mode;
pub use super::stored::Parts;
use super::stored::Stored;
pub use super::target::{Answered, Kind, Target};
use crate::nginx::answer::Endpoint;
use crate::sys::file;
use crate::sys::proc::{Exe, Identity};

/// A record is a few hundred bytes, and some for each listening socket; what is larger isn't ours.
const MAX_BYTES: u64 = 256 << 10;

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
#[serde(try_from = "Stored", into = "Stored")]
pub struct Record {
    /// What was done, to what.
    pub fault: Fault,
    /// The boot in which the deadline counts; a reboot ends every fault.
    pub boot_id: String,
    /// The end, as milliseconds of `CLOCK_BOOTTIME`.
    pub deadline_boottime_ms: u64,
    /// Tells this fault from every other one.
    pub id: String,
    /// How far it has come.
    pub phase: Phase,
    /// When it was started, RFC 3339.
    pub started: String,
    /// Who started it.
    pub by: String,
    /// The process that started it and watches over it; gone where that one was killed or has detached itself.
    pub holder: Option<Identity>,
    /// The keeper that holds its lease; not known yet where nothing was injected yet.
    pub keeper: Option<Identity>,
    /// The file that the command ran, and that its keepers run: it is known again also when it was replaced.
    pub agent: Option<Exe>,
}

/// What is done, with what that takes; nothing else can be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This nginx is stopped.
    Stop(Target),
    /// This nginx is killed.
    Crash(Target),
    /// This nginx is held.
    Hang(Target),
    /// Packets for this nginx vanish.
    Drop(Target),
    /// Connections to this nginx are reset.
    Reject(Target),
    /// Requests to this nginx are answered for it.
    Error {
        /// The nginx.
        target: Target,
        /// With which status.
        status: u16,
    },
    /// `/health` says 503.
    Unhealthy {
        /// Where it is served; records of older versions may not say.
        health: Option<SocketAddr>,
    },
    /// `/health` answers late.
    Slow {
        /// Where it is served.
        health: Option<SocketAddr>,
        /// How late.
        delay: Duration,
    },
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

impl Fault {
    /// Of its parts, as they stand on the command line and in the file.
    ///
    /// # Errors
    /// What of it makes no sense together.
    pub fn new(mode: Mode, parts: Parts) -> Result<Self, &'static str> {
        let Parts { target, status, delay, health } = parts;
        if mode.touches_nginx() == target.is_none() {
            return Err(if mode.touches_nginx() { "it names no nginx" } else { "it names an nginx" });
        }
        Ok(match (mode, target) {
            (Mode::Stop, Some(target)) => Self::Stop(target),
            (Mode::Crash, Some(target)) => Self::Crash(target),
            (Mode::Hang, Some(target)) => Self::Hang(target),
            (Mode::Drop, Some(target)) => Self::Drop(target),
            (Mode::Reject, Some(target)) => Self::Reject(target),
            (Mode::Error, Some(target)) => Self::Error { target, status: status.unwrap_or(503) },
            (Mode::Slow, _) => Self::Slow { health, delay: delay.ok_or("it has no delay")? },
            (_, _) => Self::Unhealthy { health },
        })
    }

    pub(super) fn into_parts(self) -> (Mode, Parts) {
        let mode = self.mode();
        let parts = match self {
            Self::Stop(target)
            | Self::Crash(target)
            | Self::Hang(target)
            | Self::Drop(target)
            | Self::Reject(target) => Parts { target: Some(target), ..Parts::default() },
            Self::Error { target, status } => {
                Parts { target: Some(target), status: Some(status), ..Parts::default() }
            }
            Self::Unhealthy { health } => Parts { health, ..Parts::default() },
            Self::Slow { health, delay } => Parts { health, delay: Some(delay), ..Parts::default() },
        };
        (mode, parts)
    }

    /// Its name.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Stop(_) => Mode::Stop,
            Self::Crash(_) => Mode::Crash,
            Self::Hang(_) => Mode::Hang,
            Self::Drop(_) => Mode::Drop,
            Self::Reject(_) => Mode::Reject,
            Self::Error { .. } => Mode::Error,
            Self::Unhealthy { .. } => Mode::Unhealthy,
            Self::Slow { .. } => Mode::Slow,
        }
    }

    /// The nginx that fails; none where only `/health` does.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Stop(target)
            | Self::Crash(target)
            | Self::Hang(target)
            | Self::Drop(target)
            | Self::Reject(target)
            | Self::Error { target, .. } => Some(target),
            Self::Unhealthy { .. } | Self::Slow { .. } => None,
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

    /// What was done.
    pub fn mode(&self) -> Mode {
        self.fault.mode()
    }

    /// The nginx that fails; none where only `/health` does.
    pub fn target(&self) -> Option<&Target> {
        self.fault.target()
    }

    /// Where and what to ask to see the effect: nginx itself, or `/health`.
    pub fn endpoint(&self) -> Option<(Endpoint, &str)> {
        match &self.fault {
            Fault::Unhealthy { health } | Fault::Slow { health, .. } => {
                Some((Endpoint::http((*health)?), "/health"))
            }
            nginx => nginx.target().map(|t| (t.endpoint.clone(), t.path.as_str())),
        }
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

    #[test]
    fn a_record_says_nothing_impossible_and_what_an_older_version_wrote_is_read() {
        let read = |text: &str| serde_json::from_str::<Record>(text);
        let of = |rest: &str| format!(r#"{{"boot_id":"b","deadline_boottime_ms":5000,{rest}}}"#);
        let target = include_str!("older_target.json");
        for (rest, told) in [
            (r#""mode":"stop""#.to_owned(), "it names no nginx"),
            (format!(r#""mode":"slow","delay_ms":5,"target":{target}"#), "it names an nginx"),
            (r#""mode":"slow""#.to_owned(), "it has no delay"),
        ] {
            let error = read(&of(&rest)).unwrap_err().to_string();
            assert!(error.contains(told), "{rest}: {error}");
        }
        for mode in ["stop", "crash", "hang", "drop", "reject", "error"] {
            // `health` stood in every record, and `status` in none but that of `error`.
            let rest =
                format!(r#""mode":"{mode}","health":"127.0.0.1:8080","phase":"armed","target":{target}"#);
            let record = read(&of(&rest)).unwrap();
            assert_eq!((record.mode().name(), record.target().unwrap().master.pid), (mode, 37));
            assert_eq!(record.phase, Phase::Armed);
            let again = serde_json::to_string(&record).unwrap();
            assert_eq!(read(&again).unwrap(), record);
        }
        let slow = read(&of(r#""mode":"slow","delay_ms":700,"health":"127.0.0.1:8080","id":"7""#)).unwrap();
        let health = Some(SocketAddr::from(([127, 0, 0, 1], 8080)));
        assert_eq!(slow.fault, Fault::Slow { health, delay: Duration::from_millis(700) });
        assert_eq!(read(&serde_json::to_string(&slow).unwrap()).unwrap(), slow);
    }
}
