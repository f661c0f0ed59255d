//! The history of faults, one JSON line a step, in `faults.jsonl` of the log folder: who, what, when, to what effect,
//! and how it ended. Past a mebibyte it is kept once more as `faults.jsonl.1` and begun anew.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::fault::lease::record::{Mode, Record};
use crate::sys::clock::rfc3339;

const MAX_BYTES: u64 = 1 << 20;
/// The step after which the record is removed.
pub(in crate::fault) const RECOVERED: &str = "recovered";

/// The file.
pub fn path(log: &Path) -> PathBuf {
    log.join("faults.jsonl")
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    id: &'a str,
    event: &'a str,
    mode: Mode,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// Appends a step of the fault on record.
///
/// # Errors
/// When the file can't be written, is a link, or isn't root's.
pub fn append(log: &Path, record: &Record, event: &str, detail: &str) -> io::Result<()> {
    let path = path(log);
    let line = Line {
        at: rfc3339(Timestamp::now()),
        id: &record.id,
        event,
        mode: record.mode(),
        by: &record.by,
        pid: record.target().map(|t| t.master.pid),
        detail,
    };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(flags.bits().cast_signed())
            .open(&path)
    };
    let mut file = open()?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("not a regular file of ours"));
    }
    if meta.len() + text.len() as u64 > MAX_BYTES {
        fs::rename(&path, path.with_extension("jsonl.1"))?;
        file = open()?;
    }
    // One write, so that two processes' lines never mix (write(2), O_APPEND).
    file.write_all(&text)?;
    // The record goes next: after a power cut, one of the two says what became of the fault.
    if event == RECOVERED { file.sync_data() } else { Ok(()) }
}

/// Who is at work: the user that sudo was called by, else the login; a session of SSM says so itself.
pub fn who(environment: impl Fn(&str) -> Option<String>) -> String {
    let named = |name| environment(name).filter(|v| !v.is_empty());
    let user = named("SUDO_USER").or_else(|| named("LOGNAME")).or_else(|| named("USER"));
    let user = user.unwrap_or_else(|| "root".to_owned());
    // A name out of the environment is anybody's text: bounded, on one line.
    user.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        serde_json::from_str(
            r#"{"mode":"unhealthy","boot_id":"b","deadline_boottime_ms":1,"id":"7","by":"ann"}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_history_is_bounded_and_keeps_one_file_before_it() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &record(), "armed", "").unwrap();
        let text = fs::read_to_string(path(dir.path())).unwrap();
        assert!(text.contains(r#""id":"7","event":"armed","mode":"unhealthy","by":"ann""#), "{text}");
        let filler = fs::OpenOptions::new().write(true).open(path(dir.path())).unwrap();
        filler.set_len(MAX_BYTES).unwrap();
        append(dir.path(), &record(), "recovered", "").unwrap();
        assert_eq!(fs::metadata(dir.path().join("faults.jsonl.1")).unwrap().len(), MAX_BYTES);
        assert_eq!(fs::read_to_string(path(dir.path())).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_planted_link_gets_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("innocent");
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, path(dir.path())).unwrap();
        assert!(append(dir.path(), &record(), "armed", "").is_err());
        assert_eq!(fs::read(&target).unwrap(), b"");
    }

    #[test]
    fn the_one_who_called_sudo_is_named() {
        let env = |sudo: &'static str| {
            move |n: &str| match n {
                "SUDO_USER" => Some(sudo.to_owned()),
                "USER" => Some("root".into()),
                _ => None,
            }
        };
        assert_eq!(who(env("ann\n")), "ann");
        assert_eq!(who(env("")), "root");
    }
}
