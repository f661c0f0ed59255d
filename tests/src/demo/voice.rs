//! How the story is told: plain lines, colours only on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Writes to stdout. A reader that went away doesn't end the story: the stage has to be taken down all the same.
#[derive(Debug)]
pub(super) struct Voice {
    colours: bool,
    zero: Instant,
}

impl Voice {
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()); // https://no-color.org
        Self { colours: wanted && std::io::stdout().is_terminal(), zero: Instant::now() }
    }

    /// The title of a chapter.
    pub(super) fn chapter(&self, title: &str) {
        self.line(&format!("\n{}", self.paint("1", title)));
    }

    /// What the reader should know.
    pub(super) fn say(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// A command line that is run.
    pub(super) fn command(&self, line: &str) {
        self.line(&format!("   {} {}", self.paint("2", "$"), self.paint("36", line)));
    }

    /// What a command printed.
    pub(super) fn output(&self, line: &str) {
        self.line(&format!("   {} {line}", self.paint("2", "|")));
    }

    /// Something that happens now, with the seconds since [`Voice::count_from_now`].
    pub(super) fn happens(&self, at: Instant, tone: Tone, text: &str) {
        let seconds = at.saturating_duration_since(self.zero).as_secs_f64();
        let code = match tone {
            Tone::Bad => "31",
            Tone::Good => "32",
        };
        self.line(&format!("   {seconds:>5.1} s  {}", self.paint(code, text)));
    }

    /// Counts seconds from now on.
    pub(super) fn count_from_now(&mut self) -> Instant {
        self.zero = Instant::now();
        self.zero
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

/// How something is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tone {
    Good,
    Bad,
}
