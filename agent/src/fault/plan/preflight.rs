//! Before anything is touched: may we, is it the right nginx, is it well, can it be brought back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Paths;
use crate::fault::bounds::MAX;
use crate::fault::error::FaultError;
use crate::fault::lease::record::{Answered, Fault, Kind, Mode, Parts, Target};
use crate::fault::modes::hold;
use crate::fault::modes::packets;
pub use crate::fault::plan::choose::Choose;
use crate::fault::plan::choose::choose;
use crate::fault::plan::notes;
use crate::fault::plan::rehearsal::{Rehearsal, rehearse};
use crate::fault::plan::unit;
use crate::nginx;
use crate::nginx::answer::{Address, Answer, Endpoint};
use crate::nginx::master::{Master, discover};
use crate::sys::attributes::Attributes;
use crate::sys::environ;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{self, Credentials, Identity};

/// How long a healthy nginx may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// More listeners than these are known to the kernel only: a `listen` may name thousands of ports.
const MOST_ASKED: usize = 32;

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
    /// What to ask nginx for, where the settings say (`[nginx] url`).
    pub url: Option<Box<nginx::target::Target>>,
    /// Whether what is merely unwise is done all the same.
    pub force: bool,
    /// Who asks.
    pub by: String,
}

impl Request {
    /// The fault that it asks for, of this nginx.
    fn fault(&self, target: Option<Target>) -> Result<Fault, FaultError> {
        let health = Some(self.health);
        let parts = Parts { target, status: self.status, delay: self.delay, health };
        let unfit = |what: &str| FaultError::Missing { mode: self.mode.name(), what: what.into() };
        Fault::new(self.mode, parts).map_err(unfit)
    }
}

/// What will be done, and how it comes back.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What will fail.
    pub fault: Fault,
    /// Its workers right now.
    pub workers: Vec<Identity>,
    /// The environment it was started with, where we would have to start it again and it can be known.
    pub environment: Option<Vec<u8>>,
    /// What to know before, and what stops nothing.
    pub notes: Vec<String>,
    /// Whether nginx can be brought back.
    pub rehearsal: Rehearsal,
}

/// Checks that we are root and that our folders are root's.
pub(in crate::fault) fn permitted(paths: &Paths) -> Result<(), FaultError> {
    if !rustix::process::geteuid().is_root() {
        return Err(FaultError::NotRoot);
    }
    for path in [&paths.state, &paths.run, &paths.log] {
        crate::sys::file::ensure_folder(path)
            .map_err(|why| FaultError::Folder { path: path.clone(), why })?;
    }
    Ok(())
}

/// Finds the nginx that is meant and makes sure that it is well and can be brought back. Touches nothing.
///
/// # Errors
/// Why there will be no fault.
pub fn plan(request: &Request) -> Result<Plan, FaultError> {
    let plan = rehearsed(request)?;
    match (&plan.rehearsal.because, plan.fault.target()) {
        (Some(because), Some(target)) => {
            Err(FaultError::NoWayBack { pid: target.master.pid, because: because.clone() })
        }
        _ => Ok(plan),
    }
}

/// The same, also where nginx could not be brought back: the rehearsal says so.
///
/// # Errors
/// Why there will be no fault.
pub fn rehearsed(request: &Request) -> Result<Plan, FaultError> {
    if request.lasts > MAX && !request.force {
        return Err(FaultError::TooLong(request.lasts));
    }
    let mut notes: Vec<String> = notes::replaced(request).into_iter().collect();
    if !request.mode.touches_nginx() {
        healthy(request)?;
        let rehearsal = Rehearsal { can_be_brought_back: true, ..Rehearsal::default() };
        let fault = request.fault(None)?;
        return Ok(Plan { fault, workers: Vec::new(), environment: None, notes, rehearsal });
    }
    if let Some(what) = missing(request.mode) {
        return Err(FaultError::Missing { mode: request.mode.name(), what });
    }
    let master = choose(discover(request.choose.which()), &request.choose)?;
    let pid = master.id.pid;
    let unknown = |e: io::Error| FaultError::Unknown { pid, reason: e.to_string() };
    let unit = unit::of(&master).map_err(unknown)?;
    may_end(request, &master, unit.as_deref(), &mut notes)?;
    let (endpoint, path, answers) = answering(request, &master)?;
    let workers = master.workers();
    for pid in workers.iter().map(|w| w.pid).chain([pid]) {
        if let Some(tracer) = proc::tracer(pid) {
            return Err(FaultError::Traced { pid, tracer });
        }
    }
    let listens = listens(request.mode, &master)?;
    if request.mode == Mode::Error {
        notes.extend(notes::not_answered(&master));
        notes.extend(packets::in_the_way());
    }
    let environment = match unit.is_none().then(|| environ::of(pid)) {
        Some(Ok(all)) => Some(all),
        Some(Err(e)) => {
            notes.push(notes::plain_environment(pid, &e));
            None
        }
        None => None,
    };
    let dependents = match unit.as_deref().filter(|_| request.mode.ends_nginx()) {
        Some(unit) => unit::dependents(unit).map_err(unknown)?,
        None => Vec::new(),
    };
    let found = Target {
        credentials: Credentials::of(pid).map_err(unknown)?,
        attributes: Some(Attributes::of(pid).map_err(unknown)?),
        sockets: proc::sockets(pid),
        workers: workers.iter().filter_map(|w| Credentials::of(w.pid).ok()).map(|c| c.uid).collect(),
        master: master.id,
        name: Some(master.name.clone()),
        exe: master.exe.clone(),
        args: master.args.clone(),
        cwd: master.cwd.clone(),
        conf: master.conf.clone(),
        pid_file: master.pid_file.clone(),
        foreground: master.foreground,
        listening: master.listening.clone(),
        endpoint,
        path,
        answers,
        unit,
        listens,
        dependents,
    };
    // nginx of a unit has its environment from there; for the rehearsal it is looked at.
    let shown = if environment.is_none() { environ::of(pid).ok() } else { environment.clone() };
    let rehearsal = rehearse(request.mode, &master, &found, shown.as_deref());
    if Identity::of(pid).ok() != Some(found.master) {
        return Err(FaultError::Unknown { pid, reason: "it has ended".into() });
    }
    notes.extend(rehearsal.findings.iter().cloned());
    notes.extend(unit::is_booted().then(notes::after_a_reboot).flatten());
    Ok(Plan { fault: request.fault(Some(found))?, workers, environment, notes, rehearsal })
}

