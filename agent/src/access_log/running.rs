//! Which nginx configurations count: the one that is named, else those by which an nginx runs here, else the one in a
//! usual place.

use std::path::{Path, PathBuf};

use crate::nginx::built::Built;
use crate::nginx::conf::{Bounds, Conf, ConfError, USUAL_FILES};
use crate::nginx::master::{Master, Which, discover};

/// Where nginx's binary usually is.
const PROGRAMS: [&str; 4] = [
    "/opt/nginx/sbin/nginx",
    "/usr/local/nginx/sbin/nginx",
    "/usr/sbin/nginx",
    "/usr/local/openresty/nginx/sbin/nginx",
];

/// A configuration, and what it doesn't say itself.
#[derive(Debug)]
pub(super) struct Configuration {
    /// What it says.
    pub conf: Conf,
    /// Whether an nginx runs by it.
    pub runs: bool,
    /// Where nginx logs without an `access_log`, where its binary says so.
    log: Option<PathBuf>,
}

impl Configuration {
    /// Where nginx logs without an `access_log`, as far as that can be known.
    pub(super) fn built_in_logs(&self) -> Vec<PathBuf> {
        let default = || self.conf.prefix.join("logs/access.log");
        vec![self.log.clone().unwrap_or_else(default)]
    }
}

/// What the nginx in a usual place was built with.
fn usual_build() -> Option<Built> {
    PROGRAMS.iter().map(Path::new).find(|exe| exe.exists()).and_then(|exe| Built::of(exe).ok())
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
        let built = master.map_or_else(usual_build, |master| Built::of(&master.exe.path).ok());
        let given = master.map(|master| prefix(master).or(built.as_ref().map(|built| built.prefix.clone())));
        let mut conf = Conf::load(&path, given.flatten().as_deref())?;
        if master.is_none()
            && let Some(built) = &built
        {
            conf = with_likelier_prefix(conf, &built.prefix)?;
        }
        let log = built.and_then(|built| built.log);
        return Ok((vec![Configuration { conf, runs: master.is_some(), log }], notes));
    }
    let mut found: Vec<Configuration> = Vec::new();
    for master in &masters {
        let known = found.iter().any(|one| one.conf.path == master.conf);
        let built = Built::of(&master.exe.path).ok();
        let prefix = prefix(master).or(built.as_ref().map(|built| built.prefix.clone()));
        match Conf::load_within(&master.conf, prefix.as_deref(), &Bounds::OURS) {
            Ok(conf) if !known => {
                found.push(Configuration { conf, runs: true, log: built.and_then(|built| built.log) });
            }
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
            Ok(conf) => {
                let log = usual_build().and_then(|built| built.log);
                found.push(Configuration { conf, runs: false, log });
            }
            Err(e) => notes.push(format!("nginx's configuration is left out: {e}")),
        }
    }
    Ok((found, notes))
}

/// Of a configuration by which nothing runs it isn't known what relative paths start from: where its logs are, or would
/// be by nginx's own account.
fn with_likelier_prefix(conf: Conf, prefix: &Path) -> Result<Conf, ConfError> {
    let has_logs = |conf: &Conf| conf.access_logs().iter().any(|log| log.path.exists());
    if has_logs(&conf) {
        return Ok(conf);
    }
    let other = Conf::load(&conf.path, Some(prefix))?;
    Ok(if has_logs(&other) { other } else { conf })
}

/// What relative paths start from, where it was given.
fn prefix(master: &Master) -> Option<PathBuf> {
    let at = master.args.iter().rposition(|arg| arg == "-p")?;
    Some(master.cwd.join(master.args.get(at + 1)?))
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || std::fs::canonicalize(a).is_ok_and(|a| std::fs::canonicalize(b).is_ok_and(|b| a == b))
}
