//! Files of a configuration, read within bounds: what a stranger's configuration includes may have no end, and may
//! be anything.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// How much reading one configuration may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// All files together.
    pub bytes: u64,
    /// How many files.
    pub files: usize,
    /// How many names are looked at for the masks of includes.
    pub names: usize,
    /// How many words are kept in memory.
    pub words: usize,
    /// How deeply includes and blocks may be nested.
    pub depth: usize,
    /// The time that it may take.
    pub time: Duration,
}

impl Bounds {
    /// For this machine's own configuration: far above what exists.
    pub const OURS: Self = Self {
        bytes: 64 << 20,
        files: 50_000,
        names: 500_000,
        words: 2_000_000,
        depth: 48,
        time: Duration::from_secs(20),
    };

    /// For a configuration that anybody may have named: milliseconds and a few megabytes.
    pub const STRANGERS: Self = Self {
        bytes: 1 << 20,
        files: 200,
        names: 5000,
        words: 50_000,
        depth: 24,
        time: Duration::from_millis(50),
    };
}

/// Reads files as long as there is something left to spend.
#[derive(Debug)]
pub(super) struct Budget {
    left: Bounds,
    end: Instant,
    /// The files that were read, and the folders that masks looked into.
    pub(super) sources: Vec<PathBuf>,
}

/// What was used up.
#[derive(Debug)]
pub(super) struct Spent(pub String);

impl Budget {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self { left: *bounds, end: Instant::now() + bounds.time, sources: Vec::new() }
    }

    /// All of a regular file. Nothing is opened that could block or that opening alone would change.
    pub(super) fn read(&mut self, path: &Path) -> Result<io::Result<Vec<u8>>, Spent> {
        self.left.files = self.left.files.checked_sub(1).ok_or(Spent("too many files".into()))?;
        self.in_time()?;
        self.sources.push(path.to_owned());
        let mut file = match open_regular(path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Ok(Vec::new())),
            Err(e) => return Ok(Err(e)),
        };
        let mut bytes = Vec::new();
        let limit = self.left.bytes + 1;
        if let Err(e) = file.by_ref().take(limit).read_to_end(&mut bytes) {
            return Ok(Err(e));
        }
        let left = self.left.bytes.checked_sub(bytes.len() as u64);
        self.left.bytes = left.ok_or(Spent("too many bytes".into()))?;
        Ok(Ok(bytes))
    }

    /// Counts words that are kept.
    pub(super) fn keep(&mut self, words: usize) -> Result<(), Spent> {
        self.left.words = self.left.words.checked_sub(words).ok_or(Spent("too many words".into()))?;
        if self.left.words % 512 < words { self.in_time() } else { Ok(()) }
    }

    /// How deeply includes and blocks may be nested.
    pub(super) fn depth(&self) -> usize {
        self.left.depth
    }

    /// Whether there is time left.
    pub(super) fn in_time(&self) -> Result<(), Spent> {
        if Instant::now() < self.end { Ok(()) } else { Err(Spent("it takes too long to read".into())) }
    }

    /// The files that a mask names, sorted as glob(3) sorts them; a leading dot must be written out, as there.
    pub(super) fn glob(&mut self, mask: &Path) -> Result<Vec<PathBuf>, Spent> {
        let mut found = vec![PathBuf::new()];
        let mut searched = false;
        for part in mask.components() {
            let text = part.as_os_str().to_string_lossy();
            match part {
                Component::Normal(_) if is_mask(&text) => {
                    // Two asterisks are one to glob(3).
                    let mut single = text.into_owned();
                    while single.contains("**") {
                        single = single.replace("**", "*");
                    }
                    let Ok(pattern) = glob::Pattern::new(&single) else { return Ok(Vec::new()) };
                    found = self.matching(&found, &pattern, single.starts_with('.'))?;
                    searched = true;
                }
                part => found.iter_mut().for_each(|path| path.push(part)),
            }
        }
        found.retain(|path| !searched || path.symlink_metadata().is_ok());
        found.sort();
        Ok(found)
    }

    fn matching(
        &mut self,
        folders: &[PathBuf],
        pattern: &glob::Pattern,
        hidden: bool,
    ) -> Result<Vec<PathBuf>, Spent> {
        let mut found = Vec::new();
        for folder in folders {
            self.in_time()?;
            self.sources.push(folder.clone());
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                self.left.names =
                    self.left.names.checked_sub(1).ok_or(Spent("an include names too many files".into()))?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if pattern.matches(&name) && (hidden || !name.starts_with('.')) {
                    found.push(folder.join(entry.file_name()));
                }
            }
        }
        Ok(found)
    }
}

/// Whether an include names many files.
pub(super) fn is_mask(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Opens a regular file; `None` is `/dev/null`, an empty file by another name.
fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let regular = |meta: &std::fs::Metadata| {
        if meta.is_file() { Ok(()) } else { Err(io::Error::other("it is no regular file")) }
    };
    let real = std::fs::canonicalize(path)?;
    if real == Path::new("/dev/null") {
        return Ok(None);
    }
    regular(&std::fs::metadata(&real)?)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&real)?;
    regular(&file.metadata()?)?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_match_as_glob_3_does() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt", "d/x.conf", "e/x.conf", "e/y.conf"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut budget = Budget::new(&Bounds::OURS);
        let mut found = |mask: &str| -> Vec<String> {
            let all = budget.glob(&dir.path().join(mask)).unwrap();
            all.iter().map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(found("*.conf"), ["a.conf", "b.conf"]);
        assert_eq!(found(".*.conf"), [".hidden.conf"]);
        assert_eq!(found("*/y.conf"), ["e/y.conf"]);
        assert_eq!(found("**/[x-z].conf"), ["d/x.conf", "e/x.conf", "e/y.conf"]);
        assert_eq!(found("?.txt"), ["c.txt"]);
        assert_eq!(found("none*"), Vec::<String>::new());
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut budget = Budget::new(&Bounds::STRANGERS);
        for path in [&pipe, Path::new("/dev/zero"), dir.path(), Path::new("/nonexistent")] {
            assert!(budget.read(path).unwrap().is_err(), "{}", path.display());
        }
        assert_eq!(budget.read(Path::new("/dev/null")).unwrap().unwrap(), b"");
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(1 << 40).unwrap();
        assert!(budget.read(&large).is_err());
    }
}
