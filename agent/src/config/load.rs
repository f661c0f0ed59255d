//! Loading: the file, the environment and the flags become one table, in that order; a later one wins. Every error
//! names the place where the wrong value stands.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Where the file comes from.
#[derive(Debug, Clone)]
pub enum FileChoice {
    /// The usual place: nothing is wrong when it isn't there.
    IfThere(PathBuf),
    /// Named by the user: it must be there.
    Named(PathBuf),
}

/// A value that was asked for besides the file.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How the user wrote it: `--listen`, or the name of a variable.
    pub place: String,
    /// The setting, as `section.key`.
    pub key: String,
    /// The value, in the file's types.
    pub value: Value,
}

impl Asked {
    /// A flag that sets `key`.
    pub fn flag(place: &str, key: &str, value: impl Into<Value>) -> Self {
        Self { place: place.to_owned(), key: key.to_owned(), value: value.into() }
    }

    /// The settings among the variables of an environment: `AGENT_SECTION_KEY` for each known section. Other
    /// variables that start with `AGENT_` belong to others and are left alone.
    pub fn environment(
        variables: impl Iterator<Item = (String, String)>,
        sections: &[&str],
    ) -> impl Iterator<Item = Self> {
        variables.filter_map(|(name, text)| {
            let lower = name.strip_prefix("AGENT_")?.to_ascii_lowercase();
            let (section, key) = lower.split_once('_')?;
            sections.contains(&section).then(|| Self {
                key: format!("{section}.{key}"),
                value: scalar(&text),
                place: name,
            })
        })
    }
}

/// The value a variable's text stands for: a boolean or a number where it looks like one, else a string.
fn scalar(text: &str) -> Value {
    text.parse::<bool>()
        .map(Value::Boolean)
        .or_else(|_| text.parse().map(Value::Integer))
        .or_else(|_| text.parse().map(Value::Float))
        .unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A value that is of the right type and yet makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The setting, as `section.key`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Invalid {
    /// A complaint about `key`.
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into() }
    }
}

/// The last step: of values that are well formed, which make sense together.
pub trait Validate {
    /// # Errors
    /// The first setting that makes no sense.
    fn validate(&self) -> Result<(), Invalid>;
}

/// Why there are no settings. Each names the place and the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value is wrong: unknown, of the wrong type, or senseless.
    #[error("{place}: {key}: {message}")]
    Value {
        /// `FILE:LINE`, the variable, the flag, or `default`.
        place: String,
        /// The setting, as `section.key`.
        key: String,
        /// What is wrong.
        message: String,
    },
}

/// Loads settings of type `T`: its defaults, the file, then `asked` in order.
///
/// # Errors
/// When the file can't be read, or with the place of the first value that is wrong.
pub fn load<T: DeserializeOwned + Validate>(file: &FileChoice, asked: &[Asked]) -> Result<T, ConfigError> {
    let file = read(file)?;
    let mut table = match &file {
        Some(text) => text.parse::<T>()?,
        None => Table::new(),
    };
    for one in asked {
        set(&mut table, &one.key, one.value.clone());
        if let Err(e) = T::deserialize(table.clone()) {
            let (place, key) = (one.place.clone(), one.key.clone());
            return Err(ConfigError::Value { place, key, message: one_line(e.message()) });
        }
    }
    let refuse = |place: String, key: String, message| ConfigError::Value { place, key, message };
    let value =
        T::deserialize(table).map_err(|e| refuse("default".into(), String::new(), one_line(e.message())))?;
    value.validate().map_err(|Invalid { key, message }| {
        let by_hand = asked.iter().rev().find(|one| one.key == key).map(|one| one.place.clone());
        let place = by_hand.or_else(|| file.as_ref()?.place_of(&key)).unwrap_or_else(|| "default".to_owned());
        refuse(place, key, message)
    })?;
    Ok(value)
}

/// The text of a file and its name.
struct Text {
    path: PathBuf,
    text: String,
}

fn read(choice: &FileChoice) -> Result<Option<Text>, ConfigError> {
    let (path, must) = match choice {
        FileChoice::IfThere(path) => (path, false),
        FileChoice::Named(path) => (path, true),
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Text { path: path.clone(), text })),
        Err(e) if e.kind() == io::ErrorKind::NotFound && !must => Ok(None),
        Err(source) => Err(ConfigError::Read { path: path.clone(), source }),
    }
}

impl Text {
    /// The table, after the whole of it was found to be well formed for `T`.
    fn parse<T: DeserializeOwned>(&self) -> Result<Table, ConfigError> {
        toml::from_str::<T>(&self.text).map_err(|e| self.error(&e))?;
        self.text.parse::<Table>().map_err(|e| self.error(&e))
    }

