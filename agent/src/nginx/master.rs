//! Which nginx runs here. A master is known by the file it runs, by its listeners in the kernel, by the pid file of its
//! own configuration that names it, by its parent, and by living in our namespaces; never by its title alone, which a
//! worker bears for an instant after its fork, and anybody can bear for ever.
//!
//! What others than root run is a stranger's: it is asked for nothing that could block or cost much, and whoever is
//! named by `--pid` or `--conf`, or recorded by a fault, is found without reading anybody else's files.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ask::Endpoint;
use super::built::Builds;
use super::conf::{Bounds, Conf, Listen};
use super::configured::Configured;
pub use super::configured::Drift;
use super::title::{self, Options};
use crate::sys::listening::Listening;
use crate::sys::proc::{self, Exe, Identity, Stat};

/// What all strangers together may take of our time.
const STRANGERS: Duration = Duration::from_millis(80);

/// A running nginx, verified.
#[derive(Debug, Clone)]
pub struct Master {
    /// Its master process.
    pub id: Identity,
    /// What it runs.
    pub exe: Exe,
    /// The program's name, as it was typed.
    pub name: String,
    /// The arguments it was started with, without the program's name.
    pub args: Vec<String>,
    /// The folder it was started in.
    pub cwd: PathBuf,
    /// Its configuration.
    pub conf: PathBuf,
    /// Why its configuration, as it lies on the disk now, can't be read.
    pub unread: Option<String>,
    /// The file that names it.
    pub pid_file: PathBuf,
    /// Where it takes TCP connections, as the kernel says; how it speaks there, as its configuration says.
    pub listens: Vec<Listen>,
    /// Each of these and each Unix socket, as it can be asked.
    pub endpoints: Vec<Endpoint>,
    /// All that the kernel says of where it can be reached.
    pub listening: Listening,
    /// Where the kernel and the configuration don't agree.
    pub drift: Drift,
    /// Whether it stays with the process that started it (`daemon off`): a supervisor, a shell.
    pub foreground: bool,
}

/// A process that looks like a master and isn't one that we would touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its number.
    pub pid: i32,
    /// Its configuration, as far as it is known.
    pub conf: Option<PathBuf>,
    /// Why.
    pub why: Reason,
}

/// Why a process is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Its binary is being replaced: there are two masters.
    #[error(
        "an upgrade of its binary is under way, and nginx {0} belongs to it: let one of the two end first"
    )]
    Upgrade(i32),
    /// Its title is longer than the room it has for it.
    #[error(
        "its title \"{0}\" is cut off, so how it was started can't be told: start it with a longer environment, \
         or from a unit"
    )]
    CutTitle(String),
    /// It is some master's child.
    #[error("it is a worker of nginx {0}: name that one")]
    Worker(i32),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// All that was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Each may be made to fail.
    pub masters: Vec<Master>,
    /// None of these is ever touched.
    pub rejected: Vec<Rejected>,
}

/// Which of them is looked for; nobody else's files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// Every one.
    Any,
    /// The process with this number.
    Pid(i32),
    /// The one with this main configuration.
    Conf(&'a Path),
}

/// Looks for masters among the processes of this machine.
pub fn discover(which: Which<'_>) -> Found {
    let mut found = Found::default();
    let mut builds = Builds::default();
    let mut strangers = STRANGERS;
    let pids = match which {
        Which::Pid(pid) => vec![pid],
        Which::Any | Which::Conf(_) => proc::pids(),
    };
    for pid in pids {
        let suspect = match Suspect::of(pid, &mut builds) {
            Ok(Some(suspect)) => suspect,
            Ok(None) => continue,
            Err((conf, why)) => {
                found.rejected.push(Rejected { pid, conf, why });
                continue;
            }
        };
        if let Which::Conf(conf) = which
            && !same_file(conf, &suspect.conf)
        {
            continue;
        }
        let is_named = which != Which::Any;
        let begun = Instant::now();
        let conf = suspect.conf.clone();
        let bounds = match suspect.is_roots() {
            true => Bounds::OURS,
            false if is_named => Bounds { time: Duration::from_secs(2), ..Bounds::STRANGERS },
            false => Bounds { time: strangers.min(Bounds::STRANGERS.time), ..Bounds::STRANGERS },
        };
        let is_roots = suspect.is_roots();
        match suspect.verified(&bounds) {
            Ok(master) => found.masters.push(master),
            // Gone while we looked at it.
            Err(_) if Stat::of(pid).is_err() => {}
            Err(why) => found.rejected.push(Rejected { pid, conf: Some(conf), why }),
        }
        if !is_roots {
            strangers = strangers.saturating_sub(begun.elapsed());
        }
    }
    found
}

