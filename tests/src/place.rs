//! A folder and loopback addresses that nobody else uses, and the end of every process that was started there.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How the folder's name begins.
const PREFIX: &str = "asg-agent-";

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A scratch folder with a loopback address of its own. Dropped, it kills what still holds a file open in it.
#[derive(Debug)]
pub struct Place {
    dir: tempfile::TempDir,
    /// The place's own address out of 127.0.0.0/8: ports on it never collide with another place's.
    pub ip: Ipv4Addr,
}

impl Place {
    /// # Errors
    /// When no temporary folder can be made.
    pub fn new() -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        // nginx's workers may run as another user.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Self { dir, ip: address() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The processes (not ours) that hold a file open below the folder, or run in it.
    pub fn processes(&self) -> Vec<i32> {
        let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
        all.flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| pid.cast_unsigned() != std::process::id() && self.is_used_by(*pid))
            .collect()
    }

    fn is_used_by(&self, pid: i32) -> bool {
        let under =
            |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(self.dir.path()));
        let proc = PathBuf::from(format!("/proc/{pid}"));
        // An agent of another test may follow the log of our nginx, as it finds nginx by its processes.
        let cwd = fs::read_link(proc.join("cwd")).unwrap_or_default();
        let place = cwd.components().any(|part| part.as_os_str().to_string_lossy().starts_with(PREFIX));
        if place && !cwd.starts_with(self.dir.path()) {
            return false;
        }
        under(proc.join("cwd"))
            || fs::read_dir(proc.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| under(fd.path())))
    }
}

/// A loopback address that nobody else has been given: two bytes by the process, the last by a counter. Where that has
/// gone round, which the whole suite makes it do, the second byte moves on.
pub fn address() -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let [round, last] = [n / 254, n % 254].map(|part| u8::try_from(part).unwrap_or(u8::MAX));
    Ipv4Addr::new(127, 1 + (high % 250).wrapping_add(round.wrapping_mul(83)) % 250, low, 1 + last)
}

impl Drop for Place {
    fn drop(&mut self) {
        for _ in 0..3 {
            for pid in self.processes() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            if wait_until(Duration::from_secs(2), || self.processes().is_empty()) {
                return;
            }
        }
    }
}

/// Waits until a connection to an address that was closed is refused: a child that another thread has just forked
/// holds the listening socket until it executes its program, and what connects until then is reset.
pub fn is_refused(addr: SocketAddr) -> bool {
    wait_until(Duration::from_secs(10), || {
        TcpStream::connect(addr).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// Asks again every few milliseconds until `yes` or until `limit` has passed; says whether it became true. For what
/// no event tells (another program's port, its files).
pub fn wait_until(limit: Duration, mut yes: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if yes() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
