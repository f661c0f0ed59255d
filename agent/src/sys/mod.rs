//! The kernel's side of things: clocks, `/proc`, files that can be trusted, scheduling. Knows nothing of any other
//! room. The only place where `unsafe` is allowed, one small file a system call, each with its reason.

pub mod alloc;
pub mod attributes;
pub mod become_like;
pub mod cgroup;
pub mod clock;
pub mod cpu;
pub mod descriptors;
pub mod environ;
pub mod file;
pub mod held;
pub mod limit;
pub mod listening;
pub mod log;
pub mod memory;
pub mod pidfd;
pub mod proc;
pub mod run;
pub mod sched;
pub mod sigwait;
pub mod socket;
pub mod spawn;
pub mod thread;
pub mod ticks;
pub mod trace;
pub mod wait;
