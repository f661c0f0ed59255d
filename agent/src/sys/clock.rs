//! Two clocks: the wall's, for people and logs, and the one that deadlines are kept in.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// One moment by every clock.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What waiting is counted in.
    pub instant: Instant,
    /// What deadlines are kept in, [`since_boot`].
    pub since_boot: Duration,
    /// What people read.
    pub wall: Timestamp,
}

/// Tells the moment: the machine's clocks, or a test's.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// One that says what `tell` says.
    pub fn of(tell: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// The machine's clocks.
    pub fn of_machine() -> Self {
        Self::of(|| Moment { instant: Instant::now(), since_boot: since_boot(), wall: Timestamp::now() })
    }

    /// Now.
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// The wall clock as RFC 3339 in UTC with milliseconds, as every `at` and `start` in our output is written.
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// `CLOCK_BOOTTIME`: time since boot, suspend included, untouched by whoever sets the wall clock. Deadlines are
/// kept in it together with [`boot_id`], as it starts again at zero with every boot (clock_gettime(2)).
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The identity of this boot: a UUID that the kernel draws anew each time (random(4)).
///
/// # Errors
/// When `/proc` isn't mounted.
pub fn boot_id() -> std::io::Result<String> {
    boot_id_of(Path::new("/proc"))
}

/// As [`boot_id`], of the machine whose `/proc` is mounted at `proc`.
///
/// # Errors
/// When it isn't.
pub fn boot_id_of(proc: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(proc.join("sys/kernel/random/boot_id"))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_and_a_z() {
        let at = Timestamp::from_millisecond(1_700_000_000_120).unwrap();
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20.120Z");
    }

    #[test]
    fn the_boot_clock_never_runs_backwards() {
        let first = since_boot();
        assert!(since_boot() >= first && first > Duration::ZERO);
    }
}
