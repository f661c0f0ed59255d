//! The rows of the picture: a label, a cell for each few seconds on the one axis of time, and the state in words.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::clients::Row as ClientRow;
use super::minutes::{Minute, minutes};
use super::model::Model;
use super::picture::{Charset, Line, Tone};
use crate::serve::history::{Cell, Mark};

/// Columns of a row's label.
const LABEL: usize = 14;

/// The axis: which moment each column is.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// Columns for cells.
    pub columns: usize,
    /// Columns for words behind them.
    pub words: usize,
    /// Seconds a column.
    pub span: i64,
    /// The start of the last column, in seconds since the epoch.
    pub end: i64,
    /// What can be shown.
    pub charset: Charset,
}

impl Axis {
    /// For a picture of `width` columns inside its frame, whose last column starts at `end`.
    pub fn new(width: usize, span: i64, end: i64, charset: Charset) -> Self {
        let words = if width >= 96 { 27 } else { 23 };
        let columns = width.saturating_sub(LABEL + words + 2);
        Self { columns, words, span, end, charset }
    }

    /// The start of a column.
    fn start(&self, column: usize) -> i64 {
        self.end - (self.columns as i64 - 1 - column as i64) * self.span
    }

    /// A row: `cell` gives the character and its tone for what begins at a moment and lasts `span`.
    pub fn row(&self, label: &str, cell: impl Fn(i64) -> (char, Tone), words: &str, tone: Tone) -> Line {
        let mut line = Line::default();
        line.push(
            format!("{:<LABEL$}", self.charset.text(label).chars().take(LABEL - 1).collect::<String>()),
            Tone::Dim,
        );
        for column in 0..self.columns {
            let (character, tone) = cell(self.start(column));
            line.push(self.charset.text(&character.to_string()), tone);
        }
        line.push("  ", Tone::Plain);
        line.push(self.charset.text(words), tone);
        line.fit(LABEL + self.columns + 2 + self.words, ' ')
    }

    /// A row of texts at moments, such as times.
    fn texts(&self, label: &str, texts: &[(i64, String)], words: &str, tone: Tone) -> Line {
        let mut cells = vec![' '; self.columns];
        for (at, text) in texts {
            let column = self.columns as i64 - 1 - (self.end - at).div_euclid(self.span);
            // One that begins left of the picture isn't shown in part.
            let Ok(column) = usize::try_from(column) else { continue };
            let free = cells.iter().skip(column.saturating_sub(1)).take(text.chars().count() + 1);
            if column + text.chars().count() <= self.columns && free.clone().all(|c| *c == ' ') {
                cells.iter_mut().skip(column).zip(text.chars()).for_each(|(cell, c)| *cell = c);
            }
        }
        let at = |start: i64| {
            let column =
                usize::try_from(self.columns as i64 - 1 - (self.end - start) / self.span).unwrap_or(0);
            (cells.get(column).copied().unwrap_or(' '), Tone::Dim)
        };
        self.row(label, at, words, tone)
    }

    /// The times above the cells.
    pub fn times(&self, now: i64) -> Line {
        // A label needs room for itself and a gap.
        let step = [60, 120, 300, 600, 900, 1800, 3600]
            .into_iter()
            .find(|step| step / self.span >= 8)
            .unwrap_or(3600);
        let first = self.start(0).div_euclid(step) * step;
        let marks = (0..=self.columns as i64).map(|n| first + n * step).take_while(|at| *at <= self.end);
        let mark = |at: i64| format!("{}{}", '╷', hour_minute(at));
        let texts: Vec<(i64, String)> = marks.map(|at| (at, mark(at))).collect();
        self.texts("", &texts, &format!("{} UTC", hms(now)), Tone::Dim)
    }
}

/// `16:36`, in UTC.
pub fn hour_minute(at: i64) -> String {
    formatted(at, "%H:%M")
}

/// `16:36:42`, in UTC.
pub fn hms(at: i64) -> String {
    formatted(at, "%H:%M:%S")
}

fn formatted(at: i64, format: &str) -> String {
    let at = Timestamp::from_second(at).unwrap_or_default();
    at.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

/// What the cells of a model say in the column that starts at a moment.
pub struct Cells<'a> {
    model: &'a Model,
    span: i64,
}

impl<'a> Cells<'a> {
    /// For columns of `span` seconds.
    pub fn new(model: &'a Model, span: i64) -> Self {
        Self { model, span }
    }

