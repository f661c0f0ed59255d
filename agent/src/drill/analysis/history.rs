//! Every drill's result, a line each, beside the log of faults.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Above this the older half goes.
const MOST_BYTES: u64 = 16 << 20;
/// The first so many characters of an id are enough where no other begins so.
const LEAST_PREFIX: usize = 4;

/// The file.
pub fn path(log: &Path) -> PathBuf {
    log.join("drills.jsonl")
}

/// An id for a drill that began at this time (RFC 3339): `20261127-184512-4711`.
pub fn id(started: &str) -> String {
    let digits: String = started.chars().filter(char::is_ascii_digit).take(14).collect();
    let (day, time) = digits.split_at(digits.len().min(8));
    format!("{day}-{time}-{}", std::process::id())
}

/// Keeps a result.
///
/// # Errors
/// When the file can't be written.
pub fn append(log: &Path, result: &Value) -> io::Result<()> {
    let path = path(log);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > MOST_BYTES) {
        let text = fs::read_to_string(&path)?;
        let half = text.get(text.len() / 2..).or_else(|| text.get(text.len() / 2 + 1..)).unwrap_or_default();
        let newer = half.split_once('\n').map_or("", |(_, rest)| rest);
        crate::sys::file::replace(&path, newer.as_bytes(), 0o644)?;
    }
    let mut line = result.to_string();
    line.push('\n');
    OpenOptions::new().create(true).append(true).mode(0o644).open(&path)?.write_all(line.as_bytes())
}

/// Every result, the oldest first. A line that was cut off by a crash is left out.
///
/// # Errors
/// When the file is there and can't be read.
pub fn all(log: &Path) -> io::Result<Vec<Value>> {
    match fs::read_to_string(path(log)) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// The result with this id, or whose id alone begins so; `last` is the newest.
pub fn find<'a>(all: &'a [Value], wanted: &str) -> Option<&'a Value> {
    if wanted == "last" {
        return all.last();
    }
    let id = |one: &&Value| one["id"].as_str().unwrap_or_default().to_owned();
    if let Some(same) = all.iter().find(|one| id(one) == wanted) {
        return Some(same);
    }
    let mut near = all.iter().filter(|one| wanted.len() >= LEAST_PREFIX && id(one).starts_with(wanted));
    near.next().filter(|_| near.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_is_found_again_and_a_line_cut_off_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(all(folder.path()).unwrap(), [Value::Null; 0]);
        for id in ["20261127-184512-1", "20261128-184512-2"] {
            append(folder.path(), &json!({"id": id})).unwrap();
        }
        OpenOptions::new().append(true).open(path(folder.path())).unwrap().write_all(b"{\"id\":\"x").unwrap();
        let kept = all(folder.path()).unwrap();
        assert_eq!(kept.len(), 2);
        for (wanted, found) in [
            ("20261127-184512-1", Some(0)),
            ("20261128", Some(1)),
            ("last", Some(1)),
            ("2026112", None),
            ("2", None),
        ] {
            assert_eq!(find(&kept, wanted), found.map(|n: usize| &kept[n]), "{wanted}");
        }
    }

    #[test]
    fn an_id_tells_when() {
        assert!(id("2026-11-27T18:45:12.345Z").starts_with("20261127-184512-"));
    }
}
