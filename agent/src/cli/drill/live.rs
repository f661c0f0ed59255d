//! The picture of a drill that grows on the terminal: a row for each node, a cell for each slice of time.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::drill::analysis::strip::{Cell, cells, slice};
use crate::drill::client::sample::Book;
use crate::drill::schedule::phase::{Marks, Phase};

/// Room for the name of a node before its row.
pub(super) const NAME: usize = 22;
/// The picture is drawn this often.
const EVERY: Duration = Duration::from_millis(300);

/// What is on the terminal.
#[derive(Debug)]
pub(super) struct Live {
    on: bool,
    colours: bool,
    /// Lines drawn that the next picture replaces.
    drawn: usize,
    last: Duration,
}

impl Live {
    pub(super) fn new() -> Self {
        let on = std::io::stderr().is_terminal();
        let colours = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { on, colours, drawn: 0, last: Duration::ZERO }
    }

    /// Draws it anew, where it is time to.
    pub(super) fn draw(&mut self, book: &Book, marks: &Marks, error_pct: f64, now: Duration) {
        if !self.on || now < self.last + EVERY {
            return;
        }
        self.last = now;
        let width =
            usize::from(rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| size.ws_col));
        let room = width.saturating_sub(NAME + 3).clamp(10, 200);
        let slice = slice(now, room);
        let count = usize::try_from(now.as_millis() / slice.as_millis().max(1)).unwrap_or(0) + 1;
        let mut text = self.up();
        for (place, node) in book.nodes().iter().enumerate() {
            let mine = book.samples.iter().filter(|one| usize::from(one.node) == place);
            let row = paint(&cells(mine, slice, count.min(room)), self.colours);
            text.push_str(&format!("\r\x1b[K{:<NAME$} {row}\n", node.to_string()));
        }
        let left = match marks.now() {
            Phase::Hold | Phase::Fault => "; Ctrl-C ends the fault now",
            _ => "",
        };
        let (phase, secs) = (marks.now().name(), now.as_secs_f64());
        text.push_str(&format!("\r\x1b[K{phase:<NAME$} {secs:.0} s, {error_pct:.0} % errors{left}\n"));
        self.drawn = book.nodes().len() + 1;
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Takes it away, so that other text can be written.
    pub(super) fn clear(&mut self) {
        if self.drawn > 0 {
            let text = format!("{}\x1b[J", self.up());
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
            self.drawn = 0;
            self.last = Duration::ZERO;
        }
    }

    fn up(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\r\x1b[{}A", self.drawn) }
    }
}

/// Cells as marks, coloured where wanted.
pub(super) fn paint(cells: &[Cell], colours: bool) -> String {
    let mut text = String::new();
    let mut before = None;
    for cell in cells {
        let colour = match cell {
            Cell::Empty => "0",
            Cell::Good => "32",
            Cell::Mixed => "33",
            Cell::Bad => "31",
        };
        if colours && before != Some(colour) {
            text.push_str(&format!("\x1b[{colour}m"));
            before = Some(colour);
        }
        text.push(cell.mark());
    }
    if before.is_some() {
        text.push_str("\x1b[0m");
    }
    text
}
