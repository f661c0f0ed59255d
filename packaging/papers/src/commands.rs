//! The manual and the shells' completions, from the tree of the command line.

use std::fs;
use std::path::Path;

use anyhow::Context;
use asg_agent::cli::Cli;
use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};

use crate::{prose, sections};

/// Without what is hidden: the commands that only the agent itself calls.
fn tree() -> Command {
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let mut tree = Command::new("agent").version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    tree = tree.about(whole.get_about().cloned().unwrap_or_default());
    let mut tree = tree.args(whole.get_arguments().cloned()).subcommands(shown);
    tree = tree.mut_subcommands(|verb| verb.disable_help_subcommand(true));
    tree.build(); // every verb knows --json and --config then
    tree
}

/// `agent.1`, `agent-VERB.1` for each verb, `agent-VERB-VERB.1` for those of a verb.
pub(crate) fn manual(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let root = tree();
    let mut all = vec![("agent".to_owned(), root.clone())];
    add(&root, "agent", &mut all);
    let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
    all.into_iter().try_for_each(|(name, command)| page(command, folder, &name, &names))
}

fn add(of: &Command, name: &str, all: &mut Vec<(String, Command)>) {
    for verb in of.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = format!("{name}-{}", verb.get_name());
        // clap keeps names for ever, and this ends soon.
        let (own, typed): (&'static str, _) = (name.clone().leak(), name.replace('-', " "));
        let shown = verb.clone().name(own).display_name(own).bin_name(typed);
        all.push((name.clone(), shown));
        add(verb, &name, all);
    }
}

fn page(command: Command, folder: &Path, name: &str, all: &[String]) -> anyhow::Result<()> {
    let source = format!("asg-agent {}", env!("CARGO_PKG_VERSION"));
    // No date: clap_mangen would leave it empty, and a page says the same whenever it was made.
    let sections = sections::after_options(&command, prose::sections(name)?, all);
    // Its examples are a section of their own there.
    let command = command.after_help("");
    let verbs = command.get_subcommands().any(|verb| !verb.is_hide_set());
    let man = clap_mangen::Man::new(command).source(source).manual("asg-agent");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if verbs {
        man.render_subcommands_section(&mut text)?;
    }
    text.extend_from_slice(sections.as_bytes());
    let path = folder.join(format!("{name}.1"));
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// `bash/agent`, `zsh/_agent`, `fish/agent.fish`.
pub(crate) fn completions(folder: &Path) -> anyhow::Result<()> {
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let made = generate_to(shell, &mut tree(), "agent", &folder)?;
        if shell == Shell::Bash {
            // bash-completion looks for the command's own name.
            fs::rename(made, folder.join("agent"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    fn examples(command: &Command, into: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // What is said of an example stands behind two spaces.
        let lines = help.lines().filter_map(|line| line.trim().split("  ").next());
        let runs = lines.flat_map(|line| line.split([';', '&'])).map(str::trim);
        into.extend(runs.filter(|run| run.starts_with("agent ")).map(str::to_owned));
        command.get_subcommands().for_each(|verb| examples(verb, into));
    }

    #[test]
    fn the_examples_of_the_help_are_command_lines_that_it_takes() {
        let mut all = Vec::new();
        examples(&tree(), &mut all);
        assert!(all.len() > 12, "{all:?}");
        for line in all {
            let words = line.replace('`', "");
            if let Err(e) = Cli::command().try_get_matches_from(words.split_whitespace()) {
                panic!("{line}: {e}");
            }
        }
    }
}
