//! `[paths]` alone, whatever else is wrong: what must end a fault needs no other setting, and takes a warning for every
//! mistake instead of giving up.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Paths;

/// More than any file of settings has.
const MAX_BYTES: u64 = 1 << 20;
const KEYS: [&str; 3] = ["state", "run", "log"];

impl Paths {
    /// The folders that `file` and the environment (`AGENT_PATHS_STATE`, …) name, and what could not be understood.
    /// A file that is missing where it need not be there is no mistake.
    pub fn known(
        file: &Path,
        must_be_there: bool,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> (Self, Vec<String>) {
        let mut paths = Self::default();
        let mut warnings = Vec::new();
        match read(file) {
            Ok(text) => paths.take(&text, file, &mut warnings),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !must_be_there => {}
            Err(e) => warnings.push(format!("{}: {e}; its [paths] are not known", file.display())),
        }
        for key in KEYS {
            let name = format!("AGENT_PATHS_{}", key.to_ascii_uppercase());
            if let Some(value) = environment(&name) {
                paths.set(key, &value, &name, &mut warnings);
            }
        }
        (paths, warnings)
    }

    fn take(&mut self, text: &str, file: &Path, warnings: &mut Vec<String>) {
        let section = match text.parse::<Table>() {
            Ok(table) => table.get("paths").and_then(Value::as_table).cloned().unwrap_or_default(),
            Err(e) => {
                let what = e.message().lines().next().unwrap_or_default().to_owned();
                warnings.push(format!("{}: {what}; only its [paths] are used", file.display()));
                section_of(text)
            }
        };
        for (key, value) in &section {
            let place = format!("{}: paths.{key}", file.display());
            match value.as_str() {
                Some(value) if KEYS.contains(&key.as_str()) => {
                    self.set(key, OsStr::new(value), &place, warnings);
                }
                Some(_) => warnings.push(format!("{place}: no such setting")),
                None => warnings.push(format!("{place}: not the name of a folder")),
            }
        }
    }

    fn set(&mut self, key: &str, value: &OsStr, place: &str, warnings: &mut Vec<String>) {
        let path = PathBuf::from(value);
        if path.as_os_str().is_empty() {
            warnings.push(format!("{place}: empty; {} is used", self.get(key).display()));
            return;
        }
        *self.get(key) = path;
    }

    fn get(&mut self, key: &str) -> &mut PathBuf {
        match key {
            "state" => &mut self.state,
            "run" => &mut self.run,
            _ => &mut self.log,
        }
    }
}

/// The file's text, whatever bytes are in it. Only a regular file is read: anything else could keep us waiting.
fn read(path: &Path) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines of `[paths]` in a file that is no TOML as a whole, each by itself.
fn section_of(text: &str) -> Table {
    let mut inside = false;
    let mut section = Table::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            let name = line.split(['#', ';']).next().unwrap_or_default();
            inside = name.replace(char::is_whitespace, "") == "[paths]";
        } else if line.starts_with("paths.") || inside {
            let Ok(table) = line.strip_prefix("paths.").unwrap_or(line).parse::<Table>() else { continue };
            section.extend(table);
        }
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(text: &[u8], state: Option<&str>) -> (Paths, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, text).unwrap();
        let environment = |name: &str| state.filter(|_| name == "AGENT_PATHS_STATE").map(OsString::from);
        Paths::known(&file, true, environment)
    }

    #[test]
    fn the_paths_are_found_in_a_file_that_is_wrong_everywhere_else() {
        for text in [
            "[serve]\ndrain = \"soon\"\n[paths]\nstate = \"/s\"\n",
            "[paths]\nstate = \"/s\"\n[serve\ngarbage {{\n",
            "[ paths ] # ours\nrun = 7\nstate = '/s'\n[paths]\n",
            "garbage\npaths.state = \"/s\"\n",
            "[paths]\nstate = \"/s\"\nunknown = \"x\"\n",
        ] {
            assert_eq!(known(text.as_bytes(), None).0.state, Path::new("/s"), "{text}");
        }
        let (paths, warnings) = known(b"[paths]\nlog = \"/l\"\n\xff\xfe = {\n", Some("/e"));
        assert_eq!((paths.state.as_path(), paths.log.as_path()), (Path::new("/e"), Path::new("/l")));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    #[test]
    fn what_is_missing_or_no_file_keeps_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let none = |_: &str| None;
        let (paths, warnings) = Paths::known(&dir.path().join("no.toml"), false, none);
        assert_eq!((paths.run, warnings.len()), (Paths::default().run, 0));
        assert_eq!(Paths::known(&dir.path().join("no.toml"), true, none).1.len(), 1);
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(Paths::known(&fifo, true, none).1[0].contains("not a regular file"));
        assert_eq!(known(b"[paths]\nstate = \"\"\n", None).0.state, Paths::default().state);
    }
}
