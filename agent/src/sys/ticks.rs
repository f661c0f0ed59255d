//! Waiting in a runtime for every so many seconds, with one wake for each: a timer of tokio's that is seconds away
//! wakes its thread up to three times (the slots of its wheel are 1 ms, 64 ms and 4 s long).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's, timerfd_create(2). What is due twice while nobody waits comes once.
#[derive(Debug)]
pub struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    /// The first comes after `first`, which isn't zero, the others each a period later; needs a runtime.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn every(period: Duration, first: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let time = |span: Duration| Timespec {
            tv_sec: span.as_secs().cast_signed(),
            tv_nsec: span.subsec_nanos().into(),
        };
        let each = Itimerspec { it_interval: time(period), it_value: time(first) };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &each)?;
        // SAFETY: an OwnedFd owns its descriptor: it is open as long as the AsyncFd owns it, and it never changes.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self(timer.map_err(|e| e.into_parts().1)?))
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = rustix::io::read(self.0.get_ref(), &mut [0_u8; 8]);
            ready.clear_ready();
            match read {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn each_comes_no_earlier_than_it_is_due() {
        let (begun, period) = (Instant::now(), Duration::from_millis(10));
        let ticks = Ticks::every(period, period).unwrap();
        for n in 1..=3 {
            ticks.next().await.unwrap();
            assert!(begun.elapsed() >= period * n);
        }
    }
}
