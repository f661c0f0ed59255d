//! The picture of a drill that grows on the terminal: a row for each address, a cell for each slice of time. Drawing it costs
//! the same however long the drill lasts, and no line is wider than the terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::drill::analysis::strip::{Cell, Strip, slice};
use crate::drill::client::sample::{Book, Sample};
use crate::drill::schedule::phase::{Marks, Phase};

/// Room for the name of a node before its row.
pub(super) const NAME: usize = 22;
/// The picture is drawn this often.
const EVERY: Duration = Duration::from_millis(300);
/// Where the terminal doesn't say how wide it is.
const USUAL: usize = 80;

/// What is on the terminal.
#[derive(Debug)]
pub(super) struct Live {
    on: bool,
    colours: bool,
    /// A row for each address.
    strips: Vec<Strip>,
    /// How wide each line is that the next picture replaces.
    drawn: Vec<usize>,
    last: Duration,
}

/// The columns of the terminal behind stdout, if it is one.
pub(super) fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    std::io::stdout().is_terminal().then_some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

impl Live {
    pub(super) fn new() -> Self {
        let on = std::io::stderr().is_terminal();
        let colours = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { on, colours, strips: Vec::new(), drawn: Vec::new(), last: Duration::ZERO }
    }

    /// Takes a request in.
    pub(super) fn take(&mut self, sample: &Sample) {
        let place = usize::from(sample.node);
        while self.strips.len() <= place {
            self.strips.push(Strip::default());
        }
        if let Some(strip) = self.strips.get_mut(place) {
            strip.take(sample);
        }
    }

    /// Draws it anew, where it is time to.
    pub(super) fn draw(&mut self, book: &Book, marks: &Marks, error_pct: f64, now: Duration) {
        if !self.on || now < self.last + EVERY {
            return;
        }
        self.last = now;
        let width = width();
        let left = match marks.now() {
            Phase::Hold | Phase::Fault => "; Ctrl-C ends the fault now",
            _ => "",
        };
        // What scrolls off can't be drawn again.
        let (shown, more) = fitting(book.nodes().len(), height());
        let mut lines = Vec::new();
        for (node, strip) in book.nodes().iter().zip(&self.strips).take(shown) {
            lines.push(row(&node.to_string(), strip, width, now, self.colours));
        }
        if more > 0 {
            let text = cut(&format!("and {more} more addresses"), width);
            lines.push((text.chars().count(), text));
        }
        let (phase, secs) = (marks.now().name(), now.as_secs_f64());
        let status = cut(&format!("{phase:<NAME$} {secs:.0} s, {error_pct:.0} % errors{left}"), width);
        lines.push((status.chars().count(), status));
        let mut text = self.up(width);
        for (_, line) in &lines {
            text.push_str(&format!("\r\x1b[K{line}\n"));
        }
        text.push_str("\x1b[J");
        self.drawn = lines.into_iter().map(|(wide, _)| wide).collect();
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Takes it away, so that other text can be written.
    pub(super) fn clear(&mut self) {
        if !self.drawn.is_empty() {
            let text = format!("{}\x1b[J", self.up(width()));
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
            self.drawn.clear();
            self.last = Duration::ZERO;
        }
    }

    /// To the first line that was drawn: in a terminal that has become narrower a line takes several rows.
    fn up(&self, width: usize) -> String {
        let rows: usize = self.drawn.iter().map(|wide| wide.div_ceil(width.max(1)).max(1)).sum();
        if rows == 0 { String::new() } else { format!("\r\x1b[{rows}A") }
    }
}

fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    // The last column stays free: a line that fills it wraps in some terminals.
    if columns == 0 { USUAL - 1 } else { columns - 1 }
}

/// Rows of the terminal; 24 where it doesn't say.
fn height() -> usize {
    let rows = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_row));
    if rows == 0 { 24 } else { rows }
}

/// Of so many addresses: how many are shown in so many rows, beside the status and the line that the cursor is on; and how
/// many aren't.
fn fitting(addresses: usize, rows: usize) -> (usize, usize) {
    let room = rows.saturating_sub(2);
    if addresses <= room {
        return (addresses, 0);
    }
    let shown = room.saturating_sub(1);
    (shown, addresses - shown)
}

/// A row, and how wide it is: the name gives way to the marks where there is little room.
fn row(name: &str, strip: &Strip, width: usize, now: Duration, colours: bool) -> (usize, String) {
    let room = NAME.min(width / 2);
    let name = format!("{:<room$}", cut(name, room));
    let count = width.saturating_sub(room + 1).min(200);
    if count == 0 {
        return (room, name);
    }
    let slice = slice(now, count);
    let cells = usize::try_from(now.as_millis() / slice.as_millis().max(1)).unwrap_or(0) + 1;
    let cells = strip.cells(slice, cells.min(count));
    (room + 1 + cells.len(), format!("{name} {}", paint(&cells, colours)))
}

/// As much of a text as there is room for.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 0..120 {
            for secs in [1, 59, 4000] {
                let (wide, line) =
                    row("[2001:db8::1]:443", &Strip::default(), width, Duration::from_secs(secs), false);
                assert_eq!(wide, line.chars().count());
                assert!(wide <= width.max(1), "{width} columns: {line:?}");
            }
            assert!(
                cut("hold                   12 s, 50 % errors; Ctrl-C ends the fault now", width)
                    .chars()
                    .count()
                    <= width
            );
        }
    }

    #[test]
    fn a_picture_is_no_higher_than_the_terminal() {
        for rows in 3..50 {
            for addresses in 0..100 {
                let (shown, more) = fitting(addresses, rows);
                assert_eq!(shown + more, addresses);
                assert!(shown + usize::from(more > 0) + 2 <= rows, "{addresses} addresses in {rows} rows");
            }
        }
        assert_eq!((fitting(3, 24), fitting(40, 24)), ((3, 0), (21, 19)));
    }

    #[test]
    fn a_terminal_that_became_narrower_has_more_rows_to_clear() {
        let live =
            Live { on: true, colours: false, strips: Vec::new(), drawn: vec![79, 30], last: Duration::ZERO };
        assert_eq!(live.up(79), "\r\x1b[2A");
        assert_eq!(live.up(39), "\r\x1b[4A");
    }
}
