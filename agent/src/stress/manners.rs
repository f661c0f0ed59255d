//! How the workers yield to everything else, as far as we are permitted, and how all of it is undone.
//!
//! Nice and SCHED_IDLE count only among the tasks of one scheduling group: a cgroup or, in the root cgroup, a
//! session's autogroup (sched(7)). A cgroup of our own with `cpu.idle` set, at the top of the hierarchy, yields to
//! all others. Its name is always the same: runs share it, the last one removes it, and what a SIGKILL left is used
//! and removed by the next run (or by [`sweep`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::plan::Priority;
use crate::sys::cgroup::{CpuCgroup, Version};
use crate::sys::sched;

const NAME: &str = "asg-agent-stress";
const AUTOGROUP: &str = "/proc/self/autogroup";
/// The lowest autogroup priority: 15 of 1024 shares.
const LOWEST: i32 = 19;

/// What is in force until it is dropped.
#[derive(Debug)]
pub struct Manners {
    kind: Kind,
    /// The workers that are still SCHED_IDLE.
    idle: Vec<i32>,
}

#[derive(Debug)]
enum Kind {
    Normal,
    /// The workers are in the idle cgroup; the whole process goes back to `origin`.
    Group {
        group: PathBuf,
        origin: PathBuf,
    },
    /// SCHED_IDLE; the autogroup gets back the nice value it had.
    Policy {
        autogroup: Option<i32>,
        /// All tasks of the host are in one scheduling group.
        everywhere: bool,
        root: bool,
    },
}

impl Manners {
    /// Makes the threads `workers` (which are SCHED_IDLE already) yield to everybody else, as `priority` wants it.
    /// They must live until the returned value is dropped.
    pub(super) fn of(priority: Priority, workers: &[i32]) -> Self {
        if priority == Priority::Normal {
            return Self { kind: Kind::Normal, idle: Vec::new() };
        }
        match CpuCgroup::of_this_process().and_then(|cgroup| join(&cgroup, workers).ok()) {
            Some(kind) => {
                // The group alone yields; out of it the workers must be able to end at once.
                normal(workers);
                Self { kind, idle: Vec::new() }
            }
            None => {
                let root = rustix::process::geteuid().is_root();
                let everywhere = in_root_cgroup() && !autogroups();
                let kind = Kind::Policy { autogroup: lower_autogroup(), everywhere, root };
                Self { kind, idle: workers.to_vec() }
            }
        }
    }

    /// Whether the workers are in a cgroup of their own.
    pub(super) fn in_group(&self) -> bool {
        matches!(self.kind, Kind::Group { .. })
    }

    /// What applies, as a part of a sentence about the workers.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Normal => "competing with everything else (--priority normal)",
            Kind::Group { .. } => "yielding to everything else (own idle cgroup)",
            Kind::Policy { autogroup: Some(_), .. } => {
                "yielding to everything else (SCHED_IDLE, session at nice 19; after a SIGKILL until the next run ends)"
            }
            Kind::Policy { everywhere: true, .. } => "yielding to everything else (SCHED_IDLE)",
            Kind::Policy { root: true, .. } => {
                "yielding within their cgroup only (SCHED_IDLE; no cgroup of their own here)"
            }
            Kind::Policy { root: false, .. } => {
                "yielding within their cgroup only (SCHED_IDLE; root gets an idle cgroup)"
            }
        }
    }
}

impl Manners {
    /// Makes the end, if it is in the next few milliseconds, a quick one. Moving a task between cgroups first waits for
    /// a grace period of the kernel, 5 to 20 ms, unless another move was just before (`cgroup_threadgroup_rwsem`,
    /// `rcu_sync`): this one, of a thread to where it is.
    pub(super) fn about_to_end(&self) {
        if let Kind::Group { group, origin } = &self.kind {
            let us = std::process::id().to_string();
            let top = group.parent().unwrap_or(origin);
            let _ = set(origin, "tasks", &us).or_else(|_| set(top, "cgroup.threads", &us));
        }
    }
}

impl Drop for Manners {
    fn drop(&mut self) {
        normal(&self.idle);
        match &self.kind {
            Kind::Normal => {}
            Kind::Group { group, origin } => leave(group, origin),
            Kind::Policy { autogroup, .. } => {
                if let Some(nice) = autogroup {
                    let _ = set_autogroup(*nice);
                }
            }
        }
    }
}

/// Makes idle threads normal ones again, where we may: an idle thread waits for its turn even to end.
fn normal(threads: &[i32]) {
    for tid in threads {
        if sched::set_thread(*tid, sched::Policy::Normal).is_err() {
            return;
        }
    }
}

