//! A file that says something only as long as the process lives that wrote it: it is locked, and the kernel drops
//! the lock however that process ends (flock(2)).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};

use super::file::check_trusted;

const FLAGS: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();

/// The file, while we hold it. Dropped, it is removed.
#[derive(Debug)]
pub struct Held {
    _file: File,
    path: PathBuf,
}

impl Held {
    /// Writes `bytes` to `path`, readable by all, and holds it. Whoever sees the name sees it locked and whole.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn create(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("no file name"))?;
        let beside = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
        let _ = fs::remove_file(&beside);
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .custom_flags(FLAGS)
                .open(&beside)?;
            file.set_permissions(PermissionsExt::from_mode(0o644))?;
            rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive)?;
            file.write_all(bytes)?;
            fs::rename(&beside, path)?;
            Ok(Self { _file: file, path: path.to_owned() })
        })();
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }

    /// What the file at `path` says, if its writer lives; at most `limit` bytes of it. What a dead writer left is
    /// removed where we may.
    ///
    /// # Errors
    /// When the file is a link, foreign, writable by others, or can't be read.
    pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let opened = OpenOptions::new().read(true).custom_flags(FLAGS).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        check_trusted(&file)?;
        match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Ok(()) => {
                let _ = fs::remove_file(path);
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_is_read_and_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        let held = Held::create(&path, b"mine").unwrap();
        assert_eq!(Held::read(&path, 100).unwrap().unwrap(), b"mine");
        drop(held);
        assert_eq!(Held::read(&path, 100).unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_nobody_holds_says_nothing_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        fs::write(&path, "of a dead process").unwrap();
        assert_eq!(Held::read(&path, 100).unwrap(), None);
        assert!(!path.exists());
    }

    #[test]
    fn a_link_and_a_file_that_others_can_write_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("run.json"), dir.path().join("link"));
        let _held = Held::create(&path, b"mine").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Held::read(&link, 100).is_err());
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(Held::read(&path, 100).is_err());
    }
}
