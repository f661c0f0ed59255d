//! The figures of `BENCHMARKS.md`: each room's measurements, beside its peers in the same run.

pub mod decoys;
pub mod drill;
pub mod fault;
pub mod health;
pub mod kernel;
pub mod probes;
pub mod stress;
mod stress_life;
mod stress_nginx;

use std::fmt::{self, Display, Write};

/// A table of figures.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What was measured.
    pub title: String,
    /// What one must know to read it; among it, how quiet the machine was.
    pub notes: Vec<String>,
    /// The heads.
    pub columns: Vec<String>,
    /// Cells, as many as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|c| (*c).to_owned()).collect();
        Self { title: title.to_owned(), columns, ..Self::default() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[&dyn Display]) {
        self.rows.push(cells.iter().map(ToString::to_string).collect());
    }

    /// Adds a note.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// As Markdown.
impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |cells: &[String]| {
            cells.iter().fold("|".to_owned(), |mut line, cell| {
                let _ = write!(line, " {} |", cell.replace('|', "\\|"));
                line
            })
        };
        writeln!(f, "## {}\n\n{}\n|{}", self.title, line(&self.columns), "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            writeln!(f, "{}", line(row))?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new("Load", &["what", "ours"]);
        table.row(&[&"a|b", &1.5]);
        table.note("Quiet.");
        assert_eq!(table.to_string(), "## Load\n\n| what | ours |\n|---|---|\n| a\\|b | 1.5 |\n\nQuiet.\n\n");
    }
}
