//! Making this process what another one was, just before it runs that one's program: scheduling, limits, user, groups,
//! capabilities. For a process with one thread that does nothing else; what can't be had is told and left out.
#![allow(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, CpuSet};

use super::attributes::{Attributes, Limit};
use super::proc::Credentials;

/// Takes on all of it. The list says what couldn't be had, and what is instead.
///
/// # Errors
/// When it can't become that user: nothing should be run then.
pub fn become_like(who: &Credentials, attributes: &Attributes) -> io::Result<Vec<String>> {
    let mut lacking = Vec::new();
    let mut told = |what: &str, done: io::Result<()>| {
        if let Err(e) = done {
            lacking.push(format!("{what}: {e}"));
        }
    };
    told("oom_score_adj", std::fs::write("/proc/self/oom_score_adj", attributes.oom_score_adj.to_string()));
    told("CPU affinity", set_cpus(None, &attributes.cpus));
    told("scheduling policy", schedule(0, attributes.policy, attributes.rt_priority));
    told("nice", rustix::process::setpriority_process(None, attributes.nice).map_err(Into::into));
    for (name, limit) in &attributes.limits {
        if let Some(resource) = resource(name) {
            told(&format!("limit \"{name}\""), set_limit(resource, *limit));
        }
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(who.umask));
    become_user(who, attributes)?;
    if attributes.no_new_privs {
        rustix::thread::set_no_new_privs(true)?;
    }
    Ok(lacking)
}

/// Gives a running process what can be given from outside: for one that a service manager has started anew. What can't be
/// given stays as it is.
pub fn adjust(pid: i32, wanted: &Attributes) {
    let process = Pid::from_raw(pid);
    let Ok(now) = Attributes::of(pid) else { return };
    if now.oom_score_adj != wanted.oom_score_adj {
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), wanted.oom_score_adj.to_string());
    }
    if now.cpus != wanted.cpus {
        let _ = set_cpus(process, &wanted.cpus);
    }
    if (now.policy, now.rt_priority) != (wanted.policy, wanted.rt_priority) {
        let _ = schedule(pid, wanted.policy, wanted.rt_priority);
    }
    if now.nice != wanted.nice {
        let _ = rustix::process::setpriority_process(process, wanted.nice);
    }
    for (name, (soft, hard)) in &wanted.limits {
        if now.limits.get(name) != Some(&(*soft, *hard))
            && let Some(resource) = resource(name)
        {
            let _ = rustix::process::prlimit(process, resource, Rlimit { current: *soft, maximum: *hard });
        }
    }
}

/// User, groups and capabilities. Bounding set first, as leaving root takes away the right to it; permitted over the
/// change of user (`PR_SET_KEEPCAPS`), as what isn't permitted can't be ambient.
fn become_user(who: &Credentials, attributes: &Attributes) -> io::Result<()> {
    let wanted = attributes.capabilities;
    let set = CapabilitySet::from_bits_retain;
    let of = |bits: u64| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| set(1 << bit));
    let ours = rustix::thread::capabilities(None)?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(()); // we are who we are, and can't be anybody else
    }
    for capability in of(!wanted.bounding) {
        // One that this kernel doesn't know, or that is gone already, is an error we don't mind.
        if rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    let groups: Vec<Gid> = who.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups)?;
    let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
    setresgid(gid, gid, gid)?;
    rustix::thread::set_keep_capabilities(true)?;
    setresuid(uid, uid, uid)?;
    let permitted = if uid.is_root() { ours.permitted } else { set(wanted.permitted) & ours.permitted };
    let inheritable = set(wanted.inheritable);
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: inheritable & permitted };
    rustix::thread::set_capabilities(None, sets)?;
    for capability in of(wanted.ambient) {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// As it was; where the hard limit may not be raised so far, as far as it may.
fn set_limit(resource: Resource, (soft, hard): Limit) -> io::Result<()> {
    let wanted = Rlimit { current: soft, maximum: hard };
    let ours = getrlimit(resource);
    if ours == wanted {
        return Ok(());
    }
    let Err(e) = setrlimit(resource, wanted) else { return Ok(()) };
    let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
    let current = least(soft, ours.maximum);
    setrlimit(resource, Rlimit { current, maximum: least(hard, ours.maximum) })?;
    let text = ours.maximum.map_or("unlimited".to_owned(), |m| m.to_string());
    Err(io::Error::other(format!("{e}; it gets {text}")))
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "Max cpu time" => Resource::Cpu,
        "Max file size" => Resource::Fsize,
        "Max data size" => Resource::Data,
        "Max stack size" => Resource::Stack,
        "Max core file size" => Resource::Core,
        "Max resident set" => Resource::Rss,
        "Max processes" => Resource::Nproc,
        "Max open files" => Resource::Nofile,
        "Max locked memory" => Resource::Memlock,
        "Max address space" => Resource::As,
        "Max file locks" => Resource::Locks,
        "Max pending signals" => Resource::Sigpending,
        "Max msgqueue size" => Resource::Msgqueue,
        "Max nice priority" => Resource::Nice,
        "Max realtime priority" => Resource::Rtprio,
        "Max realtime timeout" => Resource::Rttime,
        _ => return None,
    })
}

/// `0-3,7`.
fn set_cpus(process: Option<Pid>, list: &str) -> io::Result<()> {
    let odd = || io::Error::other(format!("\"{list}\" is no list of CPUs"));
    let mut cpus = CpuSet::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| odd());
        (number(first)?..=number(last)?).filter(|cpu| *cpu < CpuSet::MAX_CPU).for_each(|cpu| cpus.set(cpu));
    }
    Ok(rustix::thread::sched_setaffinity(process, &cpus)?)
}

fn schedule(pid: i32, policy: i32, priority: i32) -> io::Result<()> {
    // SAFETY: both are plain questions and orders about one thread, and the pointer lives over the call.
    let failed = unsafe {
        let mut param = std::mem::MaybeUninit::<libc::sched_param>::zeroed();
        if libc::sched_getscheduler(pid) == policy && priority == 0 {
            return Ok(());
        }
        param.assume_init_mut().sched_priority = priority;
        libc::sched_setscheduler(pid, policy, param.as_ptr())
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The folders of the control groups that `lines` of `/proc/PID/cgroup` name, where each hierarchy is mounted as
/// usual (`/sys/fs/cgroup`, or `/sys/fs/cgroup/CONTROLLER`); those that are gone are left out.
pub fn cgroup_folders(lines: &[String]) -> Vec<PathBuf> {
    let folder = |line: &String| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.strip_prefix('/')?);
        let top = Path::new("/sys/fs/cgroup");
        let controllers = controllers.strip_prefix("name=").unwrap_or(controllers);
        let unified = top.join("cgroup.procs").exists();
        let mount = match controllers {
            "" if unified => top.to_owned(),
            "" => top.join("unified"),
            controllers => top.join(controllers),
        };
        Some(mount.join(path)).filter(|folder| folder.join("cgroup.procs").exists())
    };
    lines.iter().filter_map(folder).collect()
}

/// Moves this process into a control group.
///
/// # Errors
/// When that is gone, or takes no processes.
pub fn join_cgroup(folder: &Path) -> io::Result<()> {
    std::fs::write(folder.join("cgroup.procs"), std::process::id().to_string())
}
