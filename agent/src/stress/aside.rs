//! The threads of this process that are no workers, so that their CPU time isn't counted as load.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::thread::cpu_secs;

/// Who isn't a worker, beside the main thread.
#[derive(Debug)]
pub struct Aside {
    /// CPU seconds of those that live as long as the run.
    living: fn() -> f64,
    /// What those have used that ended, in nanoseconds.
    ended: AtomicU64,
}

impl Aside {
    /// `living` tells the CPU seconds of the threads that live as long as the run.
    pub fn new(living: fn() -> f64) -> Self {
        Self { living, ended: AtomicU64::new(0) }
    }

    /// Called by a thread at its end.
    pub fn ends(&self) {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        self.ended.fetch_add((cpu_secs(tid).unwrap_or(0.0) * 1e9) as u64, Ordering::Relaxed);
    }

    /// The CPU seconds of all of them.
    pub fn secs(&self) -> f64 {
        (self.living)() + self.ended.load(Ordering::Relaxed) as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_live_and_those_that_ended_are_summed() {
        let aside = Aside::new(|| 1.5);
        aside.ends();
        assert!(aside.secs() >= 1.5 && aside.secs() < 100.0);
    }
}
