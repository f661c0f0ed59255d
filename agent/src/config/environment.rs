//! Settings in the environment: `AGENT_SECTION_KEY`, with the value as people write it in a shell.

use std::ffi::OsString;

use toml::Value;

use super::load::Asked;

/// The settings among the variables of an environment: `AGENT_SECTION_KEY` for each known section. Other variables
/// that start with `AGENT_` belong to others and are left alone; names and values need not be UTF-8.
pub fn from_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    sections: &[&str],
) -> impl Iterator<Item = Asked> {
    variables.filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let lower = name.strip_prefix("AGENT_")?.to_ascii_lowercase();
        let (section, key) = lower.split_once('_')?;
        let known = sections.contains(&section);
        // What isn't UTF-8 is told as the value it looks like: it is no number and no known word.
        known.then(|| Asked::text(&name, &format!("{section}.{key}"), &value.to_string_lossy()))
    })
}

/// The values that a variable's text may stand for, the likeliest first: a boolean or a number where it looks like
/// one, the text, a list whose parts stand between commas.
pub(super) fn readings(text: &str) -> Vec<Value> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let list = Value::Array(parts.map(scalar).collect());
    let mut all = vec![scalar(text), Value::String(text.to_owned()), list];
    all.dedup();
    all
}

fn scalar(text: &str) -> Value {
    text.parse::<bool>()
        .map(Value::Boolean)
        .or_else(|_| text.parse().map(Value::Integer))
        .or_else(|_| text.parse().map(Value::Float))
        .unwrap_or_else(|_| Value::String(text.to_owned()))
}
