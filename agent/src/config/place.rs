//! The lines of a settings file on which its keys and values stand, from the spans of the TOML parser.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text of a settings file and its name.
pub(super) struct Text {
    pub path: PathBuf,
    pub text: String,
}

impl Text {
    /// A byte order mark, which some editors write, is no part of the text.
    pub(super) fn new(path: &Path, text: String) -> Self {
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Self { path: path.to_owned(), text }
    }

    /// `FILE:LINE` of the byte `at`.
    pub(super) fn line(&self, at: usize) -> String {
        let before = self.text.as_bytes().iter().take(at);
        format!("{}:{}", self.path.display(), before.filter(|byte| **byte == b'\n').count() + 1)
    }

    /// The setting whose key or value holds the byte `at`, as `section.key`. In a text that is no TOML, the closest
    /// key that could be read; empty where there is none.
    pub(super) fn key_at(&self, at: usize) -> String {
        let (table, _) = DeTable::parse_recoverable(&self.text);
        deepest(table.get_ref(), at).unwrap_or_default().join(".")
    }

    /// Where the setting `section.key` stands; where it doesn't, its section.
    pub(super) fn place_of(&self, key: &str) -> Option<String> {
        self.find(key).map(|(at, _)| self.line(at))
    }

    /// Whether the setting `section.key` stands here.
    pub(super) fn sets(&self, key: &str) -> bool {
        self.find(key).is_some_and(|(_, whole)| whole)
    }

    /// Where as much of `key` stands as there is, and whether that is all of it.
    fn find(&self, key: &str) -> Option<(usize, bool)> {
        let table = DeTable::parse(&self.text).ok()?;
        let mut table = table.get_ref();
        let mut at = None;
        let mut names = key.split('.').peekable();
        while let Some(name) = names.next() {
            let Some((found, value)) = table.iter().find(|(k, _)| k.get_ref() == name) else { break };
            at = Some((found.span().start, names.peek().is_none()));
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        at
    }
}

/// The path to the innermost key that `at` belongs to.
fn deepest<'a>(table: &'a DeTable<'_>, at: usize) -> Option<Vec<&'a str>> {
    let holds = |span: Range<usize>| span.contains(&at) || span.end == at;
    let mut found = None;
    for (key, value) in table {
        let inner = inside(value, at);
        if inner.is_some() || holds(key.span()) || holds(value.span()) {
            let mut path = vec![key.get_ref().as_ref()];
            path.extend(inner.unwrap_or_default());
            // A section's own span is its header; what stands in it is found in it.
            if found.as_ref().is_none_or(|old: &Vec<&str>| old.len() < path.len()) {
                found = Some(path);
            }
        }
    }
    found
}

fn inside<'a>(value: &'a Spanned<DeValue<'_>>, at: usize) -> Option<Vec<&'a str>> {
    match value.get_ref() {
        DeValue::Table(table) => deepest(table, at),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text::new(Path::new("f"), text.to_owned())
    }

    #[test]
    fn a_key_is_found_however_it_is_written() {
        for (toml, line) in [
            ("[serve]\nmax = 3\n", 2),
            ("serve = { a = 1, max = 3 }\n", 1),
            ("serve.max = 3\n", 1),
            ("# x\n\"serve\".'max' = 3\n", 2),
            ("[ serve ]\nlist = [\n 1,\n 2,\n]\n\"max\" = 3\n", 6),
            ("\u{feff}[serve]\nmax = 3\n", 2),
            ("[serve]\r\nmax = 3\r\n", 2),
            ("[serve]\ntext = '''\nmax = 1\n'''\nmax = 3\n", 5),
        ] {
            let text = text(toml);
            assert_eq!(text.place_of("serve.max"), Some(format!("f:{line}")), "{toml}");
            let at = text.text.rfind('3').unwrap();
            assert_eq!(
                (text.key_at(at).as_str(), text.line(at)),
                ("serve.max", format!("f:{line}")),
                "{toml}"
            );
        }
    }

    #[test]
    fn a_key_that_is_missing_stands_at_its_section() {
        assert_eq!(text("\n[serve]\n").place_of("serve.max").as_deref(), Some("f:2"));
        assert_eq!(text("[health]\n").place_of("serve.max"), None);
    }
}
