//! The CPU cgroup of this process, in version 1 (cgroups(7)) and version 2 (the kernel's
//! `Documentation/admin-guide/cgroup-v2.rst`): where it lies, what quota it bears, how long that has stopped us.

use std::fs;
use std::path::{Path, PathBuf};

/// Which of the two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy of the `cpu` controller alone or with `cpuacct`.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A place in the hierarchy of the CPU controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuCgroup {
    /// Whose files lie there.
    pub version: Version,
    /// The top of the hierarchy, as far as we see it.
    pub mount: PathBuf,
    /// Our own cgroup's folder.
    pub own: PathBuf,
}

/// The tightest limit on the way up.
#[derive(Debug, Clone, PartialEq)]
pub struct Quota {
    /// How many CPUs' time it allows.
    pub cpus: f64,
    /// The cgroup that bears it.
    pub at: PathBuf,
}

impl CpuCgroup {
    /// Ours; `None` where no CPU controller is mounted.
    pub fn of_this_process() -> Option<Self> {
        let read = |name| fs::read_to_string(name).unwrap_or_default();
        Self::find(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    /// Finds it in the texts of `/proc/PID/cgroup` and `/proc/PID/mountinfo`.
    fn find(cgroup: &str, mountinfo: &str) -> Option<Self> {
        let line = |wanted: &dyn Fn(&str) -> bool| {
            let mut lines = cgroup
                .lines()
                .filter_map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>().try_into().ok());
            lines.find_map(|[controllers, path]: [&str; 2]| wanted(controllers).then(|| PathBuf::from(path)))
        };
        let is_cpu = |list: &str| list.split(',').any(|c| c == "cpu");
        let v1 =
            line(&is_cpu).and_then(|path| Some((path, mounted(mountinfo, "cgroup", &is_cpu)?, Version::V1)));
        let (path, (root, mount), version) = match v1 {
            Some(found) => found,
            None => (line(&str::is_empty)?, mounted(mountinfo, "cgroup2", &|_| true)?, Version::V2),
        };
        let own = mount.join(path.strip_prefix(&root).ok()?);
        Some(Self { version, mount, own })
    }

    /// Our cgroup and those above it.
    fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|folder| folder.starts_with(&self.mount))
    }

    /// Whether no CPU cgroup but the root's schedules us: in version 2 the controller has to be enabled from the top
    /// down, and where it is, there is a weight.
    pub fn is_root(&self) -> bool {
        match self.version {
            Version::V1 => self.own == self.mount,
            Version::V2 => !self.upwards().any(|folder| folder.join("cpu.weight").exists()),
        }
    }

    /// The tightest quota that binds us.
    pub fn quota(&self) -> Option<Quota> {
        let quotas =
            self.upwards().filter_map(|at| Some(Quota { cpus: self.quota_at(at)?, at: at.to_owned() }));
        quotas.min_by(|a, b| a.cpus.total_cmp(&b.cpus))
    }

    /// For how long each level on the way up has been stopped by a quota of its own, summed over CPUs, in seconds.
    pub fn throttled(&self) -> Throttled {
        Throttled(self.upwards().map(|at| (at.to_owned(), throttled_secs(at))).collect())
    }

    fn quota_at(&self, folder: &Path) -> Option<f64> {
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let text = match self.version {
            Version::V1 => {
                format!("{} {}", read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
            }
            Version::V2 => read("cpu.max")?,
        };
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        (quota > 0.0 && period > 0.0).then_some(quota / period)
    }
}

/// How long quotas have stopped us, level by level.
#[derive(Debug, Clone, Default)]
pub struct Throttled(Vec<(PathBuf, f64)>);

impl Throttled {
    /// The seconds since `before`, of the level that was stopped for longest: a quota that was set meanwhile counts too.
    pub fn secs_since(&self, before: &Self) -> f64 {
        let earlier = |at: &Path| before.0.iter().find(|(path, _)| path == at).map_or(0.0, |(_, secs)| *secs);
        self.0.iter().map(|(at, secs)| secs - earlier(at)).fold(0.0, f64::max)
    }
}

