//! The two ways out: stdout for the result (people's text, or JSON Lines with `--json`), stderr for progress.
//! A closed pipe never ends the work: a fault has to be recovered whether or not somebody still reads. Nor does a
//! reader that stopped reading delay it, where the verb says so ([`Output::unwaiting`]).

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::writer::Writer;

/// Where a verb writes.
#[derive(Debug)]
pub struct Output {
    json: bool,
    closed: bool,
}

/// How long one stream waits for the other, so that their lines don't mix.
const SETTLED: Duration = Duration::from_millis(100);

/// The threads that write for a verb that waits for no reader: stdout's and stderr's.
static WRITERS: OnceLock<Option<(Writer, Writer)>> = OnceLock::new();

fn writers() -> Option<&'static (Writer, Writer)> {
    WRITERS.get().and_then(Option::as_ref)
}

/// Writes what is still in the queues, as long as somebody reads; for the end of the program.
pub(super) fn finish() {
    if let Some((stdout, stderr)) = writers() {
        let now = Instant::now();
        stdout.finish(now);
        match stdout.dropped() + stderr.dropped() {
            0 => {}
            lines => stderr.send(format!("agent: nobody read: {lines} lines were dropped\n").into_bytes()),
        }
        stderr.finish(now);
    }
}

/// The CPU seconds of the threads that write.
pub(super) fn cpu_secs() -> f64 {
    writers().map_or(0.0, |(stdout, stderr)| stdout.cpu_secs() + stderr.cpu_secs())
}

impl Output {
    /// Writes JSON Lines when `json`, else people's text; waits for the reader.
    pub fn new(json: bool) -> Self {
        Self { json, closed: false }
    }

    /// As [`Output::new`], and never waits for a reader, for the rest of the program: for a verb that must do something
    /// in time. Lines that wait for a reader are bounded; beyond that they are dropped.
    pub fn unwaiting(json: bool) -> Self {
        WRITERS.get_or_init(|| {
            let stdout = Writer::start("stdout", std::io::stdout()).ok()?;
            Some((stdout, Writer::start("stderr", std::io::stderr()).ok()?))
        });
        Self::new(json)
    }

    /// Whether programs read us.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether nobody reads stdout any more; what only prints may end then.
    pub fn is_closed(&self) -> bool {
        self.closed || writers().is_some_and(|(stdout, _)| stdout.is_closed())
    }

    /// One JSON line, with `--json` only.
    pub fn event(&mut self, event: &impl Serialize) {
        if self.json
            && let Ok(mut line) = serde_json::to_string(event)
        {
            line.push('\n');
            self.write(line);
        }
    }

    /// One line of people's text, without `--json` only.
    pub fn text(&mut self, line: &str) {
        if !self.json {
            self.write(format!("{line}\n"));
        }
    }

    /// One line of progress or of an error, on stderr.
    pub fn note(&mut self, line: &str) {
        self.progress(format!("{line}\n"));
    }

    /// Text on stderr as it is, for a line that is written over.
    pub fn progress(&mut self, text: String) {
        match writers() {
            Some((_, stderr)) => stderr.send(text.into_bytes()),
            None => drop(std::io::stderr().lock().write_all(text.as_bytes())),
        }
    }

    /// Waits a moment until stderr has what it was given: for what follows on stdout of the same terminal.
    pub fn settle(&mut self) {
        if let Some((_, stderr)) = writers() {
            stderr.drain(Instant::now(), SETTLED);
        }
    }

    fn write(&mut self, text: String) {
        if let Some((stdout, _)) = writers() {
            return stdout.send(text.into_bytes());
        }
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
