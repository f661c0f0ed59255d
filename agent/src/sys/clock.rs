//! Two clocks: the wall's, for people and logs, and the one that deadlines are kept in.

use std::time::Duration;

use jiff::Timestamp;

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
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
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
