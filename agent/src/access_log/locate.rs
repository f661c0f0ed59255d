//! Which log, and in which format: what the user says, else what nginx's configuration says, else the usual places.

use std::path::{Path, PathBuf};

use super::format::{COMBINED, Format, FormatError, MAIN, RECOMMENDED};
use crate::nginx::conf::{AccessLog, Conf, Held};

/// Where nginx usually logs: built from source under /opt (the second as some guides have it), the packages' place,
/// built from source with nginx's defaults.
pub const USUAL_LOGS: [&str; 4] = [
    "/opt/nginx/logs/access.log",
    "/opt/nginx/logs/access.logs",
    "/var/log/nginx/access.log",
    "/usr/local/nginx/logs/access.log",
];

/// What rotated logs are packed with.
const COMPRESSED: [&str; 5] = ["gz", "bz2", "xz", "zst", "lz4"];

/// A log and how to read it.
#[derive(Debug, Clone)]
pub struct Located {
    /// The log; it may not exist yet.
    pub path: PathBuf,
    /// Formats to try, the likeliest first.
    pub formats: Vec<Format>,
    /// For how long nginx holds its lines back, as far as its configuration tells.
    pub held: Held,
}

/// Why no log can be read.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// There is none.
    #[error("no access log found, neither in nginx's configuration nor at {}; name it with --log", USUAL_LOGS.join(", "))]
    NoLog,
    /// Only bytes that are written as they are can be followed.
    #[error("{}: it is compressed; unpack it and name the result with --log, or let nginx log without gzip", .0.display())]
    Compressed(PathBuf),
    /// The format that was given can't be used.
    #[error("--format: {0}")]
    Format(FormatError),
    /// The format that nginx logs in can't be used.
    #[error("{}: {reason}", path.display())]
    LogFormat {
        /// The log.
        path: PathBuf,
        /// What is wrong with its format.
        reason: FormatError,
    },
}

/// Finds the log and its format, where they aren't given; `conf` is nginx's main configuration file, where it isn't in a usual place.
///
/// # Errors
/// When none is named and none exists, or its format can't be used.
pub fn locate(log: Option<&Path>, format: Option<&str>, conf: Option<&Path>) -> Result<Located, LocateError> {
    // A configuration that can't be read or understood only means that we know less.
    let conf = conf.map_or_else(Conf::load_usual, |path| Conf::load(path, None).map(Some)).ok().flatten();
    let logs = conf.as_ref().map(Conf::access_logs).unwrap_or_default();
    let usual = || {
        let is_file = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
        let configured = logs.iter().map(|log| log.path.clone());
        let places = configured.chain(USUAL_LOGS.iter().map(PathBuf::from));
        places.clone().find(is_file).or_else(|| places.clone().find(|path| path.exists()))
    };
    let path = log.map(Path::to_owned).or_else(usual).ok_or(LocateError::NoLog)?;
    let same = |other: &Path| {
        other == path
            || std::fs::canonicalize(&path).is_ok_and(|p| std::fs::canonicalize(other).is_ok_and(|o| o == p))
    };
    let configured = logs.iter().find(|log| same(&log.path));
    let packed = path.extension().is_some_and(|ext| COMPRESSED.iter().any(|name| ext == *name));
    if packed || configured.is_some_and(|log| log.gzip) {
        return Err(LocateError::Compressed(path));
    }
    let held = configured.map_or(Held::No, |log| log.held);
    let formats = formats(format, &path, configured, conf.as_ref())?;
    Ok(Located { path, formats, held })
}

fn formats(
    given: Option<&str>,
    path: &Path,
    configured: Option<&AccessLog>,
    conf: Option<&Conf>,
) -> Result<Vec<Format>, LocateError> {
    let named = |name: &str| conf.and_then(|conf| conf.log_formats().remove(name));
    if let Some(text) = given {
        let format = match named(text) {
            Some(format) => Format::new(&format.escape, &format.text),
            None => Format::compile(text),
        };
        return Ok(vec![format.map_err(LocateError::Format)?]);
    }
    let mut formats = Vec::new();
    for format in configured.iter().flat_map(|log| &log.formats).filter_map(|name| named(name)) {
        match Format::new(&format.escape, &format.text) {
            Ok(format) => formats.push(format),
            // Lines of other formats in the same file are read all the same.
            Err(_) if configured.is_some_and(|log| log.formats.len() > 1) => {}
            Err(reason) => return Err(LocateError::LogFormat { path: path.to_owned(), reason }),
        }
    }
    for text in [COMBINED, MAIN, RECOMMENDED] {
        formats.extend(Format::new("default", text).ok().filter(|format| !formats.contains(format)));
    }
    Ok(formats)
}
