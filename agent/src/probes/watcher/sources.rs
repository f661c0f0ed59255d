//! Whether nginx's configuration is still as it was when the logs were located.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A change within this time after another may leave a file's times as they were.
const YOUNG: Duration = Duration::from_secs(1);

/// Which file it is, how long, when it and its inode were last changed.
type Face = (u64, u64, u64, (i64, i64), (i64, i64));

/// Files and folders as they were.
#[derive(Debug, Default)]
pub(super) struct Sources {
    faces: Vec<(PathBuf, Option<Face>)>,
    /// One of them had been changed just before.
    young: bool,
}

impl Sources {
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let young = |path: &PathBuf| {
            let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
            modified.is_ok_and(|at| at > SystemTime::now() - YOUNG && at <= SystemTime::now())
        };
        Self {
            young: paths.iter().any(young),
            faces: paths.iter().map(|path| (path.clone(), face(path))).collect(),
        }
    }

    /// Whether any of them has changed, or may have.
    pub(super) fn changed(&self) -> bool {
        self.young || self.faces.iter().any(|(path, before)| face(path) != *before)
    }

    /// Takes what is there now for known.
    pub(super) fn refresh(&mut self) {
        *self = Self::of(&self.faces.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>());
    }
}

fn face(path: &Path) -> Option<Face> {
    let meta = std::fs::metadata(path).ok()?;
    let changed = (meta.ctime(), meta.ctime_nsec());
    Some((meta.dev(), meta.ino(), meta.size(), (meta.mtime(), meta.mtime_nsec()), changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_file_and_of_a_folders_names_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("nginx.conf"), dir.path().join("conf.d"));
        let old = SystemTime::now() - Duration::from_secs(60);
        let age = |path: &Path| std::fs::File::open(path).unwrap().set_modified(old).unwrap();
        std::fs::write(&file, "a").unwrap();
        std::fs::create_dir(&folder).unwrap();
        let paths = [file.clone(), folder.clone()];
        assert!(Sources::of(&paths).changed(), "it may still be written to");
        age(&file);
        age(&folder);
        let sources = Sources::of(&paths);
        assert!(!sources.changed());
        std::fs::write(&file, "b").unwrap();
        age(&file);
        assert!(sources.changed(), "of the same length and time");
        let mut sources = Sources::of(&paths);
        std::fs::write(folder.join("new.conf"), "").unwrap();
        assert!(sources.changed());
        age(&folder);
        sources.refresh();
        assert!(!sources.changed());
        std::fs::remove_file(&file).unwrap();
        assert!(sources.changed());
    }
}
