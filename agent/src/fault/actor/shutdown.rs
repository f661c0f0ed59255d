//! Whether the machine is being shut down while something is waited for.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::fault::plan::unit;
use crate::sys::wait::Waiter;

/// How often systemd is asked, once there is a reason to.
const AGAIN: Duration = Duration::from_secs(1);

/// A machine that is shut down tells every process to end (SIGTERM); only then systemd is asked whether that is why.
pub(super) struct Shutdown<'a> {
    waiter: Option<&'a Waiter>,
    told: Cell<bool>,
    asked: Cell<Option<Instant>>,
    seen: Cell<bool>,
}

impl<'a> Shutdown<'a> {
    pub(super) fn new(waiter: Option<&'a Waiter>) -> Self {
        Self { waiter, told: Cell::new(false), asked: Cell::new(None), seen: Cell::new(false) }
    }

    /// Whether a signal came since.
    pub(super) fn told(&self) -> bool {
        self.told.get()
    }

    /// Whether it was seen that the machine is being shut down.
    pub(super) fn seen(&self) -> bool {
        self.seen.get()
    }

    /// Looks.
    pub(super) fn look(&self) -> bool {
        let signal = self.waiter.and_then(Waiter::pending);
        self.told.set(self.told.get() || signal.is_some());
        let due = self.asked.get().is_none_or(|at| at.elapsed() >= AGAIN);
        if self.told.get() && !self.seen.get() && due {
            self.seen.set(unit::is_going_down());
            self.asked.set(Some(Instant::now()));
        }
        self.seen.get()
    }
}
