//! The CPUs that this process may use.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::sys::cgroup::{CpuCgroup, Quota};

/// What the host allows us.
#[derive(Debug, Clone)]
pub struct Allowed {
    /// The numbers of the CPUs in our cpuset and affinity (cpuset(7), sched_setaffinity(2)).
    pub cpus: Vec<usize>,
    /// The CPU time that a cgroup allows us.
    pub quota: Option<Quota>,
    /// The cgroup that schedules us.
    pub cgroup: Option<CpuCgroup>,
}

impl Allowed {
    /// What it is now.
    ///
    /// # Errors
    /// When the system doesn't tell.
    pub fn now() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
        let cgroup = CpuCgroup::of_this_process();
        Ok(Self { cpus, quota: cgroup.as_ref().and_then(CpuCgroup::quota), cgroup })
    }

    /// How many CPUs we may run on.
    pub fn count(&self) -> u32 {
        u32::try_from(self.cpus.len()).unwrap_or(u32::MAX)
    }

    /// How many CPUs' time cpuset and quota allow; may be a fraction.
    pub fn usable(&self) -> f64 {
        self.quota.as_ref().map_or(f64::MAX, |quota| quota.cpus).min(f64::from(self.count()))
    }

    /// How many workers use all that cpuset and quota allow.
    pub fn workers(&self) -> u32 {
        let quota = self.quota.as_ref().map_or(f64::MAX, |quota| quota.cpus.ceil().max(1.0));
        self.count().min(quota as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_cpu_to_run_this_test() {
        let allowed = Allowed::now().unwrap();
        assert!(allowed.count() >= 1 && allowed.workers() >= 1);
    }

    #[test]
    fn all_are_as_many_as_both_cpuset_and_quota_allow() {
        let workers = |cpus: usize, quota: Option<f64>| {
            let quota = quota.map(|cpus| Quota { cpus, at: "/".into() });
            Allowed { cpus: (0..cpus).collect(), quota, cgroup: None }.workers()
        };
        assert_eq!(
            [workers(4, None), workers(4, Some(1.5)), workers(4, Some(0.1)), workers(2, Some(9.0))],
            [4, 2, 1, 2]
        );
    }
}
