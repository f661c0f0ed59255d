//! Which logs, and in which formats: what the user names, else every access log of nginx's configuration, else the
//! usual places. A configuration that was named and can't be read is an error; no other log is judged instead.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::format::{COMBINED, Format, FormatError, MAIN, RECOMMENDED, RECOMMENDED_BEFORE};
use super::running::{Configuration, configurations};
use crate::nginx::conf::{AccessLog, Conf, ConfError, Held};

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

/// More logs than this are not followed together.
const MOST: usize = 256;

/// The logs to read.
#[derive(Debug, Clone, Default)]
pub struct Located {
    /// Each file once; it may not exist yet.
    pub logs: Vec<LogFile>,
    /// What of the configuration keeps requests out of these logs, or lines from being read; for people.
    pub notes: Vec<String>,
    /// The files and folders of nginx's configuration that say so: while these are as they were, so is this.
    pub sources: Vec<PathBuf>,
}

impl Located {
    /// For how long nginx holds lines back, at most, as far as its configuration tells.
    pub fn held(&self) -> Held {
        self.logs.iter().map(|log| log.held).max().unwrap_or(Held::No)
    }
}

/// A log and how to read it.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
    /// Formats to try, the likeliest first.
    pub formats: Vec<Format>,
    /// For how long nginx holds its lines back, as far as its configuration tells.
    pub held: Held,
}

impl From<ConfError> for LocateError {
    fn from(error: ConfError) -> Self {
        Self::Conf(error)
    }
}

/// Why no log can be read.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// There is none.
    #[error("no access log found, neither in nginx's configuration nor at {}; name it with --log", USUAL_LOGS.join(", "))]
    NoLog,
    /// The configuration logs to no file that could be read.
    #[error("{}: nothing is logged to a file: {}; name a log with --log", conf.display(), reasons.join("; "))]
    NoFile {
        /// The main file.
        conf: PathBuf,
        /// Each `access_log` that is why, with its line.
        reasons: Vec<String>,
    },
    /// The configuration that was named can't be read.
    #[error("nginx's configuration: {0}")]
    Conf(ConfError),
    /// Only bytes that are written as they are can be followed.
    #[error("{}: it is compressed; unpack it and name the result with --log, or let nginx log without gzip", .0.display())]
    Compressed(PathBuf),
    /// The format that was given can't be used.
    #[error("--format: {0}")]
    Format(FormatError),
    /// No format has the name that was given.
    #[error("--format: no log_format of that name, \"{name}\"; there are {}{}", known.join(", "),
        alike.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    UnknownFormat {
        /// The name.
        name: String,
        /// All names that there are.
        known: Vec<String>,
        /// The one that was probably meant.
        alike: Option<String>,
    },
    /// The format that nginx logs in can't be used.
    #[error("{}: {reason}", path.display())]
    LogFormat {
        /// The log.
        path: PathBuf,
        /// What is wrong with its format.
        reason: FormatError,
    },
}

impl LocateError {
    /// Whether what was asked for makes no sense, rather than that nothing can be told.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Format(_) | Self::UnknownFormat { .. } | Self::Conf(_))
    }
}

/// Finds the logs and their formats, where they aren't given; `conf` is nginx's main configuration file, where one is
/// named.
///
/// # Errors
/// When none is named and none exists, its format can't be used, or the named configuration can't be read.
pub fn locate(log: Option<&Path>, format: Option<&str>, conf: Option<&Path>) -> Result<Located, LocateError> {
    let (confs, mut notes) = configurations(conf)?;
    let sources: Vec<PathBuf> = confs.iter().flat_map(|known| known.conf.sources()).cloned().collect();
    let given = format.map(|text| given(text, &confs)).transpose()?;
    if let Some(path) = log {
        let known = confs.iter().map(|known| &known.conf).find_map(|conf| {
            let log = conf.access_logs().into_iter().find(|log| same_file(&log.path, path))?;
            Some((conf, log))
        });
        let file = match known {
            Some((conf, log)) => configured(conf, &log, given.as_ref(), &mut notes)?,
            None => LogFile {
                path: path.to_owned(),
                formats: given.map_or_else(usual, |f| vec![f]),
                held: Held::No,
            },
        };
        if is_packed(path) {
            return Err(LocateError::Compressed(path.to_owned()));
        }
        return Ok(Located { logs: vec![LogFile { path: path.to_owned(), ..file }], notes, sources });
    }
    let mut logs: Vec<LogFile> = Vec::new();
    let mut unusable = None;
    for known in &confs {
        let conf = &known.conf;
        for log in conf.access_logs() {
            match configured(conf, &log, given.as_ref(), &mut notes) {
                Ok(file) => add(&mut logs, file),
                Err(e) => {
                    notes.push(e.to_string());
                    unusable = unusable.or(Some(e));
                }
            }
        }
        if conf.logs_to_built_in() {
            let formats = given.clone().map_or_else(usual, |f| vec![f]);
            let file = |path| LogFile { path, formats: formats.clone(), held: Held::No };
            known
                .built_in_logs()
                .into_iter()
                .filter(|path| is_file(path))
                .for_each(|path| add(&mut logs, file(path)));
        }
        notes.extend(conf.unlogged().iter().map(ToString::to_string));
    }
    let is_there = |logs: &[LogFile]| logs.iter().any(|log| log.path.exists());
    // A configuration that nobody named and nothing runs by may be a leftover.
    if conf.is_none() && !confs.iter().any(|known| known.runs) && !is_there(&logs) {
        let found = USUAL_LOGS.iter().map(PathBuf::from).find(|path| is_file(path));
        let formats = given.map_or_else(usual, |f| vec![f]);
        logs.extend(found.map(|path| LogFile { path, formats, held: Held::No }));
    }
    if logs.len() > MOST {
        notes.push(format!("of {} logs only the first {MOST} are read; name one with --log", logs.len()));
        logs.truncate(MOST);
    }
    match (logs.is_empty(), unusable, confs.first()) {
        (false, ..) => Ok(Located { logs, notes, sources }),
        (true, Some(unusable), _) => Err(unusable),
        (true, None, Some(known)) if !notes.is_empty() => {
            Err(LocateError::NoFile { conf: known.conf.path.clone(), reasons: notes })
        }
        _ => Err(LocateError::NoLog),
    }
}

