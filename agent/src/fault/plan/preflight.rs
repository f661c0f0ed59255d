//! Before anything is touched: may we, is it the right nginx, is it well, can it be brought back.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Paths;
use crate::fault::bounds::MAX;
use crate::fault::error::FaultError;
use crate::fault::lease::record::{Mode, Target};
use crate::fault::modes::hold;
use crate::fault::modes::packets;
use crate::fault::plan::notes;
use crate::fault::plan::unit;
use crate::nginx::answer::{Answer, Endpoint};
use crate::nginx::master::{Found, Master, discover};
use crate::sys::environ;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{self, Credentials, Identity};

/// How long a healthy nginx may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

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

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// How nginx shall fail.
    pub mode: Mode,
    /// How long.
    pub lasts: Duration,
    /// `slow`: how late `/health` answers.
    pub delay: Option<Duration>,
    /// `error`: what requests are answered.
    pub status: Option<u16>,
    /// Where the daemon of this machine serves `/health`; `unhealthy` and `slow` are verified there.
    pub health: SocketAddr,
    /// Which nginx.
    pub choose: Choose,
    /// How far apart one load balancer node's probes were seen to be, where any were seen.
    pub cadence: Option<Duration>,
    /// Whether what is merely unwise is done all the same.
    pub force: bool,
    /// Who asks.
    pub by: String,
}

/// What will be done, and how it comes back.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The nginx that will fail; none where only `/health` fails.
    pub target: Option<Target>,
    /// Its workers right now.
    pub workers: Vec<Identity>,
    /// The environment it was started with, where we would have to start it again and it can be known.
    pub environment: Option<Vec<u8>>,
    /// What to know before, and what stops nothing.
    pub notes: Vec<String>,
}

/// Checks that we are root and that our folders are root's.
pub(in crate::fault) fn permitted(paths: &Paths) -> Result<(), FaultError> {
    if !rustix::process::geteuid().is_root() {
        return Err(FaultError::NotRoot);
    }
    for path in [&paths.state, &paths.run, &paths.log] {
        crate::sys::file::ensure_folder(path)
            .map_err(|source| FaultError::Folder { path: path.clone(), source })?;
    }
    Ok(())
}

/// Finds the nginx that is meant and makes sure that it is well. Touches nothing.
///
/// # Errors
/// Why there will be no fault.
pub fn plan(request: &Request) -> Result<Plan, FaultError> {
    if request.lasts > MAX && !request.force {
        return Err(FaultError::TooLong(request.lasts));
    }
    if !request.mode.touches_nginx() {
        healthy(request)?;
        let notes = notes::replaced(request).into_iter().collect();
        return Ok(Plan { target: None, workers: Vec::new(), environment: None, notes });
    }
    if let Some(what) = missing(request.mode) {
        return Err(FaultError::Missing { mode: request.mode.name(), what });
    }
    let master = choose(discover(), &request.choose)?;
    let pid = master.id.pid;
    let unit = unit::of(pid);
    let mut notes: Vec<String> = notes::replaced(request).into_iter().collect();
    if let Some(unit) = unit.as_deref().filter(|_| request.mode == Mode::Crash) {
        let restart =
            unit::undoes_a_crash(unit).map_err(|e| FaultError::Unknown { pid, reason: e.to_string() })?;
        match restart {
            Some(restart) if request.force => notes.push(notes::undone(unit, &restart)),
            Some(restart) => return Err(FaultError::Undone { unit: unit.to_owned(), restart }),
            None => {}
        }
    }
    if master.foreground && unit.is_none() && !request.force {
        return Err(FaultError::Supervised { pid, parent: parent(pid) });
    }
    let endpoint = answering(&master)?;
    let workers = master.workers();
    for pid in workers.iter().map(|w| w.pid).chain([pid]) {
        if let Some(tracer) = proc::tracer(pid) {
            return Err(FaultError::Traced { pid, tracer });
        }
    }
    let listens = listens(request.mode, &master)?;
    let environment = match unit.is_none().then(|| environ::of(pid)) {
        Some(Ok(all)) => Some(all),
        Some(Err(e)) => {
            notes.push(notes::plain_environment(pid, &e));
            None
        }
        None => None,
    };
    let target = target(master, endpoint, listens, unit)
        .map_err(|e| FaultError::Unknown { pid, reason: format!("it cannot be read how it runs: {e}") })?;
    notes.extend(unit::is_booted().then(notes::after_a_reboot).flatten());
    Ok(Plan { target: Some(target), workers, environment, notes })
}

