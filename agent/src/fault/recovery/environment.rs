//! The environment of an nginx that no service manager runs, for its restart. It may hold secrets, so it lies beside the
//! world-readable record in a file that root alone can read, for as long as there is a record.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::sys::environ::MAX_BYTES;
use crate::sys::file;

/// What was meant for that one process: sockets handed over by an nginx that was upgraded, or by systemd, and where
/// systemd wanted to hear of it (sd_listen_fds(3), sd_notify(3)).
const PERSONAL: [&str; 8] = [
    "NGINX",
    "NGINX_BPF_MAPS",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];
/// For an nginx whose own can't be known.
const PLAIN: (&str, &str) = ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

/// The file in the state folder.
pub(in crate::fault) fn path(state: &Path) -> PathBuf {
    state.join("fault.environ")
}

/// Keeps `all`, as [`crate::sys::environ::of`] gives it; what another fault left is gone in any case.
pub(in crate::fault) fn keep(state: &Path, all: Option<&[u8]>) -> io::Result<()> {
    match all {
        Some(all) => file::replace(&path(state), all, 0o600),
        None => forget(state),
    }
}

/// What was kept; a plain one where nothing was, or what there is can't be trusted.
pub(in crate::fault) fn kept(state: &Path) -> Vec<(OsString, OsString)> {
    match file::read_trusted(&path(state), MAX_BYTES as u64) {
        Ok(Some(all)) => variables(&all),
        Ok(None) | Err(_) => vec![(PLAIN.0.into(), PLAIN.1.into())],
    }
}

/// What was kept, where something was.
pub(super) fn kept_exactly(state: &Path) -> Option<Vec<(OsString, OsString)>> {
    file::read_trusted(&path(state), MAX_BYTES as u64).ok().flatten().map(|all| variables(&all))
}

/// Removes it.
pub(in crate::fault) fn forget(state: &Path) -> io::Result<()> {
    file::remove(&path(state))
}

/// What a successor would get of `all`, before anything is kept.
pub(in crate::fault) fn for_a_start(all: Option<&[u8]>) -> Vec<(OsString, OsString)> {
    all.map_or_else(|| vec![(PLAIN.0.into(), PLAIN.1.into())], variables)
}

/// The variables that a successor gets.
pub(super) fn variables(all: &[u8]) -> Vec<(OsString, OsString)> {
    let pair = |variable: &[u8]| {
        // A name may begin with an equals sign, as std and bash see it.
        let equals = variable.iter().skip(1).position(|b| *b == b'=')? + 1;
        let (name, value) = variable.split_at_checked(equals)?;
        let personal = PERSONAL.iter().any(|personal| personal.as_bytes() == name);
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        (!personal).then(|| (os(name), os(value.get(1..).unwrap_or_default())))
    };
    all.split(|b| *b == 0).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(state: &Path) -> Vec<String> {
        kept(state).into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
    }

    #[test]
    fn what_is_kept_only_root_can_read_and_the_next_nginx_gets() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path(), Some(b"TZ=Asia/Tokyo\0NGINX=5;6;\0EMPTY=\0A=b=c\0NOTIFY_SOCKET=/x\0nonsense\0"))
            .unwrap();
        let mode = std::fs::metadata(path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let pair = |name: &str, value: &str| (name.into(), value.into());
        assert_eq!(kept(dir.path()), [pair("TZ", "Asia/Tokyo"), pair("EMPTY", ""), pair("A", "b=c")]);
        keep(dir.path(), None).unwrap();
        assert_eq!(names(dir.path()), ["PATH"]);
    }

    #[test]
    fn what_others_could_have_written_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("planted"), "LD_PRELOAD=/tmp/x\0").unwrap();
        symlink(dir.path().join("planted"), path(dir.path())).unwrap();
        assert_eq!(names(dir.path()), ["PATH"]);
        forget(dir.path()).unwrap();
        file::replace(&path(dir.path()), b"LD_PRELOAD=/tmp/x\0", 0o666).unwrap();
        assert_eq!(names(dir.path()), ["PATH"]);
    }
}