/// What it takes to know an nginx again.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The file it runs.
    pub program: &'a Path,
    /// Who runs it.
    pub uid: u32,
    /// The file that names it.
    pub pid_file: &'a Path,
    /// The arguments it was started with.
    pub args: &'a [String],
    /// Where it can be reached.
    pub listening: &'a Listening,
}

/// The master that runs now where `known` ran: the same program, the same user, named by the same pid file; where that
/// is gone, started with the same arguments and on one of the same addresses. Reads no configuration and runs nothing.
pub fn successor(known: &Known<'_>) -> Option<Identity> {
    let is_it = |pid: i32| -> Option<Identity> {
        let id = Identity::of(pid).ok()?;
        let same = Exe::of(pid).is_ok_and(|exe| exe.path == known.program)
            && owner(pid) == Some(known.uid)
            && proc::shares_our_namespaces(pid);
        let title = same.then(|| cmdline(pid)).flatten().filter(|title| title::is_master(title))?;
        let parent = Stat::of(pid).ok()?.parent;
        let by_name = read_pid(known.pid_file).is_ok_and(|named| named == pid);
        let same_args = || title::parse(&title).is_ok_and(|options| options.args == known.args);
        let same_place = || {
            let held = Listening::of(pid);
            !held.tcp.is_disjoint(&known.listening.tcp) || !held.unix.is_disjoint(&known.listening.unix)
        };
        // A stale pid file may name anybody, another nginx too. A record of an older version knows no place.
        let is_known = match known.listening.is_empty() {
            true => by_name && same_args(),
            false => same_place() && (by_name || same_args()),
        };
        (is_known && !is_master(parent) && id.is_alive()).then_some(id)
    };
    let named = read_pid(known.pid_file).ok().and_then(is_it);
    named.or_else(|| proc::pids().into_iter().find_map(is_it))
}

/// Whether a process runs an nginx and has a master's title.
pub fn is_master(pid: i32) -> bool {
    Exe::of(pid).is_ok_and(|exe| is_nginx(&exe.path))
        && cmdline(pid).is_some_and(|title| title::is_master(&title))
}

/// The name and the arguments that a master was started with.
pub fn options_of(pid: i32) -> Option<(String, Vec<String>)> {
    let options = title::parse(&cmdline(pid)?).ok()?;
    Some((options.name, options.args))
}

/// By its name; whether it is one is asked of those that root alone can have put there.
fn is_nginx(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    ["nginx", "openresty", "angie", "freenginx", "tengine"].iter().any(|known| name.starts_with(known))
}

fn cmdline(pid: i32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/cmdline")).ok()
}

