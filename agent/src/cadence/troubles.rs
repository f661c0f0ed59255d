//! When a rhythm was broken: the last times each by itself, the earlier ones as a sum.

use std::collections::VecDeque;

/// More than a window of the daemon needs; what is older is only summed up.
const KEPT: usize = 64;
/// Troubles within this time are one entry.
const JOINED_MS: i64 = 5000;

/// A time at which probes were missing or out of rhythm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) at_ms: i64,
    pub(super) missed: u64,
    pub(super) off: u64,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Troubles {
    last: VecDeque<Trouble>,
    /// Intervals that were right since the last one.
    pub(super) right_since: u64,
}

impl Troubles {
    pub(super) fn add(&mut self, at_ms: i64, missed: u64, off: u64) {
        self.right_since = 0;
        match self.last.back_mut() {
            Some(last) if at_ms - last.at_ms < JOINED_MS => {
                *last = Trouble { at_ms, missed: last.missed + missed, off: last.off + off };
            }
            _ => self.last.push_back(Trouble { at_ms, missed, off }),
        }
        if self.last.len() > KEPT
            && let (Some(first), Some(second)) = (self.last.pop_front(), self.last.front_mut())
        {
            second.missed += first.missed;
            second.off += first.off;
        }
    }

    /// Missed and out of rhythm since then.
    pub(super) fn since(&self, from_ms: i64) -> (u64, u64) {
        let within = self.last.iter().filter(|trouble| trouble.at_ms >= from_ms);
        within.fold((0, 0), |(missed, off), trouble| (missed + trouble.missed, off + trouble.off))
    }

    /// When it was last out of rhythm.
    pub(super) fn last_ms(&self) -> Option<i64> {
        self.last.back().map(|trouble| trouble.at_ms)
    }
}
