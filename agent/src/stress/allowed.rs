//! The CPUs that this process may use.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity};

/// The numbers of the CPUs that the cpuset and the affinity allow us (cpuset(7), sched_setaffinity(2)).
///
/// # Errors
/// When the system doesn't tell.
pub fn cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_a_cpu_to_run_this_test() {
        assert!(!super::cpus().unwrap().is_empty());
    }
}
