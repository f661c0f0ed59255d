//! Threads that need nothing but their stack. `std::thread` prepares more in the new thread (a signal stack, its
//! handle), and panics there where memory is short; here that is an error before anything runs (pthread_create(3)).
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ptr::null_mut;

use nix::time::{ClockId, clock_gettime};

type Work = Box<dyn FnOnce() + Send>;

/// Runs `work` on a thread of its own, detached, with a stack of `stack_bytes`.
///
/// # Errors
/// `EAGAIN` when the system gives no more threads or no memory for the stack.
pub fn spawn(stack_bytes: usize, work: Work) -> io::Result<()> {
    extern "C" fn begin(work: *mut c_void) -> *mut c_void {
        // SAFETY: the pointer is the box that `spawn` let go of for this thread alone.
        let work = unsafe { Box::from_raw(work.cast::<Work>()) };
        work();
        null_mut()
    }
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = std::mem::MaybeUninit::<libc::pthread_t>::uninit();
    let work = Box::into_raw(Box::new(work));
    // SAFETY: pthread_attr_init fills the attributes before they are used, and they are destroyed once; `work` is only
    // taken back when no thread got it.
    let failed = unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack_bytes);
        libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        let failed = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), begin, work.cast());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        if failed != 0 {
            drop(Box::from_raw(work));
        }
        failed
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

/// The CPU seconds of the thread `tid` of this process; `None` once it has ended. The kernel's numbering of such clocks:
/// `include/linux/posix-timers_types.h`, `CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED`.
pub fn cpu_secs(tid: i32) -> Option<f64> {
    let time = clock_gettime(ClockId::from_raw((!tid << 3) | 6)).ok()?;
    Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn it_runs_and_its_clock_can_be_read() {
        let (say, heard) = channel();
        let (end, ended) = channel::<()>();
        let work = move || {
            let _ = say.send(rustix::thread::gettid().as_raw_nonzero().get());
            let _ = ended.recv();
        };
        spawn(64 << 10, Box::new(work)).unwrap();
        let tid = heard.recv().unwrap();
        assert!(cpu_secs(tid).unwrap() < 1.0);
        drop(end);
        assert_eq!(cpu_secs(0x00ff_ffff), None, "there are no more than four million pids");
    }

    #[test]
    fn a_stack_that_no_memory_holds_is_an_error() {
        assert!(spawn(usize::MAX & !0xffff, Box::new(|| ())).is_err() || cfg!(target_env = "musl"));
    }
}