/// Adds a file, or its formats to those of the same file.
fn add(logs: &mut Vec<LogFile>, file: LogFile) {
    match logs.iter_mut().find(|log| same_file(&log.path, &file.path)) {
        Some(log) => {
            let more = file.formats.into_iter().filter(|format| !log.formats.contains(format));
            log.formats.extend(more.collect::<Vec<_>>());
            log.held = log.held.max(file.held);
        }
        None => logs.push(file),
    }
}

/// A log of the configuration with all its formats. One that can't be used only disqualifies its own lines.
fn configured(
    conf: &Conf,
    log: &AccessLog,
    given: Option<&Format>,
    notes: &mut Vec<String>,
) -> Result<LogFile, LocateError> {
    if log.gzip || is_packed(&log.path) {
        return Err(LocateError::Compressed(log.path.clone()));
    }
    if let Some(format) = given {
        return Ok(LogFile { path: log.path.clone(), formats: vec![format.clone()], held: log.held });
    }
    let (mut formats, mut wrong) = (Vec::new(), Vec::new());
    let defined = conf.log_formats();
    for name in &log.formats {
        match defined.get(name) {
            Some(format) => match Format::new(&format.escape, &format.text) {
                Ok(compiled) => formats.push(compiled.called(name)),
                Err(reason) => wrong.push((name, &format.place, reason)),
            },
            None if name == "combined" => {}
            None => notes.push(format!("{}: there is no log_format {name}", log.place)),
        }
    }
    let has_combined = log.formats.iter().any(|name| name == "combined" && !defined.contains_key(name));
    if formats.is_empty()
        && !has_combined
        && let Some((_, _, reason)) = wrong.first()
    {
        return Err(LocateError::LogFormat { path: log.path.clone(), reason: reason.clone() });
    }
    notes.extend(wrong.iter().map(|(name, place, reason)| format!("{place}: log_format {name}: {reason}")));
    let others = usual().into_iter().filter(|format| !formats.contains(format)).collect::<Vec<_>>();
    formats.extend(others);
    Ok(LogFile { path: log.path.clone(), formats, held: log.held })
}

/// The format that was asked for: one of nginx's syntax, or a name.
fn given(text: &str, confs: &[Configuration]) -> Result<Format, LocateError> {
    let name = text.trim();
    for known in confs {
        if let Some(format) = known.conf.log_formats().remove(name) {
            let compiled = Format::new(&format.escape, &format.text).map_err(LocateError::Format)?;
            return Ok(compiled.called(name));
        }
    }
    if text.contains('$') || ["combined", "main"].contains(&name) {
        let name = if text.contains('$') { "as given" } else { name };
        return Format::compile(text).map(|format| format.called(name)).map_err(LocateError::Format);
    }
    let mut known: Vec<String> =
        confs.iter().flat_map(|known| known.conf.log_formats().into_keys()).collect();
    known.extend(["combined".to_owned(), "main".to_owned()]);
    known.sort();
    known.dedup();
    let alike = known.iter().min_by_key(|known| distance(known, name)).cloned();
    let alike = alike.filter(|known| distance(known, name) <= 1 + name.len() / 3);
    Err(LocateError::UnknownFormat { name: name.to_owned(), known, alike })
}

/// The formats that lines have where nobody says in which they are.
fn usual() -> Vec<Format> {
    let formats = [
        ("combined", COMBINED),
        ("main", MAIN),
        ("asg_agent", RECOMMENDED),
        ("asg_agent without $request_time", RECOMMENDED_BEFORE),
    ];
    formats.iter().filter_map(|(name, text)| Some(Format::new("default", text).ok()?.called(name))).collect()
}

/// How many letters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row.last().copied().unwrap_or(0)
}

fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|ext| COMPRESSED.iter().any(|name| ext == *name))
}

fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Whether two paths name one file, there or not.
fn same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    a == b || id(a).is_some_and(|one| id(b) == Some(one))
}
