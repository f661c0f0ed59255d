//! Files that root writes and others trust: opened without following links, owned by whom we expect, replaced as a
//! whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};

const NO_FOLLOW: i32 = OFlags::NOFOLLOW.bits().cast_signed();
const NON_BLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Reads a regular file of at most `limit` bytes that belongs to root or to us and that nobody else can write.
/// `None` when there is no such file.
///
/// # Errors
/// When the file is a link, no regular file, foreign, writable by others, larger than `limit`, or can't be read.
pub fn read_trusted(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new().read(true).custom_flags(NO_FOLLOW | NON_BLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    check_trusted(&file)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Fails unless `file` is a regular file of root's or ours that nobody else can write.
pub(super) fn check_trusted(file: &File) -> io::Result<()> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != us {
        return Err(io::Error::other(format!("owned by uid {}, expected root", meta.uid())));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("writable by others than its owner"));
    }
    Ok(())
}

/// Replaces `path` by `bytes`: written beside it, fsynced, renamed over it, and the folder fsynced, so that a crash
/// at any moment leaves the old file or the new one. The file gets `mode` whatever the umask.
///
/// # Errors
/// When the folder can't be written; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(path, bytes, mode)?;
    sync_folder(folder_of(path))
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs a folder: what was renamed or removed in it stays so through a power cut.
///
/// # Errors
/// When it can't be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// As [`replace`], without syncing the folder: until that is done, a power cut may bring back the old file, whole.
///
/// # Errors
/// When the folder can't be written; the old file is then still there.
pub fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path);
    let name = path.file_name().ok_or_else(|| io::Error::other("no file name"))?;
    let beside = folder.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        match fs::remove_file(&beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(NO_FOLLOW)
            .open(&beside)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Removes what writers that were killed left beside the files of a folder: `.NAME.PID.new` of a process that is gone.
pub fn sweep(folder: &Path) {
    let Ok(all) = fs::read_dir(folder) else { return };
    for name in all.flatten().map(|entry| entry.file_name()) {
        let pid = name.to_str().and_then(|n| n.strip_prefix('.')?.strip_suffix(".new")?.rsplit_once('.'));
        let pid = pid.and_then(|(_, pid)| pid.parse::<i32>().ok());
        if pid.is_some_and(|pid| pid > 0 && !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_file(folder.join(name));
        }
    }
}

/// Removes `path` for good: the folder is fsynced. No file there is fine.
///
/// # Errors
/// When the folder can't be written.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(folder_of(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// As [`remove`], without syncing the folder: until that is done, a power cut may bring it back.
///
/// # Errors
/// When the folder can't be written.
pub fn unlink(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes sure that there is a folder that belongs to root or to us and that nobody else can write; made when missing,
/// with its parents.
///
/// # Errors
/// When it can't be made, is a link, is foreign, or others can write it.
pub fn ensure_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
        }
        Err(e) => return Err(e),
        Ok(_) => {}
    }
    let meta = fs::symlink_metadata(path)?;
    let us = rustix::process::geteuid().as_raw();
    if !meta.is_dir() {
        return Err(io::Error::other("not a folder"));
    }
    if meta.uid() != 0 && meta.uid() != us {
        return Err(io::Error::other(format!("owned by uid {}, expected root", meta.uid())));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("writable by others than its owner"));
    }
    Ok(())
}

