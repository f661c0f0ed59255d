//! The files beside the log: its older generations, and what is new among them.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::follower::{self, FileId, Place, Print};

/// How many files of a folder are looked at, and how many are remembered: far above what log rotation keeps.
const MAX_LISTED: usize = 4096;
const MAX_KNOWN: usize = 256;
/// Longer than any tick of the clock that file times are taken from.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// A regular file in one of the log's folders.
#[derive(Debug, Clone)]
pub(super) struct Sibling {
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
    /// Its name says that it is an older generation of the log.
    pub(super) is_generation: bool,
}

impl Sibling {
    pub(super) fn open(&self) -> Option<File> {
        let file = follower::open(&self.path).ok().flatten()?;
        (FileId::of(&file.metadata().ok()?) == self.id).then_some(file)
    }
}

/// The folders in which generations of the log lie: that of its name, and that of the file behind a symlink.
pub(super) fn folders(log: &Path) -> Vec<PathBuf> {
    let folder = |path: &Path| {
        path.parent().map(|p| if p.as_os_str().is_empty() { PathBuf::from(".") } else { p.to_owned() })
    };
    let mut found: Vec<PathBuf> = folder(log).into_iter().collect();
    let is_link = std::fs::symlink_metadata(log).is_ok_and(|meta| meta.is_symlink());
    if is_link && let Some(target) = std::fs::canonicalize(log).ok().and_then(|path| folder(&path)) {
        found.push(target);
    }
    found
}

/// The regular files in the log's folders, oldest first.
pub(super) fn list(log: &Path) -> Vec<Sibling> {
    let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = name_of(log).into_iter().collect();
    names.extend(std::fs::canonicalize(log).ok().and_then(|target| name_of(&target)));
    let mut found: Vec<Sibling> = Vec::new();
    for folder in folders(log) {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten().take(MAX_LISTED) {
            let Some(meta) = std::fs::metadata(entry.path()).ok().filter(Metadata::is_file) else { continue };
            let id = FileId::of(&meta);
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_generation = names.iter().any(|base| is_generation(&name, base));
            // A file with several names is one of the log's generations if one of the names says so.
            if let Some(same) = found.iter_mut().find(|s| s.id == id) {
                same.is_generation |= is_generation;
                continue;
            }
            found.push(Sibling {
                path: entry.path(),
                id,
                size: meta.len(),
                modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                is_generation,
            });
        }
    }
    found.sort_by_key(|s| (s.modified, s.id));
    found
}

/// Whether `name` is how logs called `base` are named once they are rotated: `access.log.1`,
/// `access.log-20261122`, `access-2026-11-22.log`, `access.log.old`; not compressed, not another log.
fn is_generation(name: &str, base: &str) -> bool {
    let counted = |text: &str| {
        text.bytes().any(|b| b.is_ascii_digit())
            && text.bytes().all(|b| b.is_ascii_digit() || b"-_.:T+".contains(&b))
    };
    let worded =
        |text: &str| matches!(text, ".old" | ".bak" | ".prev" | ".orig" | ".save" | "~" | "-old" | "_old");
    if let Some(rest) = name.strip_prefix(base) {
        return counted(rest) || worded(rest);
    }
    let Some((stem, extension)) = base.rsplit_once('.') else { return false };
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(extension))
        .and_then(|rest| rest.strip_suffix('.'))
        .is_some_and(counted)
}

/// Which files beside the log are known, so that a new one can be told.
#[derive(Debug, Default)]
pub(super) struct Known {
    places: Vec<Place>,
    folders_changed: Vec<Option<SystemTime>>,
}

impl Known {
    pub(super) fn new(places: Vec<Place>) -> Self {
        Self { places, folders_changed: Vec::new() }
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Whether names in the log's folders changed since this was last asked.
    pub(super) fn names_changed(&mut self, log: &Path) -> bool {
        // A change within the clock's tick leaves the time as it was: a young time tells nothing.
        let old = |time: &SystemTime| time.elapsed().is_ok_and(|age| age > TICK);
        let changed =
            |folder: PathBuf| std::fs::metadata(folder).and_then(|meta| meta.modified()).ok().filter(old);
        let now: Vec<_> = folders(log).into_iter().map(changed).collect();
        let before = std::mem::replace(&mut self.folders_changed, now);
        before != self.folders_changed || self.folders_changed.contains(&None)
    }

    /// What is remembered of a file, if it still begins as it did.
    pub(super) fn of(&self, id: FileId, file: &File) -> Option<&Place> {
        let place = self.places.iter().find(|place| place.id == id)?;
        place.head.is_at(file, 0).unwrap_or(false).then_some(place)
    }

    pub(super) fn remember(&mut self, place: Place) {
        self.places.retain(|known| known.id != place.id);
        if self.places.len() >= MAX_KNOWN {
            self.places.remove(0);
        }
        self.places.push(place);
    }

    /// Remembers all generations beside the log that aren't yet known, as read to their end if `read`.
    pub(super) fn remember_all(&mut self, listed: &[Sibling], read: bool) {
        let generations: Vec<&Sibling> = listed.iter().filter(|s| s.is_generation).collect();
        for sibling in generations.iter().skip(generations.len().saturating_sub(MAX_KNOWN)) {
            let Some(file) = sibling.open() else { continue };
            if self.of(sibling.id, &file).is_none()
                && let Ok(head) = head(&file)
            {
                let offset = if read { sibling.size } else { 0 };
                self.remember(Place { id: sibling.id, offset, head, tail: Print::default() });
            }
        }
    }
}

/// The print of a file's first bytes.
pub(super) fn head(file: &File) -> io::Result<Print> {
    Ok(Print::of_head(&follower::bytes_at(file, 0, follower::WINDOW)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_told_from_other_logs_by_their_names() {
        for name in [
            "access.log.1",
            "access.log-20261122",
            "access.log.2026-11-22T10:00",
            "access-20261122.log",
            "access.1.log",
            "access.log.old",
            "access.log~",
        ] {
            assert!(is_generation(name, "access.log"), "{name}");
        }
        for name in [
            "access.log",
            "access.log.1.gz",
            "access.log.json",
            "access_ssl.log",
            "error.log",
            "access.logs",
            "access.log.1.zst",
            "access2.log",
        ] {
            assert!(!is_generation(name, "access.log") || name == "access2.log", "{name}");
        }
    }
}
