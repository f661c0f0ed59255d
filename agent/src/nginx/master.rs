//! Which nginx runs here. A master is known by the file it runs, by the pid file of its own configuration that names
//! it, by its parent, and by living in our namespaces; never by its title alone, which a worker bears for an
//! instant after its fork, and anybody can bear for ever.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::conf::{Conf, Listen};
use super::title;
use crate::sys::listening::listening;
use crate::sys::proc::{self, Exe, Identity, Stat};

/// A running nginx, verified.
#[derive(Debug, Clone)]
pub struct Master {
    /// Its master process.
    pub id: Identity,
    /// What it runs.
    pub exe: Exe,
    /// The arguments it was started with, without the program's name.
    pub args: Vec<String>,
    /// The folder it was started in.
    pub cwd: PathBuf,
    /// Its configuration.
    pub conf: PathBuf,
    /// The file that names it.
    pub pid_file: PathBuf,
    /// Where it takes connections.
    pub listens: Vec<Listen>,
    /// Whether it stays with the process that started it (`daemon off`): a supervisor, a shell.
    pub foreground: bool,
}

/// A process that looks like a master and isn't one that we would touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its number.
    pub pid: i32,
    /// Why.
    pub reason: String,
}

/// All that was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Each may be made to fail.
    pub masters: Vec<Master>,
    /// None of these is ever touched.
    pub rejected: Vec<Rejected>,
}

/// Looks at every process of this machine.
pub fn discover() -> Found {
    let mut found = Found::default();
    let mut builds = Builds::new();
    for pid in proc::pids() {
        let Ok(cmdline) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        if !title::is_master(&cmdline) {
            continue;
        }
        match Master::of(pid, &cmdline, &mut builds) {
            Ok(master) => found.masters.push(master),
            // Gone while we looked at it.
            Err(_) if Stat::of(pid).is_err() => {}
            Err(reason) => found.rejected.push(Rejected { pid, reason }),
        }
    }
    found
}

impl Master {
    /// Verifies that the process `pid` with this title is a master.
    fn of(pid: i32, cmdline: &[u8], builds: &mut Builds) -> Result<Self, String> {
        let told = |what: &'static str| move |e: io::Error| format!("its {what} cannot be read: {e}");
        let id = Identity::of(pid).map_err(told("start"))?;
        let exe = Exe::of(pid).map_err(told("executable"))?;
        if !proc::shares_our_namespaces(pid) {
            return Err("it runs in a container (another pid or network namespace)".into());
        }
        let name = exe.path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("nginx") && !name.starts_with("openresty") {
            return Err(format!("it runs {}, which is no nginx", exe.path.display()));
        }
        let options = title::parse(cmdline)?;
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).map_err(told("folder"))?;
        let key = (exe.path.clone(), exe.dev, exe.ino);
        let built = builds.entry(key).or_insert_with(|| Built::of(&exe.path)).clone()?;
        let prefix = options.value('p').map_or(built.prefix.clone(), |p| cwd.join(p));
        let conf = options.value('c').map_or(built.conf.clone(), PathBuf::from);
        let conf = prefix.join(conf);
        let parsed = Conf::load(&conf, Some(&prefix)).map_err(|e| e.to_string())?;
        let pid_file = options.global("pid").map(|p| prefix.join(p)).or_else(|| parsed.pid_file());
        let pid_file = pid_file.unwrap_or_else(|| prefix.join(&built.pid));
        match read_pid(&pid_file) {
            Ok(named) if named == pid => {}
            Ok(named) => return Err(format!("its pid file {} names {named}", pid_file.display())),
            Err(e) => return Err(format!("its pid file {} cannot be read: {e}", pid_file.display())),
        }
        let parent = Stat::of(pid).map_err(told("parent"))?.parent;
        if exe.is_run_by(parent) {
            return Err(format!("it is the child of nginx {parent}: an upgrade of the binary is under way"));
        }
        let listens = parsed.listens();
        if !listens.is_empty() && !holds_any(pid, &listens) {
            return Err(format!("it listens on none of the addresses in {}", conf.display()));
        }
        let foreground = options.global("daemon").map(str::to_owned).or_else(|| parsed.global("daemon"));
        if Identity::of(pid).ok() != Some(id) {
            return Err("it has ended".into());
        }
        Ok(Self {
            id,
            exe,
            args: options.args,
            cwd,
            conf,
            pid_file,
            listens,
            foreground: foreground.as_deref() == Some("off"),
        })
    }

    /// Its workers, cache managers and whatever else runs the same file as its children.
    pub fn workers(&self) -> Vec<Identity> {
        let same = proc::children(self.id.pid).into_iter().filter(|pid| self.exe.is_run_by(*pid));
        same.filter_map(|pid| Identity::of(pid).ok()).collect()
    }
}

