//! The two ways out: stdout for the result (people's text, or JSON Lines with `--json`), stderr for progress.
//! A closed pipe never ends the work: a fault has to be recovered whether or not somebody still reads.

use std::io::{IsTerminal, Write};

use serde::Serialize;

/// Where a verb writes.
#[derive(Debug)]
pub struct Output {
    json: bool,
    closed: bool,
}

impl Output {
    /// Writes JSON Lines when `json`, else people's text.
    pub fn new(json: bool) -> Self {
        Self { json, closed: false }
    }

    /// Whether programs read us.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether nobody reads stdout any more; what only prints may end then.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// One JSON line, with `--json` only.
    pub fn event(&mut self, event: &impl Serialize) {
        if self.json
            && let Ok(mut line) = serde_json::to_string(event)
        {
            line.push('\n');
            self.write(&line);
        }
    }

    /// One line of people's text, without `--json` only.
    pub fn text(&mut self, line: &str) {
        if !self.json {
            self.write(&format!("{line}\n"));
        }
    }

    /// One line of progress or of an error, on stderr.
    pub fn note(&mut self, line: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    fn write(&mut self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        self.closed |= stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err();
    }

    /// Whether stdout is a terminal on which colours are wanted (<https://no-color.org>).
    pub fn colours(&self) -> bool {
        !self.json
            && std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
    }
}