fn throttled_secs(folder: &Path) -> f64 {
    let text = fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
    let value = |key: &str, unit: f64| {
        let mut fields = text.lines().filter_map(|line| line.split_once(' '));
        fields.find_map(|(k, v)| (k == key).then(|| v.parse::<f64>().ok())?).map(|v| v * unit)
    };
    value("throttled_usec", 1e-6).or_else(|| value("throttled_time", 1e-9)).unwrap_or(0.0)
}

/// The root and the mount point of the first mount of `kind` whose options satisfy `wanted` (proc_pid_mountinfo(5)).
fn mounted(mountinfo: &str, kind: &str, wanted: &dyn Fn(&str) -> bool) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (mount, kinds) = line.split_once(" - ")?;
        let mut kinds = kinds.split(' ');
        if kinds.next() != Some(kind) || !wanted(kinds.nth(1)?) {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        Some((fields.next()?.into(), fields.next()?.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      34 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn found(cgroup: &str, mountinfo: &str) -> Option<(Version, String, String)> {
        let shown = |path: PathBuf| path.display().to_string();
        CpuCgroup::find(cgroup, mountinfo).map(|c| (c.version, shown(c.mount), shown(c.own)))
    }

    #[test]
    fn the_cgroup_is_found_in_both_versions_and_in_a_container() {
        assert_eq!(
            found("0::/user.slice/session-3.scope\n", V2).unwrap(),
            (Version::V2, "/sys/fs/cgroup".into(), "/sys/fs/cgroup/user.slice/session-3.scope".into())
        );
        assert_eq!(
            found("9:memory:/x\n4:cpu,cpuacct:/a/b\n0::/u\n", V1).unwrap(),
            (Version::V1, "/sys/fs/cgroup/cpu,cpuacct".into(), "/sys/fs/cgroup/cpu,cpuacct/a/b".into())
        );
        let container = "32 31 0:29 /docker/1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
        assert_eq!(found("4:cpu:/docker/1/x\n", container).unwrap().2, "/sys/fs/cgroup/cpu/x");
        assert_eq!(found("4:cpu:/elsewhere\n", container), None);
        assert_eq!(found("", ""), None);
    }

    #[test]
    fn the_tightest_quota_on_the_way_up_counts() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("slice/scope");
        fs::create_dir_all(&own).unwrap();
        let cgroup = CpuCgroup { version: Version::V2, mount: dir.path().to_owned(), own: own.clone() };
        assert_eq!(cgroup.quota(), None);
        fs::write(own.join("cpu.max"), "max 100000\n").unwrap();
        fs::write(dir.path().join("slice/cpu.max"), "150000 100000\n").unwrap();
        fs::write(dir.path().join("slice/cpu.stat"), "usage_usec 7\nthrottled_usec 2500000\n").unwrap();
        let quota = cgroup.quota().unwrap();
        assert_eq!((quota.cpus, quota.at.ends_with("slice")), (1.5, true));
        let before = Throttled::default();
        assert!((cgroup.throttled().secs_since(&before) - 2.5).abs() < 1e-9);
        let old = CpuCgroup { version: Version::V1, ..cgroup };
        fs::write(own.join("cpu.cfs_quota_us"), "-1\n").unwrap();
        fs::write(own.join("cpu.cfs_period_us"), "100000\n").unwrap();
        assert_eq!(old.quota(), None);
        fs::write(own.join("cpu.cfs_quota_us"), "50000\n").unwrap();
        fs::write(own.join("cpu.stat"), "nr_throttled 1\nthrottled_time 500000000\n").unwrap();
        let quota = old.quota().unwrap();
        assert_eq!(quota.cpus, 0.5);
        assert!(
            (old.throttled().secs_since(&before) - 2.5).abs() < 1e-9,
            "the level that was stopped for longest"
        );
    }
}
