//! Where the nginx that is started again writes its output: where the old one did. The keeper holds copies of those
//! descriptors as long as the fault lasts, as a pipe, a socket or a terminal can't be opened by a name.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::fault::record::Target;
use crate::sys::proc;

/// Copies of the two descriptors of a running nginx, for whoever starts its successor.
///
/// What can't be copied (Linux before 5.6 has no `pidfd_getfd`) is looked for when it is needed.
pub(crate) fn hold(target: &Target) -> Vec<OwnedFd> {
    let Some(pid) = Pid::from_raw(target.master.pid).filter(|_| target.master.is_alive()) else {
        return Vec::new();
    };
    let copy = |fd| copy_of(pid, fd).ok();
    [1, 2].into_iter().filter_map(copy).collect()
}

/// The descriptor that leads where `link` of `/proc/PID/fd` says.
///
/// # Errors
/// When nobody holds it any more, or the file can't be opened.
pub(super) fn again(link: &str) -> io::Result<OwnedFd> {
    if link.is_empty() {
        return Ok(null()?.into());
    }
    if let Some(held) = held(link) {
        return Ok(held);
    }
    let path = Path::new(link);
    if !path.is_absolute() || link.ends_with(" (deleted)") {
        return Err(io::Error::other(format!("{link} is not open anywhere any more")));
    }
    let kind = std::fs::metadata(path).map(|m| m.file_type());
    if kind.as_ref().is_ok_and(|kind| kind.is_char_device()) && link != "/dev/null" {
        return Err(io::Error::other(format!("the terminal {link} may be another one by now")));
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path)?;
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file.into())
}

/// Nowhere.
pub(super) fn null() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}

/// A copy of a descriptor that some process of root's holds; of a pipe, any process.
fn held(link: &str) -> Option<OwnedFd> {
    let is_pipe = link.starts_with("pipe:[");
    proc::pids().into_iter().find_map(|pid| {
        let owner = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        if owner != 0 && !is_pipe {
            return None;
        }
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        fds.flatten().find_map(|entry| {
            let path = entry.path();
            if std::fs::read_link(&path).ok()?.as_os_str() != link {
                return None;
            }
            if is_pipe { reopened(&path).ok() } else { writable(pid, &path) }
        })
    })
}

fn writable(pid: i32, path: &Path) -> Option<OwnedFd> {
    let number: i32 = path.file_name()?.to_str()?.parse().ok()?;
    let fd = copy_of(Pid::from_raw(pid)?, number).ok()?;
    let mode = rustix::fs::fcntl_getfl(fd.as_fd()).ok()? & OFlags::RWMODE;
    (mode != OFlags::RDONLY).then_some(fd)
}

/// Either end of a pipe opens it anew. Without a reader that would wait for one.
fn reopened(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    Ok(file.into())
}

fn copy_of(pid: Pid, fd: i32) -> io::Result<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    fn link(fd: &OwnedFd) -> String {
        use std::os::fd::AsRawFd;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        link.to_string_lossy().into_owned()
    }

    #[test]
    fn a_pipe_and_a_socket_are_found_by_whoever_holds_them_and_a_file_by_its_path() {
        let (mut reader, writer) = io::pipe().unwrap();
        let name = link(&writer.into());
        File::from(again(&name).unwrap()).write_all(b"pipe").unwrap();
        let mut said = [0; 4];
        reader.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"pipe");
        drop(reader);
        assert!(again(&name).is_err(), "nobody reads there any more");

        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let theirs = OwnedFd::from(theirs);
        let name = link(&theirs);
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::from(theirs)).spawn().unwrap();
        let copied = again(&name);
        child.kill().unwrap();
        child.wait().unwrap();
        if rustix::process::geteuid().is_root() {
            File::from(copied.unwrap()).write_all(b"sock").unwrap();
            (&ours).read_exact(&mut said).unwrap();
            assert_eq!(&said, b"sock");
        }

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "one ").unwrap();
        File::from(again(path.to_str().unwrap()).unwrap()).write_all(b"two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one two");
        assert_eq!(link(&again("").unwrap()), "/dev/null");
    }
}
