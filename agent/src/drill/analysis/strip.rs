//! A timeline of marks, one for each slice of time. Pure.

use std::time::Duration;

use crate::drill::client::sample::Sample;

/// What a slice of time was like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cell {
    /// Nothing was asked, or nothing has ended yet.
    #[default]
    Empty,
    /// Everything asked was answered.
    Good,
    /// Something failed.
    Mixed,
    /// Everything failed.
    Bad,
}

impl Cell {
    /// Its mark, readable without colours.
    pub fn mark(self) -> char {
        match self {
            Self::Empty => ' ',
            Self::Good => '.',
            Self::Mixed => 'x',
            Self::Bad => 'X',
        }
    }

    /// Both slices in one.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (one, Self::Empty) | (Self::Empty, one) => one,
            (Self::Good, Self::Good) => Self::Good,
            (Self::Bad, Self::Bad) => Self::Bad,
            _ => Self::Mixed,
        }
    }

    fn and(self, ok: bool) -> Self {
        match (self, ok) {
            (Self::Empty | Self::Good, true) => Self::Good,
            (Self::Empty | Self::Bad, false) => Self::Bad,
            _ => Self::Mixed,
        }
    }
}

/// Marks of one row that grows for as long as a drill lasts, in a memory that doesn't: when it is full, two slices become one.
#[derive(Debug)]
pub struct Strip {
    slice: Duration,
    cells: Vec<Cell>,
}

/// As many slices of a row are kept.
const MOST: usize = 2048;

impl Default for Strip {
    fn default() -> Self {
        Self { slice: Duration::from_millis(100), cells: Vec::new() }
    }
}

impl Strip {
    /// Takes a request in.
    pub fn take(&mut self, sample: &Sample) {
        let mut place = self.place(sample.start());
        while place >= MOST {
            let halves = self.cells.chunks(2);
            self.cells =
                halves.map(|pair| pair.iter().fold(Cell::Empty, |sum, one| sum.with(*one))).collect();
            self.slice *= 2;
            place = self.place(sample.start());
        }
        if self.cells.len() <= place {
            self.cells.resize(place + 1, Cell::Empty);
        }
        if let Some(cell) = self.cells.get_mut(place) {
            *cell = cell.and(sample.is_ok());
        }
    }

    fn place(&self, at: Duration) -> usize {
        usize::try_from(at.as_nanos() / self.slice.as_nanos().max(1)).unwrap_or(usize::MAX)
    }

    /// The row in slices of this length.
    pub fn cells(&self, slice: Duration, count: usize) -> Vec<Cell> {
        let mut row = vec![Cell::Empty; count];
        for (place, cell) in self.cells.iter().enumerate() {
            let at = self.slice.as_nanos() * place as u128;
            let to = usize::try_from(at / slice.as_nanos().max(1)).unwrap_or(usize::MAX);
            if let Some(sum) = row.get_mut(to) {
                *sum = sum.with(*cell);
            }
        }
        row
    }
}

/// A row of cells, each `slice` long.
#[derive(Debug, Clone)]
pub struct Row {
    slice: Duration,
    /// From the beginning on.
    pub cells: Vec<Cell>,
}

impl Row {
    /// One with so many cells.
    pub fn new(slice: Duration, count: usize) -> Self {
        Self { slice, cells: vec![Cell::Empty; count] }
    }

    /// Takes a request in.
    pub fn take(&mut self, one: &Sample) {
        let place = one.start().as_nanos() / self.slice.as_nanos().max(1);
        if let Some(cell) = usize::try_from(place).ok().and_then(|place| self.cells.get_mut(place)) {
            *cell = cell.and(one.is_ok());
        }
    }
}

/// A length for slices so that `total` fits into `width` of them: one that people can read off.
pub fn slice(total: Duration, width: usize) -> Duration {
    const STEPS: [u64; 12] = [100, 200, 250, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000];
    let fits = |ms: &u64| total.as_millis() < u128::from(*ms) * width.max(1) as u128;
    Duration::from_millis(STEPS.into_iter().find(fits).unwrap_or(300_000))
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::sample;
    use super::*;
    use crate::drill::client::sample::Outcome;

    #[test]
    fn a_cell_tells_all_of_its_slice() {
        let all = [(0, 200), (100, 200), (1000, 502), (2100, 200), (2200, 502), (9000, 200)]
            .map(|(at, status)| sample(at, Outcome::Status(status), None));
        let mut row = Row::new(Duration::from_secs(1), 4);
        all.iter().for_each(|one| row.take(one));
        let text: String = row.cells.iter().map(|cell| cell.mark()).collect();
        assert_eq!(text, ".Xx ");
    }

    #[test]
    fn a_row_of_a_day_stays_small_and_tells_the_same() {
        let mut strip = Strip::default();
        let hour = 3_600_000;
        for n in 0..100_000_u64 {
            let at = n * 864;
            let status = if (10 * hour..11 * hour).contains(&at) { 502 } else { 200 };
            strip.take(&sample(at, Outcome::Status(status), None));
        }
        assert!(strip.cells.len() <= MOST);
        let row = strip.cells(Duration::from_secs(3600), 24);
        let text: String = row.iter().map(|cell| cell.mark()).collect();
        assert!(text.starts_with(".........") && text.ends_with("............"), "{text}");
        assert!(text.chars().nth(10).is_some_and(|mark| mark != '.'), "{text}");
    }

    #[test]
    fn slices_are_as_fine_as_the_width_allows() {
        assert_eq!(slice(Duration::from_secs(30), 60), Duration::from_secs(1));
        assert_eq!(slice(Duration::from_secs(5), 60), Duration::from_millis(100));
        assert_eq!(slice(Duration::from_secs(90_000), 60), Duration::from_secs(300));
    }
}
