//! Holding processes still (ptrace(2)). A tracee stays stopped as long as its tracer lives and wants it to, and runs
//! on by itself when the tracer dies, however that happens: the kernel holds this lease.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::ClockId;
use nix::unistd::Pid;

use super::proc::Identity;

/// How long a thread may take to stop; one that waits for a disk takes as long as the disk.
const STOPPED: Duration = Duration::from_secs(2);
/// `PTRACE_EVENT_STOP` (linux/ptrace.h), which neither libc nor nix names.
const EVENT_STOP: i32 = 128;

/// Threads that are held, until this value is dropped. It belongs to the thread that made it: the kernel takes
/// orders for a tracee from its tracer's thread only.
#[derive(Debug)]
pub struct Held {
    threads: BTreeSet<i32>,
    _end: Timer,
}

impl Held {
    /// Holds nothing yet. At `end` (since boot) the kernel kills this process unless the value was dropped before:
    /// even a tracer that is stopped itself can't hold anything for longer.
    ///
    /// # Errors
    /// When the kernel has no timer for us.
    pub fn until(end: Duration) -> io::Result<Self> {
        let kill = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
        let mut timer = Timer::new(ClockId::CLOCK_BOOTTIME, kill)?;
        timer.set(Expiration::OneShot(end.into()), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        Ok(Self { threads: BTreeSet::new(), _end: timer })
    }

    /// Holds every thread of a process, once each; verified after it was seized. Says whether there were new ones;
    /// a process that has ended has none.
    ///
    /// # Errors
    /// When it isn't permitted, is traced already, or doesn't stop.
    pub fn hold(&mut self, process: Identity) -> io::Result<bool> {
        let before = self.threads.len();
        loop {
            let new: Vec<i32> =
                threads(process.pid).into_iter().filter(|thread| !self.threads.contains(thread)).collect();
            if new.is_empty() {
                return Ok(self.threads.len() > before);
            }
            for thread in new {
                match ptrace::seize(Pid::from_raw(thread), Options::empty()) {
                    Ok(()) => {}
                    Err(Errno::ESRCH) => continue,
                    Err(e) => return Err(e.into()),
                }
                self.threads.insert(thread);
                if !process.is_alive() {
                    return Ok(false); // whoever has its pid now is let go when we are dropped
                }
                stop(Pid::from_raw(thread))?;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for thread in &self.threads {
            // Gone, or not stopped in time: it runs on when we end.
            let _ = ptrace::detach(Pid::from_raw(*thread), None);
        }
    }
}

fn threads(pid: i32) -> Vec<i32> {
    let Ok(all) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Interrupts a seized thread and waits until it stands.
fn stop(thread: Pid) -> io::Result<()> {
    ptrace::interrupt(thread)?;
    let end = Instant::now() + STOPPED;
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG))? {
            WaitStatus::PtraceEvent(_, _, EVENT_STOP) | WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                return Ok(());
            }
            // A signal came first: it is delivered, and the interruption follows.
            WaitStatus::Stopped(_, signal) => ptrace::cont(thread, signal)?,
            WaitStatus::StillAlive if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
            WaitStatus::StillAlive => return Err(io::Error::other(format!("{thread} does not stop"))),
            _ => ptrace::cont(thread, None)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::since_boot;
    use crate::sys::proc::Stat;
    use std::process::Command;

    #[test]
    fn a_held_process_stands_and_runs_on_when_it_is_let_go() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = Identity::of(child.id().cast_signed()).unwrap();
        let state = || Stat::of(id.pid).unwrap().state;
        let mut held = Held::until(since_boot() + Duration::from_secs(600)).unwrap();
        assert!(held.hold(id).unwrap() && !held.hold(id).unwrap());
        assert_eq!(state(), 't');
        drop(held);
        assert!(matches!(state(), 'S' | 'R'));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_recycled_pid_is_let_go_at_once() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = Identity::of(child.id().cast_signed()).unwrap();
        let mut held = Held::until(since_boot() + Duration::from_secs(600)).unwrap();
        assert!(!held.hold(Identity { start_ticks: id.start_ticks + 1, ..id }).unwrap());
        drop(held);
        assert!(matches!(Stat::of(id.pid).unwrap().state, 'S' | 'R'));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
