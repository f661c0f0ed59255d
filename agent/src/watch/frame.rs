//! How the model is looked at, and the frame around what is seen.

use super::picture::{Charset, Line, Tone};
use crate::serve::history::CELL_SECS;

/// Spans of a cell that can be chosen, in seconds.
pub const SPANS: [i64; 5] = [CELL_SECS, 10, 30, 60, 300];

/// A part that can stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// All of them.
    #[default]
    All,
    /// The load.
    Load,
    /// Probes, nginx, health, fault.
    Probes,
    /// Through the load balancer.
    Clients,
    /// What happened.
    Happened,
}

impl Pane {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::All => Self::Load,
            Self::Load => Self::Probes,
            Self::Probes => Self::Clients,
            Self::Clients => Self::Happened,
            Self::Happened => Self::All,
        }
    }
}

/// How the model is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Lines; `None` for as many as it takes.
    pub height: Option<usize>,
    /// What can be shown.
    pub charset: Charset,
    /// Seconds a cell.
    pub span: i64,
    /// How many seconds the picture ends before now.
    pub back: i64,
    /// Whether it is held.
    pub held: bool,
    /// Which part.
    pub pane: Pane,
    /// Whether the keys are explained instead.
    pub help: bool,
}

/// Lines in a frame of their own.
pub fn framed(title: &str, lines: Vec<Line>, foot: &str, look: &Look) -> Vec<Line> {
    let mut all = vec![border(look, '┌', title, "", '┐')];
    all.extend(lines.into_iter().map(|line| inner(line, look)));
    all.push(border(look, '└', foot, "", '┘'));
    all
}

/// A line of the frame, with a title and, at the right, what is more.
pub fn border(look: &Look, left: char, title: &str, right: &str, end: char) -> Line {
    let room = look.width.saturating_sub(4);
    let mut line = Line::of(format!("{left}─ "), Tone::Dim);
    let right: String = right.chars().take(room / 2).collect();
    let right_width = if right.is_empty() { 0 } else { right.chars().count() + 3 };
    let title: String = title.chars().take(room.saturating_sub(right_width + 1)).collect();
    line.push(title, Tone::Bold);
    line.push(" ", Tone::Dim);
    let mut line = line.fit(look.width.saturating_sub(right_width + 1), '─');
    if right_width > 0 {
        line.push(format!(" {right} ─"), Tone::Dim);
    }
    line.push(end.to_string(), Tone::Dim);
    in_charset(line, look.charset)
}

/// A line inside the frame.
pub fn inner(line: Line, look: &Look) -> Line {
    let mut framed = Line::of("│ ", Tone::Dim);
    for run in line.0 {
        framed.push(run.text, run.tone);
    }
    let mut framed = framed.fit(look.width.saturating_sub(2), ' ');
    framed.push(" │", Tone::Dim);
    in_charset(framed, look.charset)
}

fn in_charset(mut line: Line, charset: Charset) -> Line {
    line.0.iter_mut().for_each(|run| run.text = charset.text(&run.text));
    line
}
