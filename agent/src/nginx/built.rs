//! What an nginx binary was built with, as `nginx -V` says.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::sys::proc::{self, Exe};
use crate::sys::run::bounded;

/// It takes a few milliseconds; a machine whose every CPU burns takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A file as it is: its device, its inode, and when that was last changed.
type FileId = (u64, u64, i64, i64);

/// What each binary was built with, or why that can't be known; asked once for all masters that run it.
#[derive(Debug, Default)]
pub(super) struct Builds(HashMap<(PathBuf, u64, u64), Result<Built, String>>);

impl Builds {
    pub(super) fn of(&mut self, exe: &Exe) -> Result<Built, String> {
        let key = (exe.path.clone(), exe.dev, exe.ino);
        self.0.entry(key).or_insert_with(|| Built::of(&exe.path)).clone()
    }
}

/// Where nginx looks when nobody tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    pub(crate) prefix: PathBuf,
    pub(super) conf: PathBuf,
    pub(super) pid: PathBuf,
    /// Where requests are logged without an `access_log`, where that was chosen.
    pub(crate) log: Option<PathBuf>,
}

impl Built {
    /// What `EXE -V` says, which reads no configuration; only a file that root alone can have put there is run, and once
    /// for each file.
    pub(crate) fn of(exe: &Path) -> Result<Self, String> {
        static KNOWN: Mutex<BTreeMap<FileId, Built>> = Mutex::new(BTreeMap::new());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let file = || {
            let meta = std::fs::metadata(exe).ok()?;
            Some((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
        };
        let before = file();
        if let Some(built) = before.and_then(|id| known().get(&id).cloned()) {
            return Ok(built);
        }
        let built = Self::ask(exe)?;
        if let Some(id) = before.filter(|_| file() == before) {
            known().insert(id, built.clone());
        }
        Ok(built)
    }

    fn ask(exe: &Path) -> Result<Self, String> {
        if !proc::is_trusted_program(exe) {
            return Err(format!("{} is missing, or others than root can replace it", exe.display()));
        }
        let mut command = Command::new(exe);
        command.arg("-V").env_clear().current_dir("/");
        let done = bounded(&mut command, "", PATIENCE).map_err(|e| format!("{} -V: {e}", exe.display()))?;
        if !done.stderr.contains("nginx version:") {
            return Err(format!("{} does not call itself nginx", exe.display()));
        }
        Ok(Self::parse(&done.stderr))
    }

    /// Where an option is missing, its default (<https://nginx.org/en/docs/configure.html>).
    fn parse(text: &str) -> Self {
        let option = |name: &str| {
            let value = text.split_ascii_whitespace().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
            value.map(|v| PathBuf::from(v.trim_matches('\'')))
        };
        let prefix = option("--prefix").unwrap_or_else(|| "/usr/local/nginx".into());
        Self {
            conf: option("--conf-path").unwrap_or_else(|| prefix.join("conf/nginx.conf")),
            pid: option("--pid-path").unwrap_or_else(|| prefix.join("logs/nginx.pid")),
            log: option("--http-log-path").map(|log| prefix.join(log)),
            prefix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_binary_was_built_with_is_read_from_its_own_words() {
        let text = "nginx version: nginx/1.22.1\nconfigure arguments: --with-cc-opt='-g -O2' \
                    --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --pid-path=/run/nginx.pid";
        let built = Built::parse(text);
        assert_eq!(built.conf, Path::new("/etc/nginx/nginx.conf"));
        assert_eq!(built.pid, Path::new("/run/nginx.pid"));
        assert_eq!(built.log, None);
        let plain = Built::parse("configure arguments: --prefix=/opt/nginx");
        assert_eq!(plain.conf, Path::new("/opt/nginx/conf/nginx.conf"));
        assert_eq!(plain.pid, Path::new("/opt/nginx/logs/nginx.pid"));
    }

    #[test]
    fn a_program_that_does_not_end_or_is_no_nginx_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (text, program) = (dir.path().join("text"), dir.path().join("nginx"));
        std::fs::write(&text, "#!/bin/sh\necho something else >&2\n").unwrap();
        // By a child: what this process has just written may be open in what another test forks, and can't be executed.
        let mut install = std::process::Command::new("install");
        assert!(install.args(["-m", "755"]).arg(&text).arg(&program).status().unwrap().success());
        assert!(Built::of(&program).unwrap_err().contains("does not call itself nginx"));
        assert!(Built::of(Path::new("/nonexistent/nginx")).unwrap_err().contains("is missing"));
    }
}
