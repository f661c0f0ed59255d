//! Loading: the file, the environment and the flags become one table, in that order; a later one wins. Every error
//! names the place where the wrong value stands.

use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::environment::readings;
use super::place::Text;
use super::words::in_plain_words;

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
    /// What it may stand for, in the file's types; the first that fits the setting counts.
    values: Vec<Value>,
}

impl Asked {
    /// A flag that sets `key`.
    pub fn flag(place: &str, key: &str, value: impl Into<Value>) -> Self {
        Self { place: place.to_owned(), key: key.to_owned(), values: vec![value.into()] }
    }

    /// A text whose type is the setting's to say: a number, a word, or a list with commas.
    pub fn text(place: &str, key: &str, text: &str) -> Self {
        Self { place: place.to_owned(), key: key.to_owned(), values: readings(text) }
    }

    /// Puts the value into `table`.
    ///
    /// # Errors
    /// When the setting can't have it: what serde says of the reading that comes closest.
    fn apply<T: DeserializeOwned>(&self, table: &mut Table) -> Result<(), String> {
        let mut closest = String::new();
        for value in &self.values {
            let mut with = table.clone();
            set(&mut with, &self.key, value.clone());
            match T::deserialize(with.clone()) {
                Ok(_) => {
                    *table = with;
                    return Ok(());
                }
                // Of a list and its parts, the list that was wanted says what is wrong.
                Err(e) if closest.is_empty() || closest.contains("expected a sequence") => {
                    closest = e.message().to_owned();
                }
                Err(_) => {}
            }
        }
        Err(closest)
    }
}

/// A value that is of the right type and yet makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The setting, as `section.key`.
    pub key: String,
    /// The one with which it makes no sense, where it may be that one that was meant otherwise.
    pub other: Option<String>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Invalid {
    /// A complaint about `key`.
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), other: None, message: message.into() }
    }

    /// A complaint about two settings that don't go together; the place that is told is of the one that was set.
    pub fn between(key: &str, other: &str, message: impl Into<String>) -> Self {
        Self { other: Some(other.to_owned()), ..Self::new(key, message) }
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
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value is wrong: unknown, of the wrong type, or senseless.
    #[error("{place}: {}{message}", if key.is_empty() { String::new() } else { format!("{key}: ") })]
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
        Some(text) => parse::<T>(text)?,
        None => Table::new(),
    };
    for one in asked {
        one.apply::<T>(&mut table).map_err(|said| ConfigError::Value {
            place: one.place.clone(),
            key: one.key.clone(),
            message: in_plain_words(&said),
        })?;
    }
    let refuse = |place: String, key: String, message| ConfigError::Value { place, key, message };
    let value = T::deserialize(table)
        .map_err(|e| refuse("default".into(), String::new(), in_plain_words(e.message())))?;
    value.validate().map_err(|Invalid { key, other, message }| {
        let by_hand = asked.iter().rev().find(|one| one.key == key || Some(&one.key) == other.as_ref());
        let place = by_hand.map(|one| one.place.clone());
        let key = match (by_hand, other) {
            (Some(one), _) => one.key.clone(),
            (None, Some(other)) if file.as_ref().is_some_and(|f| f.sets(&other) && !f.sets(&key)) => other,
            _ => key,
        };
        let place = place.or_else(|| file.as_ref()?.place_of(&key)).unwrap_or_else(|| "default".to_owned());
        refuse(place, key, message)
    })?;
    Ok(value)
}

fn read(choice: &FileChoice) -> Result<Option<Text>, ConfigError> {
    let (path, must) = match choice {
        FileChoice::IfThere(path) => (path, false),
        FileChoice::Named(path) => (path, true),
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Text::new(path, text))),
        Err(e) if e.kind() == io::ErrorKind::NotFound && !must => Ok(None),
        Err(source) => Err(ConfigError::Read { path: path.clone(), source }),
    }
}

