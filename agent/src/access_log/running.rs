//! Which nginx configurations count: the one that is named, else those by which an nginx runs here, else the one in a
//! usual place.

use std::path::{Path, PathBuf};

use crate::nginx::conf::{Bounds, Conf, ConfError, USUAL_FILES};
use crate::nginx::master::{Master, Which, discover};

/// A configuration, and what it doesn't say itself.
#[derive(Debug)]
pub(super) struct Configuration {
    /// What it says.
    pub conf: Conf,
    /// Whether an nginx runs by it.
    pub runs: bool,
}

impl Configuration {
    /// Where nginx logs without an `access_log`, as far as that can be known.
    pub(super) fn built_in_logs(&self) -> Vec<PathBuf> {
        let default = self.conf.prefix.join("logs/access.log");
        [default, PathBuf::from("/var/log/nginx/access.log")].into()
    }
}

/// The configurations that count, and why others don't.
///
/// # Errors
/// When `named` can't be read.
pub(super) fn configurations(named: Option<&Path>) -> Result<(Vec<Configuration>, Vec<String>), ConfError> {
    let masters = discover(Which::Any).masters;
    let mut notes = Vec::new();
    if let Some(path) = named {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let master = masters.iter().find(|master| is_same(&master.conf, &path));
        let conf = Conf::load(&path, master.and_then(prefix).as_deref())?;
        return Ok((vec![Configuration { conf, runs: master.is_some() }], notes));
    }
    let mut found: Vec<Configuration> = Vec::new();
    for master in &masters {
        let known = found.iter().any(|one| one.conf.path == master.conf);
        match Conf::load_within(&master.conf, prefix(master).as_deref(), &Bounds::OURS) {
            Ok(conf) if !known => found.push(Configuration { conf, runs: true }),
            Ok(_) => {}
            Err(e) => {
                notes.push(format!("nginx {} runs by a configuration that can't be read: {e}", master.id.pid))
            }
        }
    }
    if found.is_empty()
        && let Some(path) = USUAL_FILES.iter().map(Path::new).find(|path| path.exists())
    {
        match Conf::load(path, None) {
            Ok(conf) => found.push(Configuration { conf, runs: false }),
            Err(e) => notes.push(format!("nginx's configuration is left out: {e}")),
        }
    }
    Ok((found, notes))
}

/// What relative paths start from, where it was given.
fn prefix(master: &Master) -> Option<PathBuf> {
    let at = master.args.iter().rposition(|arg| arg == "-p")?;
    Some(master.cwd.join(master.args.get(at + 1)?))
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || std::fs::canonicalize(a).is_ok_and(|a| std::fs::canonicalize(b).is_ok_and(|b| a == b))
}
