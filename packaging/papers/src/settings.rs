//! `agent.toml(5)`: every setting, from the structs that the agent reads the file into, so that none is left out and none
//! is made up.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::prose;

/// Where the sections are listed.
const SECTIONS: &str = "src/cli/settings.rs";

/// A field of a struct: its name and what its docstring says.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    name: String,
    text: String,
    kind: String,
}

/// Writes the page for the agent whose sources lie in `agent`.
pub(crate) fn manual(folder: &Path, agent: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let page = page(agent)?;
    let path = folder.join("agent.toml.5");
    fs::write(&path, page).with_context(|| path.display().to_string())
}

fn page(agent: &Path) -> anyhow::Result<String> {
    let list = agent.join(SECTIONS);
    let sections = fields(&read(&list)?, "Settings");
    ensure!(!sections.is_empty(), "{}: no sections", list.display());
    let mut page = format!(
        ".TH agent.toml 5 \"\" \"asg\\-agent {}\" asg\\-agent\n.SH NAME\nagent.toml \\- settings of agent(1)\n\
         .SH DESCRIPTION\nThe file /etc/asg\\-agent/agent.toml, or the one that \\-\\-config or AGENT_CONFIG names, is TOML. \
         What it leaves out has its default. The environment comes before it (AGENT_SECTION_KEY, as in \
         AGENT_SERVE_LISTEN), and the flags before that. An unknown or senseless setting is refused, with its line. \
         Durations are written as 5, 5s, 10m, 1h or 500ms. After a change: systemctl restart asg\\-agent\n",
        env!("CARGO_PKG_VERSION")
    );
    for section in sections {
        let _ = writeln!(page, ".SH [{}]\n{}", section.name, escaped(&section.text));
        let found = structure(agent, &section.kind)?;
        ensure!(!found.is_empty(), "[{}] has no settings", section.name);
        for field in found {
            let _ = writeln!(page, ".TP\n.B {}\n{}", escaped(&field.name), escaped(&field.text));
        }
    }
    for section in prose::sections("agent.toml")? {
        let _ = write!(page, ".SH {}\n{}", section.title, section.body);
    }
    page.push_str(".SH SEE ALSO\n.BR agent (1),\n.BR agent\\-serve (1)\n");
    Ok(page)
}

/// The fields of a type such as `serve::Settings`, wherever its room defines it.
fn structure(agent: &Path, kind: &str) -> anyhow::Result<Vec<Field>> {
    let Some((module, name)) = kind.rsplit_once("::") else { bail!("{kind} is no path of a module") };
    let room = agent.join("src").join(module.split("::").next().unwrap_or(module));
    let mut files = vec![room.with_extension("rs")];
    sources(&room, &mut files)?;
    files.sort();
    // The deepest module that the path names comes first.
    let wanted = agent.join("src").join(module.replace("::", "/"));
    files.sort_by_key(|file| !file.starts_with(&wanted) && *file != wanted.with_extension("rs"));
    for file in files.iter().filter(|file| file.exists()) {
        let found = fields(&read(file)?, name);
        if !found.is_empty() {
            return Ok(found);
        }
    }
    bail!("no struct {kind} in {}", room.display())
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if folder.is_dir() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                sources(&path, into)?;
            } else if path.extension().is_some_and(|end| end == "rs") {
                into.push(path);
            }
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The public fields of a struct that the file can hold, in their order; not those that serde skips.
fn fields(source: &str, name: &str) -> Vec<Field> {
    let mut found = Vec::new();
    let (mut text, mut skipped) = (String::new(), false);
    let start = format!("pub struct {name} {{");
    for line in source.lines().map(str::trim).skip_while(|line| *line != start).skip(1) {
        if line == "}" {
            break;
        } else if let Some(more) = line.strip_prefix("///") {
            text.push_str(more);
        } else if line.starts_with("#[serde(skip") {
            skipped = true;
        } else if let Some((name, kind)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) {
            if !skipped {
                let kind = kind.trim_end_matches(',').to_owned();
                found.push(Field { name: name.to_owned(), text: text.trim().to_owned(), kind });
            }
            (text, skipped) = (String::new(), false);
        }
    }
    found
}

/// Text of a docstring as roff: links and code marks are for another reader.
fn escaped(text: &str) -> String {
    let text = text.replace("](", " (").replace(['`', '[', ']', '<', '>'], "");
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent");

    #[test]
    fn a_struct_gives_its_fields_with_their_words() {
        let source = "pub struct A {\n    /// One\n    /// thing.\n    #[serde(default)]\n    pub one: u8,\n    /// Ours.\n    \
                      #[serde(skip)]\n    pub ours: u8,\n    pub two: Option<String>,\n}\npub struct B {\n    pub no: u8,\n}\n";
        let found = fields(source, "A");
        let names: Vec<_> = found.iter().map(|field| (field.name.as_str(), field.text.as_str())).collect();
        assert_eq!(names, [("one", "One thing."), ("two", "")]);
    }

    #[test]
    fn the_defaults_in_the_page_are_the_defaults() {
        let written = include_str!("../pages/agent.toml.md");
        let block = written.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), block).unwrap();
        let choice = asg_agent::config::FileChoice::Named(file.path().to_owned());
        let read: asg_agent::cli::Settings = asg_agent::config::load(&choice, &[]).unwrap();
        assert_eq!(format!("{read:#?}"), format!("{:#?}", asg_agent::cli::Settings::default()));
        // And all of them are there, some only as a comment.
        let page = page(Path::new(AGENT)).unwrap();
        for name in page.lines().filter_map(|line| line.strip_prefix(".B ")) {
            let there =
                block.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")));
            assert!(there, "{name} isn't among the defaults");
        }
    }

    #[test]
    fn every_setting_of_the_agent_is_in_the_page_and_is_a_setting() {
        let page = page(Path::new(AGENT)).unwrap();
        for word in
            ["[paths]", "[serve]", "[health]", "[nginx]", "[identity]", "[probes]", ".B listen", ".B expect"]
        {
            assert!(page.contains(word), "no {word} in {page}");
        }
        // The shipped file names settings of the page alone.
        let shipped = include_str!("../../agent.toml");
        for line in shipped.lines() {
            let line = line.trim_start_matches("# ");
            if let Some((name, _)) = line.split_once(" = ") {
                assert!(
                    page.contains(&format!(".B {}\n", name.replace('-', "\\-"))),
                    "{name} isn't in the page"
                );
            }
        }
        for title in page.lines().filter_map(|line| line.strip_prefix(".B ")) {
            assert!(!title.contains(' '), "{title}");
        }
    }
}
