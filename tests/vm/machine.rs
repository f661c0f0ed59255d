//! A machine: QEMU, which emulates the processor (TCG, no KVM), with a disk of its own. It is driven by a serial port on
//! which a shell in the machine answers. Dropped, it is gone.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::encoding;
use crate::image::{Image, run};

/// How long a boot or a command line may take on a machine that shares its processors.
const LONGEST: Duration = Duration::from_secs(900);

/// A machine that runs.
#[derive(Debug)]
pub(crate) struct Vm<'a> {
    image: &'a Image,
    cpus: u32,
    dir: tempfile::TempDir,
    qemu: Child,
    port: BufReader<UnixStream>,
    asked: u32,
}

/// What a command line has said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its stdout and stderr.
    pub(crate) text: String,
}

impl<'a> Vm<'a> {
    /// Boots a new machine from a copy of the image's disk; two more disks, `vdb` and `vdc`, are empty.
    ///
    /// # Errors
    /// When it doesn't boot.
    pub(crate) fn boot(image: &'a Image, cpus: u32) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix(&prefix(std::process::id())).tempdir_in(&image.cache)?;
        let disk = dir.path().join("vda");
        run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(&image.disk).arg(&disk))?;
        for (name, mib) in [("vdb", 16), ("vdc", 256)] {
            fs::File::create(dir.path().join(name))?.set_len(mib << 20)?;
        }
        let (qemu, port) = start(image, dir.path(), cpus)?;
        let mut vm = Self { image, cpus, dir, qemu, port, asked: 0 };
        vm.wait_boot()?;
        Ok(vm)
    }

    /// How many processors it has.
    pub(crate) fn cpus(&self) -> u32 {
        self.cpus
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = self.port.read_line(&mut line);
        if !read.as_ref().is_ok_and(|bytes| *bytes > 0) {
            let console = fs::read_to_string(self.dir.path().join("console")).unwrap_or_default();
            let last: Vec<&str> = console.lines().rev().take(12).collect();
            bail!("the machine says nothing ({read:?}); its console: {}", last.join(" | "));
        }
        Ok(line.trim_end().to_owned())
    }

    /// Waits until the machine has booted again.
    ///
    /// # Errors
    /// When it doesn't.
    pub(crate) fn wait_boot(&mut self) -> anyhow::Result<()> {
        while !self.line()?.starts_with("boot ") {}
        Ok(())
    }

    /// Starts a command line, and waits for nothing: the machine may be gone before it is done.
    ///
    /// # Errors
    /// When the machine is gone already.
    pub(crate) fn send(&mut self, line: &str) -> anyhow::Result<String> {
        self.asked += 1;
        let id = self.asked.to_string();
        writeln!(self.port.get_mut(), "{id} {}", encoding::base64(line.as_bytes()))?;
        Ok(id)
    }

    /// Runs a command line in the machine's shell.
    ///
    /// # Errors
    /// When the machine doesn't answer.
    pub(crate) fn sh(&mut self, line: &str) -> anyhow::Result<Said> {
        let id = self.send(line)?;
        loop {
            let answer = self.line().with_context(|| format!("`{line}`"))?;
            let mut words = answer.split(' ');
            ensure!(words.next() != Some("boot"), "the machine has rebooted during `{line}`");
            if !answer.starts_with(&format!("{id} ")) {
                continue;
            }
            let code = words.next().and_then(|code| code.parse().ok()).context("no exit code")?;
            let text = encoding::from_base64(words.next().unwrap_or_default());
            return Ok(Said { code, text: String::from_utf8_lossy(&text).trim().to_owned() });
        }
    }

    /// Runs a command line that must succeed, and gives what it said.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn says(&mut self, line: &str) -> anyhow::Result<String> {
        let said = self.sh(line)?;
        ensure!(said.code == 0, "`{line}` ended with {}: {}", said.code, said.text);
        Ok(said.text)
    }

    /// Waits until a command line says yes.
    ///
    /// # Errors
    /// When it doesn't within four minutes of the machine's time.
    pub(crate) fn until(&mut self, condition: &str) -> anyhow::Result<()> {
        let clock = "$(cut -d . -f 1 /proc/uptime)";
        self.says(&format!(
            "end=$(({clock} + 240)); until {{ {condition}; }} 2>/dev/null; do [ {clock} -lt $end ] || {{ echo 'not within \
             240 s'; {condition}; exit 9; }}; sleep 0.1; done"
        ))
        .map(drop)
    }

    /// Takes its power away and gives it back: what it hadn't written to its disk is gone.
    ///
    /// # Errors
    /// When it doesn't boot again.
    pub(crate) fn cut_power(&mut self) -> anyhow::Result<()> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        (self.qemu, self.port) = start(self.image, self.dir.path(), self.cpus)?;
        self.wait_boot()
    }
}

impl Drop for Vm<'_> {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn prefix(pid: u32) -> String {
    format!("machine-{pid}-")
}

/// Removes what runs left that were killed; their machines have ended with them.
pub(crate) fn sweep(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("machine-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn start(image: &Image, dir: &Path, cpus: u32) -> anyhow::Result<(Child, BufReader<UnixStream>)> {
    let at = |name: &str| dir.join(name).display().to_string();
    let socket: PathBuf = dir.join("port");
    let _ = fs::remove_file(&socket);
    let mut qemu = image.qemu();
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-M", "q35,accel=tcg", "-m", "640"]);
    // Four levels of page tables are quicker to emulate than five.
    qemu.args(["-cpu", "max,-la57", "-smp", &cpus.to_string()]);
    qemu.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd);
    qemu.args([
        "-append",
        "console=ttyS0 quiet rw mitigations=off random.trust_cpu=on no_timer_check systemd.show_status=0",
    ]);
    for disk in ["vda", "vdb", "vdc"] {
        qemu.args(["-drive", &format!("file={},format=raw,if=virtio", at(disk))]);
    }
    qemu.args(["-serial", &format!("file:{}", at("console"))]);
    qemu.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port"]);
    qemu.args(["-chardev", &format!("socket,id=port,path={},server=on,wait=off", socket.display())]);
    let log = fs::File::create(dir.join("qemu.log"))?;
    let mut child = qemu.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    let end = Instant::now() + LONGEST;
    let port = loop {
        match UnixStream::connect(&socket) {
            Ok(port) => break port,
            Err(_) if child.try_wait()?.is_none() && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => bail!("no QEMU: {e}; {}", fs::read_to_string(dir.join("qemu.log"))?),
        }
    };
    port.set_read_timeout(Some(LONGEST))?;
    Ok((child, BufReader::new(port)))
}