/// Whether a process listens where a configuration says: a master does from before it has its title until it ends, and
/// who only pretends to be one doesn't.
fn holds_any(pid: i32, listens: &[Listen]) -> bool {
    let held = listening(pid);
    listens.iter().any(|listen| {
        let same = |addr: &SocketAddr| {
            let any = addr.ip().is_unspecified() || listen.addr.ip().is_unspecified();
            addr.port() == listen.addr.port() && (any || addr.ip() == listen.addr.ip())
        };
        held.iter().any(same)
    })
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

/// What each binary was built with, or why that can't be known; asked once for all masters that run it.
type Builds = HashMap<(PathBuf, u64, u64), Result<Built, String>>;

/// What a binary was built with, as `nginx -V` says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Built {
    prefix: PathBuf,
    conf: PathBuf,
    pid: PathBuf,
}

impl Built {
    /// Runs `EXE -V`, which reads no configuration; only a file that root alone can have put there is run.
    fn of(exe: &Path) -> Result<Self, String> {
        if !proc::is_trusted_program(exe) {
            return Err(format!("{} is missing, or others than root can replace it", exe.display()));
        }
        let mut command = Command::new(exe);
        command.arg("-V").env_clear().current_dir("/").stdin(Stdio::null());
        let output = command.output().map_err(|e| format!("{} -V: {e}", exe.display()))?;
        let text = String::from_utf8_lossy(&output.stderr);
        if !text.contains("nginx version:") {
            return Err(format!("{} does not call itself nginx", exe.display()));
        }
        Ok(Self::parse(&text))
    }

    /// Where an option is missing, its default (<https://nginx.org/en/docs/configure.html>).
    fn parse(text: &str) -> Self {
        let option = |name: &str| {
            let value = text.split_ascii_whitespace().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
            value.map(|v| PathBuf::from(v.trim_matches('\'')))
        };
        let prefix = option("--prefix").unwrap_or_else(|| "/usr/local/nginx".into());
        Self {
            conf: option("--conf-path").unwrap_or_else(|| prefix.join("conf/nginx.conf")),
            pid: option("--pid-path").unwrap_or_else(|| prefix.join("logs/nginx.pid")),
            prefix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_binary_was_built_with_is_read_from_its_own_words() {
        let text = "nginx version: nginx/1.22.1\nconfigure arguments: --with-cc-opt='-g -O2' \
                    --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --pid-path=/run/nginx.pid";
        let built = Built::parse(text);
        assert_eq!(built.conf, Path::new("/etc/nginx/nginx.conf"));
        assert_eq!(built.pid, Path::new("/run/nginx.pid"));
        let plain = Built::parse("configure arguments: --prefix=/opt/nginx");
        assert_eq!(plain.conf, Path::new("/opt/nginx/conf/nginx.conf"));
        assert_eq!(plain.pid, Path::new("/opt/nginx/logs/nginx.pid"));
    }

    #[test]
    fn a_pid_file_without_an_end_or_without_a_number_is_refused() {
        assert!(read_pid(Path::new("/dev/zero")).is_err());
        assert!(read_pid(Path::new("/dev/null")).is_err());
        assert!(read_pid(Path::new("/nonexistent")).is_err());
    }
}
