//! Writes what travels with the binary into a folder: `papers FOLDER TARGET`.
//!
//! - `man5/`: `agent.toml(5)`, from the structs of the settings ([`settings`]);
//! - `man1/`, `bash/`, `zsh/`, `fish/`: from the command line's own tree ([`commands`]), with the texts in `pages/`
//!   ([`prose`]), whose console blocks `tests/docs` runs;
//! - `LICENSES.txt` and `sbom.cdx.json`: of every crate in the binary for `TARGET` ([`crates`]).
//!
//! The same sources give the same bytes.

mod commands;
mod crates;
mod prose;
mod sections;
mod settings;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, target] = arguments.as_slice() else {
        return fail("usage: papers FOLDER TARGET");
    };
    match write(Path::new(folder), target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("papers: {e:#}")),
    }
}

#[allow(clippy::print_stderr)] // a tool of the build, whose output nobody parses
fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

fn write(folder: &Path, target: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    commands::manual(&folder.join("man1"))?;
    commands::completions(folder)?;
    let agent = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent"));
    settings::manual(&folder.join("man5"), agent)?;
    let crates = crates::in_the_binary(target)?;
    let put = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).with_context(|| folder.join(name).display().to_string())
    };
    put("LICENSES.txt", crates::licences(&crates)?)?;
    put("sbom.cdx.json", crates::bill_of_materials(&crates)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    /// Pages of other packages that ours may name.
    const ELSEWHERE: [&str; 2] = ["nginx(8)", "systemd(1)"];

    /// `NAME(N)` in a page's text, without what sets its type.
    fn references(page: &str) -> BTreeSet<String> {
        let text = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace(" (", "(");
        let marks = text.match_indices('(').filter_map(|(at, _)| {
            let number = text[at + 1..].split_once(')')?.0;
            let one = number.len() == 1 && number.chars().all(|c| c.is_ascii_digit());
            let start = text[..at].rfind(|c: char| !(c.is_ascii_alphanumeric() || ".-_".contains(c)));
            let name = &text[start.map_or(0, |start| start + 1)..at];
            (one && name.starts_with(char::is_alphabetic)).then(|| format!("{name}({number})"))
        });
        marks.collect()
    }

    #[test]
    fn every_page_that_a_page_names_is_there() {
        let folder = tempfile::tempdir().unwrap();
        commands::manual(folder.path()).unwrap();
        settings::manual(folder.path(), Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent")))
            .unwrap();
        let files = || std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path());
        let there: BTreeSet<String> = files()
            .map(|path| {
                let (stem, end) = (path.file_stem().unwrap(), path.extension().unwrap());
                format!("{}({})", stem.to_string_lossy(), end.to_string_lossy())
            })
            .collect();
        assert!(there.contains("agent-drill-failover(1)") && there.contains("agent.toml(5)"), "{there:?}");
        for path in files() {
            for named in references(&std::fs::read_to_string(&path).unwrap()) {
                let known = there.contains(&named) || ELSEWHERE.contains(&named.as_str());
                assert!(known, "{} names {named}", path.display());
            }
        }
        assert_eq!(
            references("see agent\\-x(1), \\fBb.c\\fR(5); f(2)"),
            BTreeSet::from(["agent-x(1)", "b.c(5)", "f(2)"].map(String::from))
        );
    }

    #[test]
    fn every_written_page_belongs_to_one() {
        let folder = tempfile::tempdir().unwrap();
        commands::manual(folder.path()).unwrap();
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/pages")).unwrap().flatten() {
            let name = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
            let written = entry.path().extension().is_some_and(|end| end == "md");
            assert!(
                !written || name == "agent.toml" || folder.path().join(format!("{name}.1")).exists(),
                "{name}"
            );
        }
    }
}
