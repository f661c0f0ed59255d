//! What a manual page has that the tree of the command line doesn't: EXIT STATUS, ENVIRONMENT, FILES, and EXAMPLES whose
//! lines stay lines (man-pages(7), groff_man(7)).

use std::fmt::Write;

use clap::Command;

const EXIT: [(&str, &str); 6] = [
    ("0", "Yes, or done."),
    ("1", "No: what was asked for was not so, or not reached."),
    ("2", "Wrong usage or configuration."),
    ("3", "Cannot tell, or the host doesn't allow it."),
    ("4", "Refused because unsafe."),
    ("129, 130, 143", "Ended by SIGHUP, SIGINT or SIGTERM, after cleaning up."),
];

const ENVIRONMENT: [(&str, &str); 3] = [
    ("AGENT_CONFIG", "The settings' file, as --config."),
    ("AGENT_SECTION_KEY", "One setting, such as AGENT_PATHS_RUN; it comes before the file's."),
    ("NO_COLOR", "When set, nothing is coloured."),
];

const FILES: [(&str, &str); 4] = [
    ("/etc/asg-agent/agent.toml", "Settings, see agent.toml(5); needn't be there."),
    (
        "/run/asg-agent",
        "What runs now: the daemon's state, and stress/PID.json for each run of agent stress.",
    ),
    ("/var/lib/asg-agent", "The fault on record and the drills."),
    ("/var/log/asg-agent", "What happened: faults.jsonl."),
];

/// The sections after the options, as roff.
pub(crate) fn after_options(command: &Command) -> String {
    let mut page = String::new();
    for (title, entries) in
        [("EXIT STATUS", &EXIT[..]), ("ENVIRONMENT", &ENVIRONMENT[..]), ("FILES", &FILES[..])]
    {
        let _ = writeln!(page, ".SH {title}");
        for (name, text) in entries {
            let _ = writeln!(page, ".TP\n.B {}\n{}", escaped(name), escaped(text));
        }
    }
    page.push_str(&examples(command));
    page
}

fn examples(command: &Command) -> String {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines: Vec<&str> = help.lines().filter(|line| line.starts_with(' ')).map(str::trim).collect();
    if lines.is_empty() {
        return String::new();
    }
    // No filling: each example is a line of its own.
    let lines: Vec<String> = lines.into_iter().map(escaped).collect();
    format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", lines.join("\n"))
}

/// A line of text that no formatter takes for a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stay_lines_and_nothing_is_a_request() {
        let command = Command::new("x").after_help("Examples:\n  x --a 1   one\n  .x -b   two");
        let page = after_options(&command);
        assert!(page.contains(".nf\nx \\-\\-a 1   one\n\\&.x \\-b   two\n.fi"), "{page}");
        assert!(page.contains(".SH EXIT STATUS\n.TP\n.B 0\nYes, or done."), "{page}");
        assert!(!after_options(&Command::new("y")).contains("EXAMPLES"));
    }
}