/// An exclusive `flock` on a file, held as long as the value lives and gone with the process, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, or returns `None` when another process holds it. The file is made when missing, and stays.
    ///
    /// # Errors
    /// When the file can't be opened or is a link.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(NO_FOLLOW | NON_BLOCK)
                .open(path)?;
            match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
            // The name may have been given to another file meanwhile: whoever comes next would lock that one.
            let lock = Self { file };
            if lock.is_current(path) {
                return Ok(Some(lock));
            }
        }
    }

    /// Takes the lock as soon as it is free; `None` when it isn't within `limit`.
    ///
    /// # Errors
    /// When the file can't be opened or is a link.
    pub fn take_within(path: &Path, limit: Duration) -> io::Result<Option<Self>> {
        let end = Instant::now() + limit;
        loop {
            match Self::try_take(path)? {
                // A waiting flock(2) could only be ended by a signal, so the waiting is ours.
                None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                taken => return Ok(taken),
            }
        }
    }

    /// Whether the name is still that of the file that is locked: otherwise somebody else can have the lock as well.
    pub fn is_current(&self, path: &Path) -> bool {
        matches!((self.file.metadata(), fs::symlink_metadata(path)),
            (Ok(ours), Ok(named)) if (ours.dev(), ours.ino()) == (named.dev(), named.ino()))
    }

    /// Whether this process is the one that holds the lock, as the kernel says (`/proc/locks`, proc_locks(5)).
    pub fn is_held_by(path: &Path, pid: i32) -> bool {
        let (Ok(meta), Ok(locks)) = (fs::symlink_metadata(path), fs::read_to_string("/proc/locks")) else {
            return false;
        };
        // "1: FLOCK  ADVISORY  WRITE 708 00:13:1337 0 EOF". The device is the file system's, which isn't always the
        // file's own (overlayfs, btrfs): the inode has to do, together with the pid.
        locks.lines().any(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let inode = fields.get(5).and_then(|place| place.rsplit(':').next()?.parse::<u64>().ok());
            fields.get(1) == Some(&"FLOCK")
                && fields.get(4).and_then(|field| field.parse().ok()) == Some(pid)
                && inode == Some(meta.ino())
        })
    }

    /// Writes `text` into the locked file, for whoever wants to know who holds the lock.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn note(&self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        std::os::unix::fs::FileExt::write_all_at(&self.file, text.as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_replaced_file_reads_back_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        replace(&path, b"one", 0o644).unwrap();
        replace(&path, b"two", 0o644).unwrap();
        assert_eq!(read_trusted(&path, 10).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = child.id();
        child.wait().unwrap();
        let ours = std::process::id();
        for name in [format!(".fault.json.{gone}.new"), format!(".fault.json.{ours}.new"), ".x.new".into()] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        sweep(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [format!(".fault.json.{ours}.new").as_str(), ".x.new"]);
    }

    #[test]
    fn a_link_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("record"), dir.path().join("target"));
        fs::write(&target, "innocent").unwrap();
        symlink(&target, &path).unwrap();
        assert!(read_trusted(&path, 10).is_err());
        assert!(Lock::try_take(&path).is_err());
        replace(&path, b"mine", 0o600).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"innocent");
    }

    #[test]
    fn what_others_can_write_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        replace(&path, b"x", 0o666).unwrap();
        assert!(read_trusted(&path, 10).is_err());
    }

    #[test]
    fn a_file_over_the_limit_is_refused_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        assert!(read_trusted(&path, 10).unwrap().is_none());
        replace(&path, b"12345678901", 0o600).unwrap();
        assert!(read_trusted(&path, 10).is_err());
        assert!(read_trusted(dir.path(), 10).is_err(), "a folder is no file");
    }

    #[test]
    fn a_folder_that_is_a_link_or_anybodys_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        ensure_folder(&dir.path().join("a/b")).unwrap();
        symlink(dir.path().join("a"), dir.path().join("link")).unwrap();
        assert!(ensure_folder(&dir.path().join("link")).is_err());
        fs::set_permissions(dir.path().join("a"), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(ensure_folder(&dir.path().join("a")).is_err());
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::try_take(&path).unwrap();
        assert!(held.is_some());
        assert!(Lock::try_take(&path).unwrap().is_none());
        let us = i32::try_from(std::process::id()).unwrap();
        assert!(Lock::is_held_by(&path, us) && !Lock::is_held_by(&path, us + 1));
        drop(held);
        assert!(!Lock::is_held_by(&path, us));
        let robbed = Lock::try_take(&path).unwrap().unwrap();
        assert!(robbed.is_current(&path));
        fs::remove_file(&path).unwrap();
        assert!(!robbed.is_current(&path));
        drop(robbed);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }
}