    fn error(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map_or(0, |span: Range<usize>| span.start.min(self.text.len()));
        let before = self.text.get(..at).unwrap_or("");
        let line = before.matches('\n').count();
        ConfigError::Value {
            place: at_line(&self.path, line),
            key: self.key_at(line),
            message: one_line(error.message()),
        }
    }

    /// The setting on a line (counted from zero), as `section.key`.
    fn key_at(&self, line: usize) -> String {
        let mut section = "";
        for (number, text) in self.text.lines().enumerate().take(line + 1) {
            let text = text.trim();
            if let Some(name) = text.strip_prefix('[').and_then(|t| t.split(']').next()) {
                section = name.trim();
                if number == line {
                    return format!("[{section}]");
                }
            } else if number == line {
                let key = text.split('=').next().unwrap_or(text).trim();
                return if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            }
        }
        section.to_owned()
    }

    fn place_of(&self, key: &str) -> Option<String> {
        let line = (0..self.text.lines().count()).find(|line| self.key_at(*line) == key)?;
        Some(at_line(&self.path, line))
    }
}

fn at_line(path: &Path, line: usize) -> String {
    format!("{}:{}", path.display(), line + 1)
}

fn one_line(message: impl fmt::Display) -> String {
    message.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn set(table: &mut Table, key: &str, value: Value) {
    let Some((section, key)) = key.split_once('.') else {
        return drop(table.insert(key.to_owned(), value));
    };
    let entry = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = entry {
        inner.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, Default)]
    #[serde(default, deny_unknown_fields)]
    struct All {
        health: Health,
    }

    #[derive(Debug, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Health {
        interval: Span,
        fall: u32,
    }

    impl Default for Health {
        fn default() -> Self {
            Self { interval: Span::millis(1000), fall: 2 }
        }
    }

    impl Validate for All {
        fn validate(&self) -> Result<(), Invalid> {
            if self.health.fall == 0 {
                return Err(Invalid::new("health.fall", "must be at least 1"));
            }
            Ok(())
        }
    }

    fn load_text(text: &str, asked: &[Asked]) -> Result<All, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        load::<All>(&FileChoice::Named(path), asked)
            .map_err(|e| e.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let env = [("AGENT_HEALTH_FALL".to_owned(), "4".to_owned()), ("AGENT_NAME".into(), "jenkins".into())];
        let mut asked: Vec<Asked> = Asked::environment(env.into_iter(), &["health"]).collect();
        let text = "[health]\nfall = 3\ninterval = \"500ms\"\n";
        assert_eq!(load_text(text, &[]).unwrap().health.fall, 3);
        assert_eq!(load_text(text, &asked).unwrap().health.fall, 4);
        asked.push(Asked::flag("--fall", "health.fall", 5));
        let all = load_text(text, &asked).unwrap();
        assert_eq!((all.health.fall, all.health.interval), (5, Span::millis(500)));
    }

    #[test]
    fn an_error_names_the_file_the_line_and_the_key() {
        let unknown = load_text("# hello\n[health]\nfal = 3\n", &[]).unwrap_err();
        assert!(unknown.starts_with("agent.toml:3: health.fal: unknown field `fal`"), "{unknown}");
        let wrong = load_text("[health]\nfall = 3\ninterval = \"soon\"\n", &[]).unwrap_err();
        assert!(wrong.starts_with("agent.toml:3: health.interval: \"soon\" is no duration"), "{wrong}");
        let senseless = load_text("[health]\nfall = 0\n", &[]).unwrap_err();
        assert_eq!(senseless, "agent.toml:2: health.fall: must be at least 1");
        let broken = load_text("[health\n", &[]).unwrap_err();
        assert!(broken.starts_with("agent.toml:1: "), "{broken}");
        let section = load_text("[helth]\nfall = 1\n", &[]).unwrap_err();
        assert!(section.starts_with("agent.toml:1: [helth]: unknown field"), "{section}");
    }

    #[test]
    fn an_error_names_the_variable_or_the_flag() {
        let env = [("AGENT_HEALTH_FALL".to_owned(), "many".to_owned())];
        let asked: Vec<Asked> = Asked::environment(env.into_iter(), &["health"]).collect();
        let message = load_text("", &asked).unwrap_err();
        assert!(message.starts_with("AGENT_HEALTH_FALL: health.fall: invalid type"), "{message}");
        let message = load_text("", &[Asked::flag("--fall", "health.fall", 0)]).unwrap_err();
        assert_eq!(message, "--fall: health.fall: must be at least 1");
    }

    #[test]
    fn a_missing_file_matters_only_when_it_was_named() {
        let path = PathBuf::from("/nonexistent/agent.toml");
        assert!(load::<All>(&FileChoice::IfThere(path.clone()), &[]).is_ok());
        let message = load::<All>(&FileChoice::Named(path), &[]).unwrap_err().to_string();
        assert!(message.starts_with("cannot read /nonexistent/agent.toml: No such file"), "{message}");
    }
}
