//! What a manual page has that the tree of the command line doesn't: the texts of `pages/`, EXIT STATUS, ENVIRONMENT,
//! FILES, EXAMPLES whose lines stay lines, and SEE ALSO (man-pages(7), groff_man(7)).

use std::fmt::Write;

use clap::Command;

use crate::prose::{Section, guarded, plain};

const EXIT: [(&str, &str); 6] = [
    ("0", "Yes, or done."),
    ("1", "No: what was asked for was not so, or not reached."),
    ("2", "Wrong usage or configuration."),
    ("3", "Cannot tell, or the host doesn't allow it."),
    ("4", "Refused because unsafe."),
    ("129, 130, 143", "Ended by SIGHUP, SIGINT or SIGTERM, after cleaning up."),
];

const ENVIRONMENT: [(&str, &str); 4] = [
    ("AGENT_CONFIG", "The settings' file, as --config."),
    (
        "AGENT_SECTION_KEY",
        "One setting, such as AGENT_PATHS_RUN; it comes before the file's. See agent.toml(5).",
    ),
    ("AGENT_LOG", "The level of the log on stderr: off, error, warn, info, debug or trace."),
    ("NO_COLOR", "When set, nothing is coloured."),
];

const FILES: [(&str, &str); 4] = [
    ("/etc/asg-agent/agent.toml", "Settings, see agent.toml(5). It may be absent."),
    (
        "/run/asg-agent",
        "What runs now: the daemon's state, and stress/PID.json for each run of agent stress.",
    ),
    ("/var/lib/asg-agent", "The fault on record, and the daemon's place in nginx's log."),
    ("/var/log/asg-agent", "What happened: faults.jsonl and drills.jsonl."),
];

/// The sections after the options, as roff: what is written, then what every page has. A written section of the same
/// title takes the place of the general one. `pages` are the names of all pages.
pub(crate) fn after_options(command: &Command, written: Vec<Section>, pages: &[String]) -> String {
    let (examples_too, written): (Vec<Section>, Vec<Section>) =
        written.into_iter().partition(|section| section.title == "EXAMPLES");
    let mut page = String::new();
    for section in &written {
        let _ = write!(page, ".SH {}\n{}", section.title, section.body);
    }
    for (title, entries) in
        [("EXIT STATUS", &EXIT[..]), ("ENVIRONMENT", &ENVIRONMENT[..]), ("FILES", &FILES[..])]
    {
        if written.iter().any(|section| section.title == title) {
            continue;
        }
        let _ = writeln!(page, ".SH {title}");
        for (name, text) in entries {
            let _ = writeln!(page, ".TP\n.B {}\n{}", escaped(name), escaped(text));
        }
    }
    let examples = [lines(command), examples_too.into_iter().map(|section| section.body).collect()].concat();
    if !examples.is_empty() {
        let _ = write!(page, ".SH EXAMPLES\n{examples}");
    }
    let others = pages.iter().filter(|page| *page != command.get_name());
    let others: Vec<String> = others.map(|page| format!(".BR {} (1),\n", plain(page))).collect();
    let _ = writeln!(page, ".SH SEE ALSO\n{}.BR agent.toml (5)", others.concat());
    page
}

/// The examples of the help.
fn lines(command: &Command) -> String {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines: Vec<String> =
        help.lines().filter(|line| line.starts_with(' ')).map(|line| escaped(line.trim())).collect();
    // No filling: each example is a line of its own.
    if lines.is_empty() { String::new() } else { format!(".nf\n{}\n.fi\n", lines.join("\n")) }
}

fn escaped(text: &str) -> String {
    guarded(&plain(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stay_lines_and_nothing_is_a_request() {
        let command = Command::new("x").after_help("Examples:\n  x --a 1   one\n  .x -b   two");
        let page = after_options(&command, Vec::new(), &["x".into(), "x-y".into()]);
        assert!(page.contains(".nf\nx \\-\\-a 1   one\n\\&.x \\-b   two\n.fi"), "{page}");
        assert!(page.contains(".SH EXIT STATUS\n.TP\n.B 0\nYes, or done."), "{page}");
        assert!(page.ends_with(".SH SEE ALSO\n.BR x\\-y (1),\n.BR agent.toml (5)\n"), "{page}");
        assert!(!after_options(&Command::new("y"), Vec::new(), &[]).contains("EXAMPLES"));
    }

    #[test]
    fn what_is_written_takes_the_place_of_what_every_page_has() {
        let section = |title: &str| Section { title: title.into(), body: format!(".PP\nof {title}\n") };
        let written = vec![section("NOTES"), section("EXAMPLES"), section("EXIT STATUS")];
        let page = after_options(&Command::new("x").after_help("Examples:\n  x -a"), written, &[]);
        assert_eq!(page.matches(".SH EXIT STATUS\n").count(), 1);
        assert!(page.contains(".SH EXIT STATUS\n.PP\nof EXIT STATUS\n.SH ENVIRONMENT"), "{page}");
        assert!(page.contains(".SH EXAMPLES\n.nf\nx \\-a\n.fi\n.PP\nof EXAMPLES\n.SH SEE ALSO"), "{page}");
    }
}
