//! One slow sample doesn't flip the target.

/// What the samples so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No sample yet.
    Unknown,
    /// Passing.
    Up,
    /// Failing.
    Down,
}

/// Counts samples in a row.
#[derive(Debug)]
pub(super) struct Hysteresis {
    state: State,
    fall: u32,
    rise: u32,
    against: u32,
}

impl Hysteresis {
    /// `fall` failures in a row bring it down, `rise` successes up again; the first sample of all decides alone.
    pub(super) fn new(fall: u32, rise: u32) -> Self {
        Self { state: State::Unknown, fall, rise, against: 0 }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Takes a sample; says whether the state changed.
    pub(super) fn observe(&mut self, ok: bool) -> bool {
        let (opposite, needed) = match (self.state, ok) {
            (State::Unknown, ok) => (if ok { State::Up } else { State::Down }, 1),
            (State::Up, false) => (State::Down, self.fall),
            (State::Down, true) => (State::Up, self.rise),
            (State::Up, true) | (State::Down, false) => {
                self.against = 0;
                return false;
            }
        };
        self.against += 1;
        let flips = self.against >= needed;
        if flips {
            self.state = opposite;
            self.against = 0;
        }
        flips
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples: &str) -> State {
        let mut hysteresis = Hysteresis::new(2, 3);
        for sample in samples.chars() {
            hysteresis.observe(sample == '+');
        }
        hysteresis.state()
    }

    #[test]
    fn the_first_sample_decides() {
        assert_eq!((after(""), after("+"), after("-")), (State::Unknown, State::Up, State::Down));
    }

    #[test]
    fn only_failures_in_a_row_count() {
        assert_eq!((after("+-"), after("+-+-+-"), after("+--")), (State::Up, State::Up, State::Down));
    }

    #[test]
    fn only_successes_in_a_row_bring_it_back() {
        assert_eq!((after("-++"), after("-++-++"), after("-+++")), (State::Down, State::Down, State::Up));
    }
}
