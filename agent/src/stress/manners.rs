//! How the workers yield to everything else, as far as we are permitted, and how all of it is undone.
//!
//! Nice and SCHED_IDLE count only among the tasks of one scheduling group: a cgroup or, in the root cgroup, a
//! session's autogroup (sched(7)). A cgroup of our own with `cpu.idle` set, at the top of the hierarchy, yields to
//! all others. Its name is always the same: runs share it, the last one removes it, and what a SIGKILL left is used
//! and removed by the next run (or by [`sweep`]).
//!
//! Only in version 1 of cgroups, where the CPU controller has a hierarchy of its own. In version 2 the cgroup is the unit:
//! its memory, pids and cpuset limits, and what systemd ends with it (`KillMode=control-group`). We don't leave it, and a
//! group below it would yield no further than SCHED_IDLE does: to the unit's own tasks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::plan::Priority;
use crate::sys::cgroup::{CpuCgroup, Quota, Version};
use crate::sys::sched::{self, Policy};

const NAME: &str = "asg-agent-stress";
/// So many cgroups are looked through for what was left behind.
const MOST_SEARCHED: usize = 20_000;
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
    Normal {
        /// What the workers inherited and couldn't change.
        inherited: Option<String>,
    },
    /// The workers are in the idle cgroup; the whole process goes back to `origin`.
    Group {
        group: PathBuf,
        origin: PathBuf,
        /// Inside which quota group.
        inside: Option<Quota>,
    },
    /// SCHED_IDLE; the autogroup gets back the nice value it had.
    Policy { autogroup: Option<i32>, reach: Reach },
}

/// To whom SCHED_IDLE yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All tasks of the host are in one scheduling group.
    Everywhere,
    /// Version 2: the tasks of our cgroup; others get what their weights say.
    Unit,
    /// The same in version 1, where root would get an idle cgroup.
    Cgroup { root: bool },
}

impl Manners {
    /// Makes the threads `workers` (which are SCHED_IDLE already) yield to everybody else, as `priority` wants it.
    /// They must live until the returned value is dropped.
    pub(super) fn of(priority: Priority, workers: &[i32]) -> Self {
        if priority == Priority::Normal {
            return Self { kind: Kind::Normal { inherited: inherited(workers) }, idle: Vec::new() };
        }
        let cgroup = CpuCgroup::of_this_process();
        match cgroup.as_ref().and_then(|cgroup| join(cgroup, workers).ok()) {
            Some(kind) => {
                // The group alone yields; out of it the workers must be able to end at once.
                normal(workers);
                Self { kind, idle: Vec::new() }
            }
            None => {
                let kind = Kind::Policy { reach: reach(), autogroup: lower_autogroup() };
                Self { kind, idle: workers.to_vec() }
            }
        }
    }

    /// Whether the workers are in a cgroup of their own.
    pub(super) fn in_group(&self) -> bool {
        matches!(self.kind, Kind::Group { .. })
    }

    /// What applies, as a part of a sentence about the workers.
    pub fn describe(&self) -> String {
        describe(&self.kind)
    }
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Normal { inherited: None } => "competing with everything else (--priority normal)".to_owned(),
        Kind::Normal { inherited: Some(what) } => format!("competing (--priority normal), but {what}"),
        Kind::Group { inside: None, .. } => "yielding to everything else (idle cgroup)".to_owned(),
        Kind::Group { inside: Some(quota), .. } => {
            format!("yielding only inside its quota group of {:.2} CPUs ({})", quota.cpus, quota.at.display())
        }
        Kind::Policy { autogroup: Some(_), .. } => {
            "yielding to everything else (SCHED_IDLE, session at nice 19)".to_owned()
        }
        Kind::Policy { reach: Reach::Everywhere, .. } => {
            "yielding to everything else (SCHED_IDLE)".to_owned()
        }
        Kind::Policy { reach: Reach::Unit, .. } => {
            "yielding inside its own unit; others get their weight (SCHED_IDLE)".to_owned()
        }
        Kind::Policy { reach: Reach::Cgroup { root: true }, .. } => {
            "yielding inside its cgroup only (SCHED_IDLE; no own cgroup here)".to_owned()
        }
        Kind::Policy { reach: Reach::Cgroup { root: false }, .. } => {
            "yielding inside its cgroup only (SCHED_IDLE; root gets its own)".to_owned()
        }
    }
}

/// What would apply, for who only asks.
pub fn foreseen(priority: Priority) -> String {
    let group = |cgroup: &CpuCgroup| {
        let root = cgroup.version == Version::V1 && rustix::process::geteuid().is_root();
        let inside = cgroup.quota();
        let parent = inside.as_ref().map_or(&cgroup.mount, |quota| &quota.at).clone();
        let idle = root && (cgroup.own.join("cpu.idle").exists() || parent.join("cpu.idle").exists());
        idle.then(|| Kind::Group { group: parent.join(NAME), origin: cgroup.own.clone(), inside })
    };
    // Described, and let go without being undone: nothing was done.
    let kind = match priority {
        Priority::Normal => Kind::Normal { inherited: None },
        Priority::Idle => CpuCgroup::of_this_process().as_ref().and_then(group).unwrap_or_else(|| {
            let nice = autogroups() && in_root_cgroup();
            Kind::Policy { autogroup: nice.then_some(0), reach: reach() }
        }),
    };
    describe(&kind)
}

