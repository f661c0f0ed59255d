//! Which nginx is meant, and why there is none that may be touched.

use std::path::PathBuf;

use crate::fault::error::FaultError;
use crate::nginx::master::{Found, Master, Reason, Rejected, Which, discover, is_master, same_file};
use crate::sys::proc;

/// Which nginx is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choose {
    /// The only one there is.
    Only,
    /// The one with this master.
    Pid(i32),
    /// The one with this configuration.
    Conf(PathBuf),
}

impl Choose {
    pub(super) fn which(&self) -> Which<'_> {
        match self {
            Self::Only => Which::Any,
            Self::Pid(pid) => Which::Pid(*pid),
            Self::Conf(conf) => Which::Conf(conf),
        }
    }
}

pub(super) fn choose(found: Found, choose: &Choose) -> Result<Master, FaultError> {
    let Found { mut masters, mut rejected } = found;
    match choose {
        Choose::Only => {}
        Choose::Pid(pid) => {
            masters.retain(|m| m.id.pid == *pid);
            rejected.retain(|r| r.pid == *pid);
        }
        Choose::Conf(conf) => {
            masters.retain(|m| same_file(&m.conf, conf));
            rejected.retain(|r| r.conf.as_ref().is_none_or(|c| same_file(c, conf)));
        }
    }
    match (masters.pop(), masters.as_slice()) {
        (None, _) => Err(nothing(rejected, choose)),
        (Some(only), []) => Ok(only),
        (Some(last), others) => {
            let each = others.iter().chain([&last]);
            let each: Vec<String> =
                each.map(|m| format!("--pid {} (--conf {})", m.id.pid, m.conf.display())).collect();
            Err(FaultError::Several(each.join(", ")))
        }
    }
}

/// Why there is none: what is in the way of the one that is meant, or what else runs here.
fn nothing(rejected: Vec<Rejected>, choose: &Choose) -> FaultError {
    let unsafe_one = rejected.iter().find(|r| matches!(r.why, Reason::Upgrade(_) | Reason::CutTitle(_)));
    if let Some(one) = unsafe_one {
        return FaultError::Unsafe { pid: one.pid, why: one.why.clone() };
    }
    // Of some it isn't known which configuration they have.
    let is_meant = |r: &Rejected| !matches!(choose, Choose::Conf(_)) || r.conf.is_some();
    let meant: Vec<Rejected> = rejected.iter().filter(|r| is_meant(r)).cloned().collect();
    if !meant.is_empty() {
        return FaultError::NoNginx(meant);
    }
    let others = || -> Vec<String> {
        let all = discover(Which::Any).masters;
        all.iter().map(|m| format!("--pid {} (--conf {})", m.id.pid, m.conf.display())).collect()
    };
    match choose {
        Choose::Only => FaultError::NoNginx(rejected),
        Choose::Pid(pid) => FaultError::NotIt { what: no_master(*pid), others: others() },
        Choose::Conf(conf) => {
            let there = if conf.exists() { "" } else { ", and there is no such file" };
            let mut others = others();
            others.extend(rejected.iter().map(|r| format!("process {}, but {}", r.pid, r.why)));
            let what = format!("no nginx found that runs with {}{there}", conf.display());
            FaultError::NotIt { what, others }
        }
    }
}

/// What `--pid` named instead of a master.
fn no_master(pid: i32) -> String {
    let Ok(stat) = proc::Stat::of(pid) else { return format!("there is no process {pid}") };
    let master = stat.parent;
    if is_master(master) && proc::Exe::of(master).is_ok_and(|exe| exe.is_run_by(pid)) {
        return format!("process {pid} is a worker of nginx {master}: use --pid {master}");
    }
    match proc::Exe::of(pid) {
        Ok(exe) => format!("process {pid} runs {} and is no nginx master", exe.path.display()),
        Err(_) => format!("process {pid} is no nginx master"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::master::Drift;
    use crate::sys::listening::Listening;
    use crate::sys::proc::{Exe, Identity};

    fn master(pid: i32, conf: &str) -> Master {
        Master {
            id: Identity { pid, start_ticks: 1 },
            exe: Exe { path: "/usr/sbin/nginx".into(), dev: 1, ino: 2 },
            name: "nginx".into(),
            args: Vec::new(),
            cwd: "/".into(),
            conf: conf.into(),
            pid_file: "/run/nginx.pid".into(),
            unread: None,
            listens: Vec::new(),
            endpoints: Vec::new(),
            listening: Listening::default(),
            drift: Drift::default(),
            foreground: false,
        }
    }

    #[test]
    fn of_several_one_must_be_named_and_the_named_one_is_taken() {
        let found = || Found {
            masters: vec![master(7, "/etc/passwd"), master(8, "/etc/group")],
            rejected: vec![Rejected { pid: 9, conf: None, why: Reason::Other("it is an impostor".into()) }],
        };
        let several = choose(found(), &Choose::Only).unwrap_err();
        assert!(several.is_refusal());
        let text = several.to_string();
        assert!(text.contains("--pid 7 (--conf /etc/passwd), --pid 8"), "{text}");
        assert_eq!(choose(found(), &Choose::Pid(7)).unwrap().id.pid, 7);
        assert_eq!(choose(found(), &Choose::Conf("/etc/../etc/group".into())).unwrap().id.pid, 8);
        let none = choose(found(), &Choose::Pid(9)).unwrap_err();
        assert!(!none.is_refusal() && none.to_string().contains("9: it is an impostor"), "{none}");
    }
}