/// The effective user of a process that can be looked at.
fn owner(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether two paths lead to one file.
pub fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// A process with a master's title, known as far as that costs nothing.
struct Suspect {
    id: Identity,
    exe: Exe,
    uid: u32,
    options: Options,
    cwd: PathBuf,
    prefix: PathBuf,
    conf: PathBuf,
    built_pid: PathBuf,
    listening: Listening,
}

type Left = (Option<PathBuf>, Reason);

impl Suspect {
    /// `None` for what doesn't even look like a master.
    fn of(pid: i32, builds: &mut Builds) -> Result<Option<Self>, Left> {
        let other = |text: String| (None, Reason::Other(text));
        let told = |what: &'static str| {
            move |e: io::Error| (None, Reason::Other(format!("its {what} cannot be read: {e}")))
        };
        let (Ok(id), Some(uid)) = (Identity::of(pid), owner(pid)) else { return Ok(None) };
        let exe = match Exe::of(pid) {
            Ok(exe) => exe,
            Err(_) => return Ok(None), // a kernel thread, or gone
        };
        let is_nginx = is_nginx(&exe.path);
        // A stranger that runs something else is none of our business, whatever it calls itself.
        let Some(title) = cmdline(pid).filter(|title| title::is_master(title) && (is_nginx || uid == 0))
        else {
            return Ok(None);
        };
        if !proc::shares_our_namespaces(pid) {
            let what = "it runs in a container (another pid or network namespace): run `agent` in there";
            return Err(other(what.into()));
        }
        if !is_nginx {
            return Err(other(format!("it runs {}, which is no nginx", exe.path.display())));
        }
        let text = String::from_utf8_lossy(&title).trim_end_matches('\0').to_owned();
        let length = title.iter().position(|b| *b == 0).unwrap_or(title.len());
        // nginx keeps the last two bytes of the room for the end (`ngx_setproctitle`).
        if proc::title_room(pid).is_some_and(|room| length as u64 + 2 >= room) {
            return Err((None, Reason::CutTitle(text)));
        }
        let options = title::parse(&title).map_err(other)?;
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).map_err(told("folder"))?;
        let built = builds.of(&exe).map_err(other)?;
        let prefix = options.value('p').map_or(built.prefix.clone(), |p| cwd.join(p));
        let conf = prefix.join(options.value('c').map_or(built.conf, PathBuf::from));
        let left = |why| (Some(conf.clone()), why);
        let listening = Listening::of(pid);
        if listening.is_empty() {
            return Err(left(Reason::Other("it listens nowhere".into())));
        }
        Ok(Some(Self { id, exe, uid, options, cwd, prefix, conf, built_pid: built.pid, listening }))
    }

    /// Whether root runs it and nobody else wrote its configuration.
    fn is_roots(&self) -> bool {
        self.uid == 0 && std::fs::metadata(&self.conf).map_or(true, |m| m.uid() == 0)
    }

    /// Verifies that it is a master, by its configuration and what that names.
    fn verified(self, bounds: &Bounds) -> Result<Master, Reason> {
        let pid = self.id.pid;
        let (parsed, unread) = match Conf::load_within(&self.conf, Some(&self.prefix), bounds) {
            Ok(conf) => (Some(conf), None),
            // Root's own may have been edited since; a stranger's could be anything.
            Err(e) if self.is_roots() => (None, Some(e.to_string())),
            Err(e) => return Err(Reason::Other(e.to_string())),
        };
        let pid_file = self.options.global("pid").map(|p| self.prefix.join(p));
        let pid_file = pid_file.or_else(|| parsed.as_ref()?.pid_file());
        let pid_file = pid_file.unwrap_or_else(|| self.prefix.join(&self.built_pid));
        self.is_alone(&pid_file, unread.is_none())?;
        match read_pid(&pid_file) {
            Ok(named) if named == pid => {}
            // Which file it is, only its configuration says.
            _ if unread.is_some() && !proc::children(pid).is_empty() => {}
            Ok(named) => {
                return Err(Reason::Other(format!("its pid file {} names {named}", pid_file.display())));
            }
            Err(e) => {
                return Err(Reason::Other(format!(
                    "its pid file {} cannot be read: {e}",
                    pid_file.display()
                )));
            }
        }
        let configured = parsed.as_ref().map(Configured::of).unwrap_or_default();
        let listens: Vec<Listen> =
            self.listening.tcp.iter().map(|addr| configured.speaking_at(*addr)).collect();
        let is_known =
            configured.tcp.is_empty() || self.listening.tcp.iter().any(|addr| configured.names(addr));
        // Its configuration may have been edited since; but a master has workers.
        let has_workers = || proc::children(pid).into_iter().any(|child| self.exe.is_run_by(child));
        let is_its = self.listening.tcp.is_empty() || is_known || self.is_roots() && has_workers();
        if !is_its {
            let conf = self.conf.display();
            return Err(Reason::Other(format!("it listens on none of the addresses in {conf}")));
        }
        let mut endpoints: Vec<Endpoint> = listens.iter().map(|listen| Endpoint::from(*listen)).collect();
        endpoints.extend(self.listening.unix.iter().map(|path| configured.speaking_on(path)));
        let drift = if parsed.is_some() { configured.drift(&self.listening) } else { Drift::default() };
        let daemon = self.options.global("daemon").map(str::to_owned);
        let daemon = daemon.or_else(|| parsed.as_ref()?.global("daemon"));
        if Identity::of(pid).ok() != Some(self.id) {
            return Err(Reason::Other("it has ended".into()));
        }
        Ok(Master {
            id: self.id,
            exe: self.exe,
            name: self.options.name,
            args: self.options.args,
            cwd: self.cwd,
            conf: self.conf,
            unread,
            pid_file,
            listens,
            endpoints,
            listening: self.listening,
            drift,
            foreground: daemon.as_deref() == Some("off"),
        })
    }
}

