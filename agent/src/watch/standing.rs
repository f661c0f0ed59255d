//! What a node of the load balancer makes of its probes. It doesn't tell: this is inferred from those that came.

use crate::serve::history::{History, Mark};

/// Whether it sends requests here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// It does, as far as is known.
    #[default]
    In,
    /// It doesn't.
    Out {
        /// Failures since the last success that counted.
        failed: u32,
        /// Successes in a row since.
        good: u32,
        /// How many it takes.
        needed: u32,
    },
}

impl Standing {
    /// Of the node at `place`: `unhealthy` failures in a row take the target out, `healthy` successes in.
    pub fn of(history: &History, place: usize, unhealthy: u32, healthy: u32) -> Self {
        let (mut out, mut failed, mut good) = (false, 0, 0);
        let marks = history.cells.iter().flat_map(|cell| &cell.probes);
        for (_, mark) in marks.filter(|(node, _)| usize::from(*node) == place) {
            match mark {
                Mark::Came => good += 1,
                Mark::NotOk | Mark::Missing => {
                    failed += 1;
                    good = 0;
                    out |= failed >= unhealthy;
                }
            }
            if good > 0 && (!out || good >= healthy) {
                (out, failed) = (false, 0);
            }
        }
        if out { Self::Out { failed, good, needed: healthy } } else { Self::In }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::history::Cell;

    fn standing(marks: &str) -> Standing {
        let mut history = History::default();
        for (number, mark) in marks.chars().enumerate() {
            let mark = match mark {
                '.' => Mark::Came,
                'x' => Mark::NotOk,
                _ => Mark::Missing,
            };
            // Of the other node nothing counts here.
            let probes = vec![(0, Mark::Missing), (1, mark)];
            history.cells.push_back(Cell { at: number as i64 * 5, probes, ..Cell::default() });
        }
        Standing::of(&history, 1, 2, 3)
    }

    #[test]
    fn failures_in_a_row_take_it_out_and_successes_in_a_row_in_again() {
        let out = |failed, good| Standing::Out { failed, good, needed: 3 };
        for (marks, expected) in [
            ("", Standing::In),
            ("..", Standing::In),
            ("._._.x", Standing::In),
            (".__", out(2, 0)),
            (".x_", out(2, 0)),
            (".__..", out(2, 2)),
            (".__.._", out(3, 0)),
            (".__...", Standing::In),
            (".__..._", Standing::In),
        ] {
            assert_eq!(standing(marks), expected, "{marks}");
        }
    }
}
