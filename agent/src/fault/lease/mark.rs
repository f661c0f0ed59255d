//! The marks of the last faults that were ended: whoever finds no record learns from it whether somebody has looked at
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
    /// What of nginx is otherwise than it was.
    #[serde(default)]
    pub(in crate::fault) differences: Vec<String>,
}

/// How many: one who was slow may ask for his fault after others came and went.
const KEPT: usize = 16;

fn path(paths: &Paths) -> PathBuf {
    paths.run.join("fault.ended")
}

fn all(paths: &Paths) -> Vec<Mark> {
    let bytes = file::read_trusted(&path(paths), 64 << 10).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Says that this fault was ended.
pub(in crate::fault) fn write(
    paths: &Paths,
    record: &Record,
    first_ok_after_ms: u64,
    differences: &[String],
) -> io::Result<()> {
    file::ensure_folder(&paths.run)?;
    let mut marks = all(paths);
    marks.push(Mark { id: record.id.clone(), first_ok_after_ms, differences: differences.to_vec() });
    let last = marks.get(marks.len().saturating_sub(KEPT)..).unwrap_or_default();
    file::put(&path(paths), &serde_json::to_vec(last)?, 0o644)
}

/// The mark of this fault, if it was ended.
pub(in crate::fault) fn of(paths: &Paths, id: &str) -> Option<Mark> {
    all(paths).into_iter().find(|mark| mark.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_one_fault_and_the_last_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let paths = Paths { state: at("state"), run: at("run"), log: at("log") };
        let text = r#"{"mode":"unhealthy","boot_id":"b","deadline_boottime_ms":1,"id":"7"}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(of(&paths, "7"), None);
        write(&paths, &record, 12, &[]).unwrap();
        assert_eq!(of(&paths, "7").map(|mark| mark.first_ok_after_ms), Some(12));
        assert_eq!(of(&paths, "8"), None);
        for n in 10..20 {
            write(&paths, &Record { id: n.to_string(), ..record.clone() }, 1, &[]).unwrap();
        }
        assert!(of(&paths, "7").is_some() && of(&paths, "19").is_some(), "each is still known");
    }
}