impl Suspect {
    /// Whether there is but one master. While a binary is being replaced there are two, the new one the child of the old
    /// one, and the pid file is the new one's (<https://nginx.org/en/docs/control.html#upgrade>).
    fn is_alone(&self, pid_file: &Path, is_its: bool) -> Result<(), Reason> {
        let pid = self.id.pid;
        let named = read_pid(pid_file).ok().filter(|_| is_its);
        let mut old = pid_file.as_os_str().to_owned();
        old.push(".oldbin");
        let old = read_pid(Path::new(&old)).ok().filter(|old| is_its && is_master(*old));
        let parent = Stat::of(pid).map_or(0, |s| s.parent);
        let is_upgraded = || named == Some(pid) || named.is_none() && has_workers_or_keeps_title(pid);
        match old {
            Some(other) if other != pid => return Err(Reason::Upgrade(other)),
            Some(_) => return Err(Reason::Upgrade(named.unwrap_or(pid))),
            None if is_master(parent) && is_upgraded() => return Err(Reason::Upgrade(parent)),
            None if is_master(parent) => return Err(Reason::Worker(parent)),
            None => {}
        }
        let mut children = proc::children(pid).into_iter().filter(|child| is_master(*child));
        let new = children.find(|child| match named {
            Some(named) => named == *child,
            None => has_workers_or_keeps_title(*child),
        });
        new.map_or(Ok(()), |new| Err(Reason::Upgrade(new)))
    }
}

/// Whether a process with a master's title is a master: a worker that has only just been forked bears its master's title
/// for an instant, and has no children.
pub fn has_workers_or_keeps_title(pid: i32) -> bool {
    let end = Instant::now() + Duration::from_millis(200);
    loop {
        if !is_master(pid) {
            return false;
        }
        if !proc::children(pid).is_empty() || Instant::now() > end {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Master {
    /// Its workers, cache managers and whatever else runs the same file as its children.
    pub fn workers(&self) -> Vec<Identity> {
        let same = proc::children(self.id.pid).into_iter().filter(|pid| self.exe.is_run_by(*pid));
        same.filter_map(|pid| Identity::of(pid).ok()).collect()
    }
}

/// The number in a pid file; 20 bytes are enough for one, and a hostile file may have no end.
///
/// # Errors
/// When it can't be read or holds no number.
pub fn read_pid(path: &Path) -> io::Result<i32> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let mut text = String::new();
    file.take(20).read_to_string(&mut text)?;
    text.trim().parse().map_err(|_| io::Error::other("not a pid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_without_an_end_or_without_a_number_is_refused() {
        assert!(read_pid(Path::new("/dev/zero")).is_err());
        assert!(read_pid(Path::new("/dev/null")).is_err());
        assert!(read_pid(Path::new("/nonexistent")).is_err());
    }
}