/// How far SCHED_IDLE yields here.
fn reach() -> Reach {
    match CpuCgroup::of_this_process() {
        _ if in_root_cgroup() && !autogroups() => Reach::Everywhere,
        Some(cgroup) if cgroup.version == Version::V2 => Reach::Unit,
        _ => Reach::Cgroup { root: rustix::process::geteuid().is_root() },
    }
}

/// What keeps workers from competing that were asked to: a policy or a nice value that was inherited.
fn inherited(workers: &[i32]) -> Option<String> {
    if workers.first().is_some_and(|tid| sched::policy_of(*tid) == Some(Policy::Idle)) {
        return Some("SCHED_IDLE was inherited and may not be changed".to_owned());
    }
    let nice = rustix::process::getpriority_process(None).unwrap_or(0);
    (nice > 0).then(|| format!("nice {nice} was inherited"))
}

impl Manners {
    /// Makes the end, if it is in the next few milliseconds, a quick one. Moving a task between cgroups first waits for
    /// a grace period of the kernel, 5 to 20 ms, unless another move was just before (`cgroup_threadgroup_rwsem`,
    /// `rcu_sync`): this one, of a thread to where it is.
    pub(super) fn about_to_end(&self) {
        if let Kind::Group { group, origin, .. } = &self.kind {
            let us = std::process::id().to_string();
            let top = group.parent().unwrap_or(origin);
            let _ = set(origin, "tasks", &us).or_else(|_| set(top, "tasks", &us));
        }
    }
}

impl Drop for Manners {
    fn drop(&mut self) {
        normal(&self.idle);
        match &self.kind {
            Kind::Normal { .. } => {}
            Kind::Group { group, origin, .. } => leave(group, origin),
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
    if cgroup.version == Version::V2 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // A quota is somebody's will: we don't walk out from under it.
    let inside = cgroup.quota();
    let group = inside.as_ref().map_or(&cgroup.mount, |quota| &quota.at).join(NAME);
    let enter = || {
        match fs::create_dir(&group) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        set(&group, "cpu.idle", "1")?;
        workers.iter().try_for_each(|tid| set(&group, "tasks", &tid.to_string()))
    };
    // Another run that ends just now may remove the group before we are in it.
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound && !group.exists();
    let joined = enter().or_else(|e| if gone(&e) { enter() } else { Err(e) });
    if let Err(e) = joined {
        leave(&group, &cgroup.own);
        return Err(e);
    }
    Ok(Kind::Group { group, origin: cgroup.own.clone(), inside })
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

/// Removes the idle cgroups that killed runs left, wherever they lie: one inside somebody's quota group would keep them
/// from removing theirs. One that is in use stays: the kernel removes no populated cgroup.
pub fn sweep() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    if let Some(cgroup) = CpuCgroup::of_this_process() {
        // Our own way up first: that is where the next one of the same session or unit finds it.
        for folder in cgroup.own.ancestors().take_while(|folder| folder.starts_with(&cgroup.mount)) {
            let _ = fs::remove_dir(folder.join(NAME));
        }
        sweep_below(&cgroup.mount);
    }
}

fn sweep_below(top: &Path) {
    let mut open = std::collections::VecDeque::from([top.to_owned()]);
    let mut searched = 0;
    while let Some(folder) = open.pop_front().filter(|_| searched < MOST_SEARCHED) {
        searched += 1;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name() == NAME {
                let _ = fs::remove_dir(entry.path());
            } else {
                open.push_back(entry.path());
            }
        }
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

    fn cgroup(version: Version, at: &Path) -> CpuCgroup {
        CpuCgroup { version, mount: at.to_owned(), own: at.to_owned() }
    }

    #[test]
    fn a_group_that_cannot_be_idle_is_removed_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(join(&cgroup(Version::V1, dir.path()), &[]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn in_version_2_nobody_leaves_the_unit() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        assert!(join(&cgroup(Version::V2, dir.path()), &[]).is_err());
        assert_eq!(fs::read_to_string(dir.path().join("cgroup.procs")).unwrap(), "");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_left_is_found_wherever_it_lies_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let left = ["asg-agent-stress", "a/asg-agent-stress", "a/b/c/asg-agent-stress"];
        left.iter().for_each(|path| fs::create_dir_all(dir.path().join(path)).unwrap());
        fs::create_dir_all(dir.path().join("a/asg-agent-stressed")).unwrap();
        fs::create_dir_all(dir.path().join("d/asg-agent-stress/in-use")).unwrap();
        sweep_below(dir.path());
        assert!(left.iter().all(|path| !dir.path().join(path).exists()));
        assert!(dir.path().join("a/asg-agent-stressed").exists() && dir.path().join("a/b/c").exists());
        assert!(dir.path().join("d/asg-agent-stress/in-use").exists());
    }
}
