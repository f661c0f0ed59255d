//! A machine with a real systemd: a container made from Debian packages, booted, rebooted and removed by the test.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent;
use crate::place::wait_until;

const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,nginx-light,curl,iproute2,procps,nftables,sysvinit-utils,rpm";
/// Two containers at once would share the control groups that nspawn makes below ours.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A booted machine with nginx and the agent. Dropped, it is gone.
#[derive(Debug)]
pub struct Machine {
    root: tempfile::TempDir,
    nspawn: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// Boots a new machine. What is downloaded is kept in `cache` for the next one. `prepare` may change its files
    /// before it boots. `None` where the tools for it aren't installed.
    ///
    /// # Errors
    /// When the packages can't be had, or it doesn't boot.
    pub fn boot(
        cache: &Path,
        prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<Self>> {
        let there =
            |program| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
        if !there("mmdebstrap") || !there("systemd-nspawn") || !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let base = base(cache)?;
        let root = tempfile::Builder::new().prefix("asg-machine-").tempdir()?;
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(base.join(".")).arg(root.path());
        ensure!(copy.status()?.success(), "the machine's files cannot be copied");
        fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        fs::copy(agent::binary(), root.path().join("usr/bin/agent"))?;
        prepare(root.path())?;
        let mut machine = Self { root, nspawn: None, _turn: turn };
        machine.start()?;
        Ok(Some(machine))
    }

    /// Its root folder, as seen from here.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new("systemd-nspawn");
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").arg("--quiet").arg("-D").arg(self.root.path());
        command.arg(format!("--machine=asg-{}", std::process::id()));
        command.args(["--register=no", "--keep-unit", "--boot", "--private-network", "--console=passive"]);
        command.args(["--kill-signal=SIGRTMIN+3"]).stdin(Stdio::null());
        let log = fs::File::create(self.root.path().with_extension("log"))?;
        self.nspawn = Some(command.stdout(log.try_clone()?).stderr(log).spawn()?);
        let up = || {
            let state = self.sh("systemctl is-system-running");
            state.is_ok_and(|o| matches!(String::from_utf8_lossy(&o.stdout).trim(), "running" | "degraded"))
        };
        if !wait_until(Duration::from_secs(60), up) {
            let log = fs::read_to_string(self.root.path().with_extension("log")).unwrap_or_default();
            bail!("the machine does not boot: {log}");
        }
        ensure!(self.sh("ip link set lo up")?.status.success(), "no loopback");
        Ok(())
    }

    fn init(&self) -> Option<i32> {
        let nspawn = self.nspawn.as_ref()?.id();
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        children.split_ascii_whitespace().next()?.parse().ok()
    }

    /// A command line of the machine's shell, run in it.
    ///
    /// # Errors
    /// When the machine isn't there.
    pub fn sh(&self, line: &str) -> anyhow::Result<Output> {
        Ok(self.shell(line)?.output()?)
    }

    /// A command line of the machine's shell, to be started.
    ///
    /// # Errors
    /// When the machine isn't there.
    pub fn shell(&self, line: &str) -> anyhow::Result<Command> {
        let init = self.init().context("the machine has no init")?;
        let mut command = Command::new("nsenter");
        command.args(["-t", &init.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]);
        command.args(["sh", "-c", line]).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(command)
    }

    /// The stdout of a command line, without the blanks around it.
    ///
    /// # Errors
    /// When the machine isn't there.
    pub fn says(&self, line: &str) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.sh(line)?.stdout).trim().to_owned())
    }

    /// Reboots it, as `reboot` in it does.
    ///
    /// # Errors
    /// When it doesn't come up again.
    pub fn reboot(&mut self) -> anyhow::Result<()> {
        self.goes_down("systemctl --no-block reboot")?;
        self.start()
    }

    /// Shuts it down, as `poweroff` in it does: every unit is stopped in its order. Its files stay.
    ///
    /// # Errors
    /// When it doesn't go down.
    pub fn power_off(&mut self) -> anyhow::Result<()> {
        self.goes_down("systemctl --no-block poweroff")
    }

    /// Boots it again after [`power_off`](Self::power_off).
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        self.start()
    }

    fn goes_down(&mut self, by: &str) -> anyhow::Result<()> {
        let _ = self.sh(by);
        let mut nspawn = self.nspawn.take().context("it isn't running")?;
        if !wait_until(Duration::from_secs(60), || !matches!(nspawn.try_wait(), Ok(None))) {
            self.nspawn = Some(nspawn);
            bail!("the machine does not go down");
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let init = self.init();
        if let Some(mut nspawn) = self.nspawn.take() {
            // nspawn that is killed leaves its container running; the container ends with its init.
            if let Some(init) = init {
                let _ = kill(Pid::from_raw(init), Signal::SIGKILL);
            }
            if !wait_until(Duration::from_secs(10), || !matches!(nspawn.try_wait(), Ok(None))) {
                let _ = nspawn.kill();
                let _ = nspawn.wait();
            }
        }
        let _ = fs::remove_file(self.root.path().with_extension("log"));
        // nspawn makes these below our own control group and leaves them; they are removed where they are empty.
        for group in ["payload", "supervisor"] {
            for ours in own_groups() {
                remove_groups(&ours.join(group));
            }
        }
    }
}

/// Our own control group where systemd looks for it: in the one hierarchy, beside the old ones, or in its own among
/// the old ones (cgroups(7)).
fn own_groups() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = |controllers: &str| {
        let of = |line: &str| {
            line.split_once(':')?.1.strip_prefix(controllers)?.strip_prefix(":/").map(str::to_owned)
        };
        text.lines().find_map(of)
    };
    let below = |hierarchy: &str, path: Option<String>| path.map(|path| Path::new(hierarchy).join(path));
    let all = [
        below("/sys/fs/cgroup", path("")),
        below("/sys/fs/cgroup/unified", path("")),
        below("/sys/fs/cgroup/systemd", path("name=systemd")),
    ];
    all.into_iter().flatten().collect()
}

/// Removes a control group and those below it; one that has processes stays.
fn remove_groups(group: &Path) {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    below.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())).for_each(|e| remove_groups(&e.path()));
    let _ = fs::remove_dir(group);
}

/// The root that machines are copied from, made when missing or when other packages are wanted.
fn base(cache: &Path) -> anyhow::Result<PathBuf> {
    let mut wanted = DefaultHasher::new();
    PACKAGES.hash(&mut wanted);
    let base = cache.join(format!("bookworm-{:x}", wanted.finish()));
    if !base.join("usr/bin/systemctl").exists() {
        fs::create_dir_all(cache)?;
        let made = cache.join("bookworm.new");
        let _ = fs::remove_dir_all(&made);
        let mut command = Command::new("mmdebstrap");
        command
            .args(["--quiet", "--variant=minbase", &format!("--include={PACKAGES}"), "bookworm"])
            .arg(&made);
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "mmdebstrap: {}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&made, &base)?;
    }
    Ok(base)
}
