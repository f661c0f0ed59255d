//! nginx's configuration: parsed, includes followed, and asked for what matters here (where it listens, where it
//! logs, its pid file). Read from the files themselves, as `nginx -T` needs root and the certificates' keys.

mod listen;
mod logs;
mod parse;
mod read;
mod words;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use listen::{Address, Listen, Listener, on_this_machine};
pub use logs::{AccessLog, Held, LogFormat, Unlogged, Why};
pub use parse::Directive;
pub use read::Bounds;

/// Where nginx's main configuration usually lies: built from source in two places, then the packages' place.
pub const USUAL_FILES: [&str; 3] =
    ["/opt/nginx/conf/nginx.conf", "/usr/local/nginx/conf/nginx.conf", "/etc/nginx/nginx.conf"];

/// A line of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// A file can't be read.
    #[error("cannot read {}: {why}{included}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where it is included, as the message's end; empty for the main file.
        included: String,
        /// What the system said.
        why: io::Error,
    },
    /// A file isn't nginx's syntax.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
    },
    /// It is larger than any configuration.
    #[error("{place}: {what}")]
    TooMuch {
        /// Where reading stopped.
        place: Place,
        /// What there is too much of.
        what: String,
    },
}

/// A configuration with all its includes.
#[derive(Debug, Clone)]
pub struct Conf {
    /// The main file.
    pub path: PathBuf,
    /// What relative paths of logs and pid files start from.
    pub prefix: PathBuf,
    directives: Vec<Directive>,
    sources: Vec<PathBuf>,
}

impl Conf {
    /// Parses `path` and what it includes. Relative logs and pid files start from `prefix`; where that isn't known
    /// the folder above `conf/`, else the file's own folder is taken.
    ///
    /// # Errors
    /// When a file can't be read or isn't nginx's syntax, or the includes never end.
    pub fn load(path: &Path, prefix: Option<&Path>) -> Result<Self, ConfError> {
        Self::load_within(path, prefix, &Bounds::OURS)
    }

    /// As [`Conf::load`], and costs no more than `bounds` allow: for what others than root may have named or written.
    ///
    /// # Errors
    /// As [`Conf::load`], and when the bounds are reached.
    pub fn load_within(path: &Path, prefix: Option<&Path>, bounds: &Bounds) -> Result<Self, ConfError> {
        Ok(Self::of(parse::load(path, bounds)?, path, prefix))
    }

    /// The same of a main file's text, as if it lay at `path`.
    ///
    /// # Errors
    /// As [`Conf::load_within`].
    pub fn from_text(text: &[u8], path: &Path, bounds: &Bounds) -> Result<Self, ConfError> {
        Ok(Self::of(parse::text(text, path, bounds)?, path, None))
    }

    fn of((directives, sources): parse::Parsed, path: &Path, prefix: Option<&Path>) -> Self {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let usual = if folder.ends_with("conf") { folder.parent().unwrap_or(folder) } else { folder };
        Self { path: path.to_owned(), prefix: prefix.unwrap_or(usual).to_owned(), directives, sources }
    }

    /// The first of the usual files that exists, parsed; `None` where none exists.
    ///
    /// # Errors
    /// Of the first one that exists.
    pub fn load_usual() -> Result<Option<Self>, ConfError> {
        let found = USUAL_FILES.iter().map(Path::new).find(|path| path.exists());
        found.map(|path| Self::load(path, None)).transpose()
    }

    /// The pid file that the configuration names; without one nginx uses what it was built with.
    pub fn pid_file(&self) -> Option<PathBuf> {
        let pid = self.directives.iter().find(|d| d.name == "pid")?;
        Some(self.prefix.join(pid.args.first()?))
    }

    /// The first argument of a simple directive of the main context, such as `daemon` or `user`.
    pub fn global(&self, name: &str) -> Option<String> {
        self.directives.iter().find(|d| d.name == name)?.args.first().cloned()
    }

    /// All directives of the main context.
    pub fn directives(&self) -> &[Directive] {
        &self.directives
    }

    /// The files that were read, and the folders in which masks of includes were looked for: while all of these are as
    /// they were, the configuration is.
    pub fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    fn http(&self) -> impl Iterator<Item = &Directive> {
        self.directives.iter().filter(|d| d.name == "http").flat_map(|d| d.block.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn conf(text: &str) -> Conf {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nginx.conf");
        std::fs::write(&path, text).unwrap();
        Conf::load(&path, Some(Path::new("/p"))).unwrap()
    }
}
