//! CPUUtilization as CloudWatch sees it with detailed monitoring: one figure a minute, and the alarm's datapoints.

use crate::serve::history::{CELL_SECS, History};

/// Datapoints that target tracking's scale-out alarm takes at standard resolution, one a minute.
pub const DATAPOINTS: usize = crate::stress::forecast::DATAPOINTS as usize;

/// A minute of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minute {
    /// Its start, in seconds since the epoch.
    pub start: i64,
    /// The mean of what was seen, in percent of the host.
    pub busy_pct: f32,
    /// Whether all of it was seen.
    pub whole: bool,
}

/// The minutes of which something was seen, oldest first.
pub fn minutes(history: &History) -> Vec<Minute> {
    let mut all: Vec<(i64, f32, u8)> = Vec::new();
    for (at, busy) in history.cells.iter().filter_map(|cell| Some((cell.at, cell.busy_pct?))) {
        let start = at.div_euclid(60) * 60;
        match all.last_mut() {
            Some((minute, sum, cells)) if *minute == start => {
                *sum += busy;
                *cells += 1;
            }
            _ => all.push((start, busy, 1)),
        }
    }
    let newest = history.cells.back().map_or(0, |cell| cell.at);
    let whole = |start: i64, cells: u8| i64::from(cells) * CELL_SECS >= 60 && newest >= start + 60;
    all.into_iter()
        .map(|(start, sum, cells)| Minute {
            start,
            busy_pct: sum / f32::from(cells),
            whole: whole(start, cells),
        })
        .collect()
}

/// How many whole minutes up to now are above `pct` in a row; three make the alarm fire.
pub fn in_a_row(minutes: &[Minute], pct: f64) -> usize {
    let whole: Vec<&Minute> = minutes.iter().filter(|minute| minute.whole).collect();
    let mut next = whole.last().map_or(0, |minute| minute.start + 60);
    let above = whole.iter().rev().take_while(|minute| {
        let follows = minute.start + 60 == next;
        next = minute.start;
        follows && f64::from(minute.busy_pct) > pct
    });
    above.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::history::Cell;

    fn history(busy: &[f32]) -> History {
        let mut history = History::default();
        for (minute, busy) in busy.iter().enumerate() {
            for cell in 0..12 {
                let at = minute as i64 * 60 + cell * CELL_SECS;
                history.cells.push_back(Cell { at, busy_pct: Some(*busy), ..Cell::default() });
            }
        }
        history
    }

    #[test]
    fn the_running_minute_is_no_datapoint() {
        let minutes = minutes(&history(&[70.0, 71.0, 72.0]));
        assert_eq!(
            minutes.iter().map(|m| (m.busy_pct, m.whole)).collect::<Vec<_>>(),
            [(70.0, true), (71.0, true), (72.0, false)]
        );
        assert_eq!(in_a_row(&minutes, 50.0), 2);
    }

    #[test]
    fn datapoints_count_from_the_newest_back_and_a_gap_ends_them() {
        let all = minutes(&history(&[70.0, 40.0, 70.0, 71.0, 0.0]));
        assert_eq!(in_a_row(&all, 50.0), 2);
        assert_eq!(in_a_row(&all, 80.0), 0);
        let mut gap = history(&[70.0, 70.0, 70.0, 70.0]);
        gap.cells.retain(|cell| cell.at != 65);
        assert_eq!(in_a_row(&minutes(&gap), 50.0), 1);
        assert_eq!(in_a_row(&[], 50.0), 0);
    }
}
