//! The mark of the last fault that was ended: whoever finds no record learns from it whether somebody has looked at
//! nginx, or has only removed a file. It lies in the run folder: after a reboot nobody remembers the fault without its
//! record.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::config::Paths;
use crate::sys::file;

/// A fault that was ended, verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fault) struct Mark {
    /// Which.
    pub(in crate::fault) id: String,
    /// From the beginning of the end to the first answer, in milliseconds.
    pub(in crate::fault) first_ok_after_ms: u64,
}

fn path(paths: &Paths) -> PathBuf {
    paths.run.join("fault.ended")
}

/// Says that this fault was ended.
pub(in crate::fault) fn write(paths: &Paths, record: &Record, first_ok_after_ms: u64) -> io::Result<()> {
    file::ensure_folder(&paths.run)?;
    let mark = Mark { id: record.id.clone(), first_ok_after_ms };
    file::replace(&path(paths), &serde_json::to_vec(&mark)?, 0o644)
}

/// The mark of this fault, if it was ended.
pub(in crate::fault) fn of(paths: &Paths, id: &str) -> Option<Mark> {
    let bytes = file::read_trusted(&path(paths), 4096).ok().flatten()?;
    serde_json::from_slice(&bytes).ok().filter(|mark: &Mark| mark.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_one_fault_and_needs_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let paths = Paths { state: at("state"), run: at("run"), log: at("log") };
        let text = r#"{"mode":"unhealthy","boot_id":"b","deadline_boottime_ms":1,"id":"7"}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(of(&paths, "7"), None);
        write(&paths, &record, 12).unwrap();
        assert_eq!(of(&paths, "7").map(|mark| mark.first_ok_after_ms), Some(12));
        assert_eq!(of(&paths, "8"), None);
    }
}