/// The table, after the whole of it was found to be well formed for `T`.
fn parse<T: DeserializeOwned>(file: &Text) -> Result<Table, ConfigError> {
    let wrong = |e: toml::de::Error| {
        let at = e.span().map_or(0, |span| span.start.min(file.text.len()));
        ConfigError::Value {
            place: file.line(at),
            key: file.key_at(at),
            message: in_plain_words(e.message()),
        }
    };
    toml::from_str::<T>(&file.text).map_err(wrong)?;
    file.text.parse::<Table>().map_err(wrong)
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
    use super::super::{Span, from_environment};
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
        name: String,
        marks: Vec<String>,
        ports: Vec<u16>,
    }

    impl Default for Health {
        fn default() -> Self {
            Self {
                interval: Span::millis(1000),
                fall: 2,
                name: String::new(),
                marks: vec!["x".into()],
                ports: vec![],
            }
        }
    }

    impl Validate for All {
        fn validate(&self) -> Result<(), Invalid> {
            if self.health.fall == 0 {
                return Err(Invalid::new("health.fall", "must be at least 1"));
            }
            if self.health.ports.iter().any(|port| u32::from(*port) == self.health.fall) {
                return Err(Invalid::between("health.fall", "health.ports", "fall is one of ports"));
            }
            Ok(())
        }
    }

    #[test]
    fn of_two_settings_that_clash_the_one_that_was_set_is_named() {
        let settings = |flag: &str| {
            let asked = [Asked::flag("--fall", "health.fall", flag.parse::<u32>().unwrap())];
            load_text("[health]\nports = [7]\n", &asked).unwrap_err()
        };
        assert_eq!(settings("7"), "--fall: health.fall: fall is one of ports");
        assert_eq!(
            load_text("[health]\nports = [2]\n", &[]).unwrap_err(),
            "agent.toml:2: health.ports: fall is one of ports"
        );
    }

    fn environment(variables: &[(&str, &str)]) -> Vec<Asked> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        from_environment(variables, &["health"]).collect()
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
        let mut asked = environment(&[("AGENT_HEALTH_FALL", "4"), ("AGENT_NAME", "jenkins")]);
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
        assert!(unknown.starts_with("agent.toml:3: health.fal: unknown setting `fal`"), "{unknown}");
        let wrong = load_text("[health]\nfall = 3\ninterval = \"soon\"\n", &[]).unwrap_err();
        assert!(wrong.starts_with("agent.toml:3: health.interval: \"soon\" is no duration"), "{wrong}");
        let senseless = load_text("[health]\nfall = 0\n", &[]).unwrap_err();
        assert_eq!(senseless, "agent.toml:2: health.fall: must be at least 1");
        let broken = load_text("[health\n", &[]).unwrap_err();
        assert!(broken.starts_with("agent.toml:1: "), "{broken}");
        let section = load_text("[helth]\nfall = 1\n", &[]).unwrap_err();
        assert!(section.starts_with("agent.toml:1: helth: unknown setting"), "{section}");
    }

    #[test]
    fn every_type_of_setting_can_come_from_the_environment() {
        let load = |name, value| load_text("", &environment(&[(name, value)]));
        assert_eq!(
            load("AGENT_HEALTH_MARKS", "spot, lifecycle").unwrap().health.marks,
            ["spot", "lifecycle"]
        );
        assert_eq!(load("AGENT_HEALTH_MARKS", "spot").unwrap().health.marks, ["spot"]);
        assert!(load("AGENT_HEALTH_MARKS", "").unwrap().health.marks.is_empty());
        assert_eq!(load("AGENT_HEALTH_PORTS", "80,443").unwrap().health.ports, [80, 443]);
        assert_eq!(load("AGENT_HEALTH_NAME", "17").unwrap().health.name, "17");
        assert_eq!(load("AGENT_HEALTH_NAME", "a,b").unwrap().health.name, "a,b");
        assert_eq!(load("AGENT_HEALTH_INTERVAL", "3").unwrap().health.interval, Span::millis(3000));
        let wrong = load("AGENT_HEALTH_PORTS", "80,x").unwrap_err();
        assert!(wrong.contains("health.ports: \"x\" is not a whole number from 0 to 65535"), "{wrong}");
        let unknown = load("AGENT_HEALTH_COLOUR", "red").unwrap_err();
        assert!(unknown.contains("AGENT_HEALTH_COLOUR: health.colour: unknown setting"), "{unknown}");
    }

    #[test]
    fn an_environment_that_is_not_utf_8_ends_nothing() {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt;
        let bad = || OsString::from_vec(vec![0xff]);
        let mut name = OsString::from("AGENT_HEALTH_");
        name.push(bad());
        let foreign = [("X".into(), bad()), (bad(), "y".into()), (name, "y".into())];
        assert_eq!(from_environment(foreign.into_iter(), &["health"]).count(), 0);
        let ours = [("AGENT_HEALTH_FALL".into(), bad())];
        let asked: Vec<Asked> = from_environment(ours.into_iter(), &["health"]).collect();
        assert!(load_text("", &asked).unwrap_err().contains("is not a whole number"));
    }

    #[test]
    fn an_error_names_the_variable_or_the_flag() {
        let message = load_text("", &environment(&[("AGENT_HEALTH_FALL", "many")])).unwrap_err();
        assert!(
            message.starts_with("AGENT_HEALTH_FALL: health.fall: \"many\" is not a whole number"),
            "{message}"
        );
        let message = load_text("", &[Asked::flag("--fall", "health.fall", 0)]).unwrap_err();
        assert_eq!(message, "--fall: health.fall: must be at least 1");
    }

    #[test]
    fn a_missing_file_matters_only_when_it_was_named() {
        let path = PathBuf::from("/nonexistent/agent.toml");
        assert!(load::<All>(&FileChoice::IfThere(path.clone()), &[]).is_ok());
        let message = load::<All>(&FileChoice::Named(path), &[]).unwrap_err().to_string();
        assert_eq!(message, "cannot read /nonexistent/agent.toml");
    }
}
