//! Processes that look like the nginx that is meant and aren't. Each tells whether anybody touched it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::nginx::Nginx;
use crate::place::{Place, wait_until};

const LONG: Duration = Duration::from_secs(20);

/// A process with a title of its choice. It blocks every signal that can be blocked, so that one that was sent to it
/// stays to be seen. Dropped, it is killed.
#[derive(Debug)]
pub struct Impostor(Child);

impl Impostor {
    /// Runs `program` with `args`, under the title.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn new(title: &str, program: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new("env");
        command.args(["--block-signal", "bash", "-c", "exec -a \"$0\" \"$@\"", title]).arg(program);
        command.args(args).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let impostor = Self(command.spawn()?);
        let titled = || {
            let cmdline = std::fs::read(format!("/proc/{}/cmdline", impostor.pid())).unwrap_or_default();
            cmdline.split(|b| *b == 0).next() == Some(title.as_bytes())
        };
        ensure!(wait_until(LONG, titled), "no impostor {title}");
        let blocked = impostor.mask("SigBlk").context("no SigBlk")?;
        ensure!(blocked >> 14 & 1 == 1, "it does not block SIGTERM");
        Ok(impostor)
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn line(&self, name: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    fn mask(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(&self.line(name)?, 16).ok()
    }

    /// Whether it runs as ever, without a signal waiting for it and without a tracer.
    pub fn is_untouched(&self) -> bool {
        self.line("State").is_some_and(|state| state.starts_with(['S', 'R']))
            && self.mask("SigPnd") == Some(0)
            && self.mask("ShdPnd") == Some(0)
            && self.line("TracerPid").as_deref() == Some("0")
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The nginx of a container: its own pids, its own network. Dropped, it ends with the process that is its init.
#[derive(Debug)]
pub struct Contained {
    unshare: Child,
    /// Its master, as seen from here.
    pub pid: i32,
}

impl Contained {
    /// `None` where no namespaces may be made.
    pub fn start(place: &Place) -> Option<Self> {
        let conf = place.join("contained.conf");
        let folder = place.path().display();
        let text = format!(
            "user root; daemon off; pid {folder}/c.pid; error_log {folder}/c.log; events {{}}\n\
             http {{ access_log off; server {{ listen 127.0.0.1:80; }} }}"
        );
        std::fs::write(&conf, text).ok()?;
        let mut command = Command::new("unshare");
        command.args(["--pid", "--net", "--fork", "--kill-child", "nginx", "-c"]).arg(&conf);
        let mut unshare = command.current_dir(place.path()).stdin(Stdio::null()).spawn().ok()?;
        let init = || {
            let path = format!("/proc/{0}/task/{0}/children", unshare.id());
            std::fs::read_to_string(path).ok()?.trim().parse::<i32>().ok()
        };
        let titled = |pid: i32| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with(b"nginx: master"))
        };
        let up = wait_until(LONG, || init().is_some_and(titled));
        match init().filter(|_| up) {
            Some(pid) => Some(Self { unshare, pid }),
            None => {
                let _ = unshare.kill();
                let _ = unshare.wait();
                None
            }
        }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// All of them around one nginx.
#[derive(Debug)]
pub struct Decoys {
    impostors: Vec<Impostor>,
    contained: Option<Contained>,
    other: Nginx,
    family: (i32, Vec<i32>),
    _elsewhere: Place,
}

impl Decoys {
    /// Two impostors that run no nginx, one that does, an innocent; an nginx with another configuration, and where
    /// that can be had one in a container.
    ///
    /// # Errors
    /// When one doesn't start.
    pub fn around(place: &Place, nginx: &Nginx) -> anyhow::Result<Self> {
        let title = format!(
            "nginx: master process nginx -c {} -p {}",
            nginx.conf.display(),
            nginx.prefix().display()
        );
        let sleep = Path::new("/bin/sleep").canonicalize()?;
        let copy = place.join("nginx-copy");
        crate::program::copy(&sleep, &copy)?;
        // One process, which leaves its title alone: the same file, the same title, another nginx.
        let elsewhere = Place::new()?;
        let single = elsewhere.join("single.conf");
        let folder = elsewhere.path().display();
        std::fs::write(
            &single,
            format!(
                "master_process off; daemon off; pid {folder}/single.pid; error_log {folder}/single.log;\n\
                 events {{}} http {{ access_log off; server {{ listen {}:81; }} }}",
                elsewhere.ip
            ),
        )?;
        let master = nginx.master()?;
        let program = std::fs::read_link(format!("/proc/{master}/exe"))?;
        let impostors = vec![
            Impostor::new(&title, &sleep, &["infinity"])?,
            Impostor::new(&title, &copy, &["infinity"])?,
            Impostor::new(&title, &program, &["-c", &single.to_string_lossy()])?,
            Impostor::new("innocent", &sleep, &["infinity"])?,
        ];
        let other = Nginx::start(&elsewhere, "", "location / { return 200; }")?;
        ensure!(wait_until(LONG, || other.workers().len() == 2), "no workers");
        let family = (other.master()?, other.workers());
        Ok(Self { impostors, contained: Contained::start(place), other, family, _elsewhere: elsewhere })
    }

    /// Every one of them that isn't an nginx of its own right: what no fault may be asked for.
    pub fn pids(&self) -> Vec<i32> {
        self.impostors.iter().map(Impostor::pid).chain(self.contained.as_ref().map(|c| c.pid)).collect()
    }

    /// The other nginx's master: what only a pid file could make anybody touch.
    pub fn other(&self) -> i32 {
        self.family.0
    }

    /// Fails when any of them was touched.
    ///
    /// # Errors
    /// Names which.
    pub fn are_untouched(&self) -> anyhow::Result<()> {
        for (n, impostor) in self.impostors.iter().enumerate() {
            ensure!(impostor.is_untouched(), "impostor {n} was touched");
        }
        let family = (self.other.master()?, self.other.workers());
        ensure!(family == self.family, "the other nginx was touched: {family:?}, not {:?}", self.family);
        let contained =
            self.contained.as_ref().map(|c| std::fs::read_to_string(format!("/proc/{}/stat", c.pid)));
        if let Some(stat) = contained {
            let stat = stat.context("the contained nginx is gone")?;
            let state = stat.rsplit(") ").next().unwrap_or_default();
            ensure!(state.starts_with(['S', 'R']), "the contained nginx was touched: {state}");
        }
        Ok(())
    }
}
