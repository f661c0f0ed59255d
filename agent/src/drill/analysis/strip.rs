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

    fn and(self, ok: bool) -> Self {
        match (self, ok) {
            (Self::Empty | Self::Good, true) => Self::Good,
            (Self::Empty | Self::Bad, false) => Self::Bad,
            _ => Self::Mixed,
        }
    }
}

/// The cells of the samples that `picks` takes, each `slice` long; only the last `most` of them.
pub fn cells<'a>(samples: impl Iterator<Item = &'a Sample>, slice: Duration, count: usize) -> Vec<Cell> {
    let mut cells = vec![Cell::Empty; count];
    for one in samples {
        let place = one.start().as_nanos() / slice.as_nanos().max(1);
        if let Some(cell) = usize::try_from(place).ok().and_then(|place| cells.get_mut(place)) {
            *cell = cell.and(one.is_ok());
        }
    }
    cells
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
        let text: String =
            cells(all.iter(), Duration::from_secs(1), 4).iter().map(|cell| cell.mark()).collect();
        assert_eq!(text, ".Xx ");
    }

    #[test]
    fn slices_are_as_fine_as_the_width_allows() {
        assert_eq!(slice(Duration::from_secs(30), 60), Duration::from_secs(1));
        assert_eq!(slice(Duration::from_secs(5), 60), Duration::from_millis(100));
        assert_eq!(slice(Duration::from_secs(90_000), 60), Duration::from_secs(300));
    }
}
