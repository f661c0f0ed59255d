//! What `/proc` says of a process (proc(5)). A pid alone names nobody: it is used again within minutes on a busy
//! host, so a process is always named by its pid and the instant of its start.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One process, now and for ever: no other has both its pid and its start in the same boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

impl Identity {
    /// The process that bears `pid` now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start_ticks: Stat::of(pid)?.start_ticks })
    }

    /// Our own.
    ///
    /// # Errors
    /// When `/proc` isn't mounted.
    pub fn ours() -> io::Result<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Whether it still runs: a zombie doesn't.
    pub fn is_alive(&self) -> bool {
        Stat::of(self.pid).is_ok_and(|s| s.start_ticks == self.start_ticks && !matches!(s.state, 'Z' | 'X'))
    }
}

/// The part of `/proc/PID/stat` that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `T` stopped, `t` held by a tracer, `Z` zombie, …
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// The session it belongs to.
    pub session: i32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

impl Stat {
    /// Of the process that bears `pid` now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: i32) -> io::Result<Self> {
        let text = std::fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as documented")))
    }

    /// The name may hold anything, blanks, brackets and line ends too: the fields start behind the last bracket.
    fn parse(text: &[u8]) -> Option<Self> {
        let name_ends = text.iter().rposition(|b| *b == b')')?;
        let fields = std::str::from_utf8(text.get(name_ends + 1..)?).ok()?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

/// The room, in bytes, that a process has for a title of its own: its arguments and its environment as it was started
/// with them (fields 48 and 51 of `/proc/PID/stat`, which only root is shown).
pub fn title_room(pid: i32) -> Option<u64> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_ends = text.iter().rposition(|b| *b == b')')?;
    let fields = std::str::from_utf8(text.get(name_ends + 1..)?).ok()?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok().filter(|n| *n != 0);
    number(48)?.checked_sub(number(45)?)
}

/// The file a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exe {
    /// Its path, without the mark of a file that was replaced since.
    pub path: PathBuf,
    /// Its device.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
}

impl Exe {
    /// Of the process that bears `pid` now.
    ///
    /// # Errors
    /// When there is none, it is a kernel thread, or we may not look.
    pub fn of(pid: i32) -> io::Result<Self> {
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let path = std::fs::read_link(&link)?;
        let meta = std::fs::metadata(&link)?;
        let path = match path.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
            Some(was) => was.into(),
            None => path,
        };
        Ok(Self { path, dev: meta.dev(), ino: meta.ino() })
    }

    /// Whether that process runs this very file.
    pub fn is_run_by(&self, pid: i32) -> bool {
        std::fs::metadata(format!("/proc/{pid}/exe"))
            .is_ok_and(|m| (m.dev(), m.ino()) == (self.dev, self.ino))
    }
}

/// All processes, in no particular order.
pub fn pids() -> Vec<i32> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    pids().into_iter().filter(|child| Stat::of(*child).is_ok_and(|s| s.parent == pid)).collect()
}

/// Whether a process sees the same pids and the same network as we do. A container's doesn't.
pub fn shares_our_namespaces(pid: i32) -> bool {
    ["pid", "net"].iter().all(|kind| {
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{kind}"));
        matches!((of("self"), of(&pid.to_string())), (Ok(ours), Ok(theirs)) if ours == theirs)
    })
}

/// The inodes of the sockets that a process holds: what a child inherits, and nobody else has.
pub fn sockets(pid: i32) -> BTreeSet<u64> {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    fds.flatten()
        .filter_map(|fd| {
            let link = std::fs::read_link(fd.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// The process that traces this one, if any (`TracerPid` in `/proc/PID/status`).
pub fn tracer(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim().parse().ok()?;
    (tracer != 0).then_some(tracer)
}

/// Who a process is to the kernel, and what it may use: what its successor should be and have as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The mode bits that new files don't get.
    pub umask: u32,
    /// Open files: soft and hard limit; `None` for unlimited.
    pub open_files: Option<(u64, u64)>,
}

impl Credentials {
    /// Of the process that bears `pid` now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: i32) -> io::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        Self::parse(&status, &limits)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status is not as documented")))
    }

    fn parse(status: &str, limits: &str) -> Option<Self> {
        let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let effective = |name| line(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
        let groups =
            line("Groups")?.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let umask = line("Umask").and_then(|m| u32::from_str_radix(m.trim(), 8).ok()).unwrap_or(0o022);
        let files = limits.lines().find_map(|l| l.strip_prefix("Max open files"));
        let mut files = files.into_iter().flat_map(str::split_ascii_whitespace).map(str::parse::<u64>);
        let open_files = match (files.next(), files.next()) {
            (Some(Ok(soft)), Some(Ok(hard))) => Some((soft, hard)),
            _ => None,
        };
        Some(Self { uid: effective("Uid")?, gid: effective("Gid")?, groups, umask, open_files })
    }
}

/// Whether root may run this file: it belongs to root (or to us), and so does every folder above it, and none of
/// them can be written by anybody else.
pub fn is_trusted_program(path: &Path) -> bool {
    let us = rustix::process::geteuid().as_raw();
    path.is_absolute()
        && path.ancestors().all(|part| {
            // A folder with the sticky bit (/tmp) lets nobody replace what belongs to another.
            std::fs::metadata(part).is_ok_and(|m| {
                (m.uid() == 0 || m.uid() == us)
                    && (m.mode() & 0o022 == 0 || (m.is_dir() && m.mode() & 0o1000 != 0))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let text = b"77 (x) S 1 (y) T 5 70 69 0 -1 4194368 31 0 0 0 0 0 0 0 20 0 1 0 159777 10502144 360\n";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat, Stat { state: 'T', parent: 5, session: 69, start_ticks: 159_777 });
        assert_eq!(Stat::parse(b"77 nginx S 1"), None);
    }

    #[test]
    fn we_are_alive_and_a_recycled_pid_is_not_us() {
        let us = Identity::ours().unwrap();
        assert!(us.is_alive() && shares_our_namespaces(us.pid));
        assert!(!Identity { start_ticks: us.start_ticks + 1, ..us }.is_alive());
        assert!(Exe::of(us.pid).unwrap().is_run_by(us.pid) && pids().contains(&us.pid));
    }

    #[test]
    fn a_socket_is_found_by_its_inode() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
        assert!(sockets(Identity::ours().unwrap().pid).contains(&inode));
    }

    #[test]
    fn credentials_are_the_effective_ones() {
        let status = "Name:\tnginx\nUmask:\t0027\nUid:\t1\t33\t1\t1\nGid:\t1\t34\t1\t1\nGroups:\t4 5 \n";
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024      4096     files\n";
        let expected =
            Credentials { uid: 33, gid: 34, groups: vec![4, 5], umask: 0o27, open_files: Some((1024, 4096)) };
        assert_eq!(Credentials::parse(status, limits), Some(expected));
    }

    #[test]
    fn a_program_in_a_folder_that_others_own_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("nginx");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(is_trusted_program(&program));
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(!is_trusted_program(&program));
        assert!(!is_trusted_program(Path::new("nginx")));
    }
}