/// Puts the workers into the idle cgroup.
fn join(cgroup: &CpuCgroup, workers: &[i32]) -> io::Result<Kind> {
    // A quota is somebody's will: we don't walk out from under it.
    let quota = cgroup.quota();
    let parent = match (&quota, cgroup.version) {
        (None, _) => &cgroup.mount,
        (Some(quota), Version::V1) => &quota.at,
        (Some(_), Version::V2) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let group = parent.join(NAME);
    let enter = || {
        match fs::create_dir(&group) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        match cgroup.version {
            Version::V1 => join_v1(&group, workers),
            Version::V2 => join_v2(&group, &cgroup.mount, workers),
        }
    };
    // Another run that ends just now may remove the group before we are in it.
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound && !group.exists();
    let joined = enter().or_else(|e| if gone(&e) { enter() } else { Err(e) });
    if let Err(e) = joined {
        leave(&group, &cgroup.own);
        return Err(e);
    }
    Ok(Kind::Group { group, origin: cgroup.own.clone() })
}

fn join_v1(group: &Path, workers: &[i32]) -> io::Result<()> {
    set(group, "cpu.idle", "1")?;
    workers.iter().try_for_each(|tid| set(group, "tasks", &tid.to_string()))
}

/// In version 2 threads of a process can only be parted below a common threaded domain, which the root cgroup is
/// to everybody: the process goes there, where its main thread stays prompt, and the workers into the group.
fn join_v2(group: &Path, root: &Path, workers: &[i32]) -> io::Result<()> {
    if fs::read_to_string(group.join("cgroup.type"))?.trim() != "threaded" {
        set(group, "cgroup.type", "threaded")?;
    }
    set(group, "cpu.idle", "1")?;
    set(root, "cgroup.procs", &std::process::id().to_string())?;
    workers.iter().try_for_each(|tid| set(group, "cgroup.threads", &tid.to_string()))
}

/// Moves the whole process back and removes the group, unless another run is still in it.
fn leave(group: &Path, origin: &Path) {
    let us = std::process::id().to_string();
    if set(origin, "cgroup.procs", &us).is_err()
        && let Some(parent) = group.parent()
    {
        let _ = set(parent, "cgroup.procs", &us);
    }
    let _ = fs::remove_dir(group);
}

fn set(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    // Never created: a file that isn't there is a feature that isn't there.
    fs::OpenOptions::new()
        .write(true)
        .open(folder.join(file))
        .and_then(|mut f| io::Write::write_all(&mut f, value.as_bytes()))
}

/// Removes the idle cgroup that a killed run left. One that is in use stays: the kernel removes no populated cgroup.
pub fn sweep() {
    if let Some(cgroup) = CpuCgroup::of_this_process() {
        let _ = fs::remove_dir(cgroup.mount.join(NAME));
    }
}

/// Lowers our session's autogroup, and returns the nice value that it had. `None` where there are none, or where
/// they count for nothing because we are in a cgroup with the CPU controller.
fn lower_autogroup() -> Option<i32> {
    let nice = nice_of(&fs::read_to_string(AUTOGROUP).ok()?)?;
    (autogroups() && in_root_cgroup() && set_autogroup(LOWEST).is_ok()).then(|| afterwards(nice))
}

/// Whether sessions are scheduling groups of their own (sched(7)).
fn autogroups() -> bool {
    fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled").is_ok_and(|text| text.trim() == "1")
}

/// Whether no cgroup but the root's schedules us, as systemd leaves it where nothing asks for the CPU controller.
fn in_root_cgroup() -> bool {
    CpuCgroup::of_this_process().is_none_or(|cgroup| cgroup.is_root())
}

/// What the autogroup gets back that had `nice`. The lowest is what a run beside us has set, or one that was killed:
/// nobody else can undo that, so it goes back to what every session begins with.
fn afterwards(nice: i32) -> i32 {
    if nice == LOWEST { 0 } else { nice }
}

fn nice_of(text: &str) -> Option<i32> {
    text.trim().rsplit_once("nice ")?.1.parse().ok()
}

/// The kernel takes a change only every 100 ms from those without CAP_SYS_ADMIN (`kernel/sched/autogroup.c`).
fn set_autogroup(nice: i32) -> io::Result<()> {
    let write = || fs::write(AUTOGROUP, nice.to_string());
    match write() {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            std::thread::sleep(std::time::Duration::from_millis(110));
            write()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_autogroups_nice_value_is_read() {
        assert_eq!(nice_of("/autogroup-42 nice -5\n"), Some(-5));
        assert_eq!(nice_of(""), None);
        assert_eq!([0, -5, 19].map(afterwards), [0, -5, 0], "the lowest is what a killed run left");
    }

    #[test]
    fn a_feature_that_is_not_there_is_an_error_and_no_new_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(set(dir.path(), "cpu.idle", "1").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_group_that_cannot_be_idle_is_removed_again() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup =
            CpuCgroup { version: Version::V2, mount: dir.path().to_owned(), own: dir.path().to_owned() };
        assert!(join(&cgroup, &[]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