    fn within(&self, start: i64) -> impl Iterator<Item = &'a Cell> {
        let cells = &self.model.history.cells;
        let first = cells.partition_point(|cell| cell.at < start);
        let end = start + self.span;
        cells.range(first..).take_while(move |cell| cell.at < end)
    }

    /// The host's load as a block.
    pub fn cpu(&self, charset: Charset, start: i64) -> (char, Tone) {
        let busy: Vec<f32> = self.within(start).filter_map(|cell| cell.busy_pct).collect();
        if busy.is_empty() {
            return (' ', Tone::Plain);
        }
        let mean = busy.iter().sum::<f32>() / busy.len() as f32;
        let above = self.model.asked.alarm_pct.is_some_and(|pct| f64::from(mean) > pct);
        (charset.level(mean), if above { Tone::Warn } else { Tone::Plain })
    }

    /// Whether something held: a dot, or `x` where it didn't at any moment.
    pub fn held(&self, start: i64, what: impl Fn(&Cell) -> Option<bool>) -> (char, Tone) {
        let all: Vec<bool> = self.within(start).filter_map(what).collect();
        match all.iter().all(|held| *held) {
            _ if all.is_empty() => (' ', Tone::Plain),
            true => ('·', Tone::Good),
            false => ('x', Tone::Bad),
        }
    }

    /// Whether something lasted.
    pub fn lasted(&self, start: i64, tone: Tone, what: impl Fn(&Cell) -> bool) -> (char, Tone) {
        if self.within(start).any(what) { ('█', tone) } else { (' ', Tone::Plain) }
    }

    /// A node's probes: the worst of the column.
    pub fn node(&self, start: i64, node: usize) -> (char, Tone) {
        match self.within(start).filter_map(|cell| cell.mark(node)).max() {
            None => (' ', Tone::Plain),
            Some(Mark::Came) => ('·', Tone::Good),
            Some(Mark::NotOk) => ('x', Tone::Bad),
            Some(Mark::Missing) => ('_', Tone::Bad),
        }
    }

    /// Clients' answers: `x` some failed, `X` all.
    pub fn clients(&self, start: i64, row: &ClientRow) -> (char, Tone) {
        match row.sum(start, start + self.span) {
            (0, 0) => (' ', Tone::Plain),
            (_, 0) => ('·', Tone::Good),
            (0, _) => ('X', Tone::Bad),
            _ => ('x', Tone::Warn),
        }
    }
}

/// The minutes as CloudWatch sees them, each figure at the end of its minute.
pub fn cloudwatch(model: &Model, axis: &Axis) -> Line {
    let minutes = minutes(&model.history);
    let every = if 60 / axis.span >= 7 { 60 } else { 300 };
    let shown = |m: &Minute| m.start.rem_euclid(every) == every - 60 || !m.whole;
    let figure = |m: &Minute| format!("{:.1}{}", m.busy_pct, if m.whole { "" } else { "~" });
    let place = |m: &Minute, text: &str| {
        let width = text.chars().count() as i64 * axis.span;
        let end = if m.whole { m.start + 60 } else { axis.end + axis.span };
        (end - width).max(m.start)
    };
    let texts: Vec<(i64, String)> = minutes
        .iter()
        .rev()
        .filter(|m| shown(m))
        .map(|m| (m, figure(m)))
        .map(|(m, text)| (place(m, &text), text))
        .collect();
    let (words, tone) = match model.asked.alarm_pct {
        Some(pct) => {
            let n = super::minutes::in_a_row(&minutes, pct).min(super::minutes::DATAPOINTS);
            let tone = if n == super::minutes::DATAPOINTS { Tone::Bad } else { Tone::Plain };
            (format!("{n} of {} > {pct} %", super::minutes::DATAPOINTS), tone)
        }
        None => ("% a minute, ~ not over".to_owned(), Tone::Dim),
    };
    axis.texts("CloudWatch", &texts, &words, tone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_as_wide_as_the_picture_and_ends_now() {
        for (width, charset) in
            [(76, Charset::Unicode), (116, Charset::Ascii), (300, Charset::Unicode), (20, Charset::Ascii)]
        {
            let axis = Axis::new(width, 5, 1_000_000_000, charset);
            let cell = |at: i64| if at == 1_000_000_000 { ('█', Tone::Bad) } else { (' ', Tone::Plain) };
            let row = axis.row("fault", cell, "stop", Tone::Bad);
            assert_eq!(row.width(), axis.columns + axis.words + LABEL + 2);
            if width > 60 {
                assert_eq!(row.width(), width);
                let text = row.text();
                assert_eq!(text.chars().nth(LABEL + axis.columns - 1), Some(charset.pick('█', '#')));
            }
        }
    }

    #[test]
    fn times_stand_at_whole_minutes_and_never_run_into_each_other() {
        for span in [5, 10, 30, 60, 300] {
            let axis = Axis::new(116, span, 1_000_000_000 / span * span, Charset::Ascii);
            let text = axis.times(1_000_000_000).text();
            let times: Vec<&str> = text.split('|').skip(1).map(|t| &t[..5]).collect();
            assert!(times.len() >= 2, "{span}: {text}");
            assert!(times.iter().all(|t| t.as_bytes()[2] == b':'), "{text}");
        }
    }
}