/// What this machine lacks for the mode.
fn missing(mode: Mode) -> Option<String> {
    let us = Identity::ours().ok()?;
    if let Err(e) = Handle::open(us) {
        return Some(format!("this kernel has no process descriptors (pidfd_open, Linux 5.3): {e}"));
    }
    match mode {
        Mode::Hang => hold::missing(),
        mode if mode.touches_packets() => packets::missing(mode),
        _ => None,
    }
}

/// Where packets can be made to fail: not on loopback, and in `error` not where clients expect TLS.
fn listens(mode: Mode, master: &Master) -> Result<Vec<SocketAddr>, FaultError> {
    if !mode.touches_packets() {
        return Ok(Vec::new());
    }
    let fit = master.listens.iter().filter(|l| mode != Mode::Error || !l.tls);
    let listens = packets::reachable(&fit.map(|l| l.addr).collect::<Vec<_>>());
    if listens.is_empty() {
        let what = match mode {
            Mode::Error => "nginx has no listener without TLS that other machines reach",
            _ => "nginx listens on loopback only, where no packet is touched",
        };
        return Err(FaultError::Missing { mode: mode.name(), what: what.into() });
    }
    Ok(listens)
}

fn choose(found: Found, choose: &Choose) -> Result<Master, FaultError> {
    let Found { mut masters, mut rejected } = found;
    match choose {
        Choose::Only => {}
        Choose::Pid(pid) => {
            masters.retain(|m| m.id.pid == *pid);
            rejected.retain(|r| r.pid == *pid);
        }
        Choose::Conf(conf) => masters.retain(|m| same_file(&m.conf, conf)),
    }
    match (masters.pop(), masters.as_slice()) {
        (None, _) => Err(FaultError::NoNginx(rejected)),
        (Some(only), []) => Ok(only),
        (Some(last), others) => {
            let each = others.iter().chain([&last]);
            let each: Vec<String> =
                each.map(|m| format!("--pid {} (--conf {})", m.id.pid, m.conf.display())).collect();
            Err(FaultError::Several(each.join(", ")))
        }
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// `unhealthy` and `slow` would change nothing for a `/health` that fails already. One that nobody serves is seen when
/// the effect is verified.
fn healthy(request: &Request) -> Result<(), FaultError> {
    let endpoint = Endpoint::http(request.health);
    match endpoint.ask("/health", ANSWER) {
        Answer::Status(status) if status != 200 => Err(FaultError::Unhealthy { at: request.health, status }),
        _ => Ok(()),
    }
}

/// The first of its listeners that answers, and not with an error of its own.
fn answering(master: &Master) -> Result<Endpoint, FaultError> {
    let mut seen: Option<(Endpoint, Answer)> = None;
    for endpoint in master.listens.iter().map(|l| Endpoint::from(*l)) {
        match endpoint.ask("/", ANSWER) {
            answer if answer.is_well() => return Ok(endpoint),
            answer => seen = seen.or(Some((endpoint, answer))),
        }
    }
    let pid = master.id.pid;
    Err(match seen {
        Some((endpoint, answer)) => {
            FaultError::Unwell { pid, at: endpoint.addr.to_string(), what: answer.to_string() }
        }
        None => FaultError::NoListener { pid, conf: master.conf.clone() },
    })
}

fn target(
    master: Master,
    endpoint: Endpoint,
    listens: Vec<SocketAddr>,
    unit: Option<String>,
) -> io::Result<Target> {
    let pid = master.id.pid;
    let target = Target {
        credentials: Credentials::of(pid)?,
        sockets: proc::sockets(pid),
        master: master.id,
        exe: master.exe,
        args: master.args,
        cwd: master.cwd,
        conf: master.conf,
        pid_file: master.pid_file,
        foreground: master.foreground,
        endpoint,
        unit,
        listens,
    };
    if Identity::of(pid)? != target.master {
        return Err(io::Error::other("it has ended"));
    }
    Ok(target)
}

fn parent(pid: i32) -> String {
    let parent = proc::Stat::of(pid).map_or(0, |s| s.parent);
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    format!("{} ({parent})", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::master::Rejected;
    use crate::sys::proc::Exe;

    fn master(pid: i32, conf: &str) -> Master {
        Master {
            id: Identity { pid, start_ticks: 1 },
            exe: Exe { path: "/usr/sbin/nginx".into(), dev: 1, ino: 2 },
            args: Vec::new(),
            cwd: "/".into(),
            conf: conf.into(),
            pid_file: "/run/nginx.pid".into(),
            listens: Vec::new(),
            foreground: false,
        }
    }

    #[test]
    fn of_several_one_must_be_named_and_the_named_one_is_taken() {
        let found = || Found {
            masters: vec![master(7, "/etc/passwd"), master(8, "/etc/group")],
            rejected: vec![Rejected { pid: 9, reason: "it is an impostor".into() }],
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