/// Whether this nginx may be made to end, where the mode does that.
fn may_end(
    request: &Request,
    master: &Master,
    unit: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<(), FaultError> {
    let pid = master.id.pid;
    if !request.mode.ends_nginx() {
        return Ok(());
    }
    if pid == 1 {
        return Err(FaultError::First);
    }
    if let Some(unit) = unit.filter(|_| request.mode == Mode::Crash) {
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
    Ok(())
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

/// Where packets can be made to fail: where the kernel says that this master listens, but not on loopback, and in
/// `error` not where clients expect TLS.
fn listens(mode: Mode, master: &Master) -> Result<Vec<SocketAddr>, FaultError> {
    if !mode.touches_packets() {
        return Ok(Vec::new());
    }
    let fit = master.listens.iter().filter(|l| mode != Mode::Error || !l.tls);
    let listens = packets::reachable(&fit.map(|l| l.addr).collect::<Vec<_>>());
    if listens.is_empty() {
        let what = match mode {
            _ if master.listens.is_empty() => "nginx listens on no TCP port",
            Mode::Error => "nginx has no listener without TLS that other machines reach",
            _ => "nginx listens on loopback only, where no packet is touched",
        };
        return Err(FaultError::Missing { mode: mode.name(), what: what.into() });
    }
    Ok(listens)
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

/// Where and what to ask to know that nginx is well: `[nginx] url`, else the first of its listeners that answers, and not
/// with an error of its own; and what each listener answers now.
fn answering(request: &Request, master: &Master) -> Result<(Endpoint, String, Vec<Answered>), FaultError> {
    let pid = master.id.pid;
    let all = ask_all(&master.endpoints);
    let answers =
        all.iter().map(|(e, answer)| Answered { endpoint: e.clone(), was: Kind::of(*answer) }).collect();
    if let Some(url) = &request.url {
        let is_its = match &url.endpoint.addr {
            Address::Tcp(at) => master.listens.iter().any(|l| l.addr.port() == at.port()),
            Address::Unix(path) => master.listening.unix.contains(path),
        };
        if !is_its {
            let on: Vec<String> = master.endpoints.iter().map(|e| e.addr.to_string()).collect();
            return Err(FaultError::Elsewhere { pid, url: url.to_string(), on: on.join(", ") });
        }
        let same = master.endpoints.iter().find(|e| e.addr == url.endpoint.addr);
        let proxy_protocol = same.is_some_and(|e| e.proxy_protocol);
        let endpoint = Endpoint { proxy_protocol, ..url.endpoint.clone() };
        let answer = endpoint.ask(&url.path, ANSWER);
        if answer.is_well() {
            return Ok((endpoint, url.path.clone(), answers));
        }
        return Err(FaultError::Unwell { pid, at: url.to_string(), what: answer.to_string() });
    }
    if let Some((endpoint, _)) = all.iter().find(|(_, answer)| answer.is_well()) {
        return Ok((endpoint.clone(), "/".into(), answers));
    }
    let failing = all.iter().find(|(_, answer)| answer.is_some()).or(all.first());
    Err(match failing {
        Some((endpoint, answer)) => {
            FaultError::Unwell { pid, at: endpoint.addr.to_string(), what: answer.to_string() }
        }
        None => {
            let udp: Vec<String> = master.listening.udp.iter().map(|addr| format!("{addr} (UDP)")).collect();
            FaultError::NoListener { pid, on: udp.join(", ") }
        }
    })
}

/// Asks many at once.
pub(in crate::fault) fn ask_all(endpoints: &[Endpoint]) -> Vec<(Endpoint, Answer)> {
    let asked = endpoints.get(..endpoints.len().min(MOST_ASKED)).unwrap_or_default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = asked.iter().map(|e| (e.clone(), scope.spawn(|| e.ask("/", ANSWER)))).collect();
        threads.into_iter().map(|(e, thread)| (e, thread.join().unwrap_or(Answer::Silent))).collect()
    })
}

fn parent(pid: i32) -> String {
    let parent = proc::Stat::of(pid).map_or(0, |s| s.parent);
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    format!("{} ({parent})", name.trim())
}
