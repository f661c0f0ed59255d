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

/// A real nginx of nobody's, whose configuration is something else by now. Dropped, it ends.
#[derive(Debug)]
pub struct Stranger {
    nginx: Child,
    /// Its folder.
    pub place: Place,
}

/// Puts something in the place of a configuration.
type Swap = fn(&Path) -> std::io::Result<()>;

/// What strangers put where their configuration was.
const SWAPS: [(&str, Swap); 3] =
    [("a FIFO", fifo), ("a bomb of includes", includes_itself), ("a file without an end", has_no_end)];

/// A FIFO, which whoever opens it may wait for.
///
/// # Errors
/// When it can't be made.
pub fn fifo(path: &Path) -> std::io::Result<()> {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o666))?;
    Ok(())
}

/// A hundred files that include each other.
///
/// # Errors
/// When they can't be written.
pub fn includes_itself(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    for n in 0..100 {
        let text = format!("include {}/*.inc; # {}", folder.display(), "x".repeat(1000));
        std::fs::write(folder.join(format!("{n}.inc")), text)?;
    }
    std::fs::write(path, format!("include {}/*.inc;", folder.display()))
}

/// A tebibyte of nothing.
///
/// # Errors
/// When it can't be made.
pub fn has_no_end(path: &Path) -> std::io::Result<()> {
    std::fs::File::create(path)?.set_len(1 << 40)
}

impl Stranger {
    /// One that listens on 8080 of an address of its own.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn new(swap: impl FnOnce(&Path) -> std::io::Result<()>) -> anyhow::Result<Self> {
        let place = Place::new()?;
        let folder = place.join("theirs");
        std::fs::create_dir(&folder)?;
        let (conf, f) = (folder.join("nginx.conf"), folder.display());
        let text = format!(
            "daemon off; pid {f}/pid; error_log {f}/log; events {{}} http {{ access_log off; \
             client_body_temp_path {f}/a; proxy_temp_path {f}/b; fastcgi_temp_path {f}/c; uwsgi_temp_path {f}/d; \
             scgi_temp_path {f}/e; server {{ listen {}:8080; }} }}",
            place.ip
        );
        std::fs::write(&conf, text)?;
        for path in [&folder, &conf] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534))?;
        }
        let mut nginx = Command::new("setpriv");
        nginx.args(["--reuid=65534", "--regid=65534", "--clear-groups", "nginx", "-c"]).arg(&conf);
        nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        let stranger = Self { nginx: nginx.spawn()?, place };
        let at = (stranger.place.ip, 8080);
        ensure!(wait_until(LONG, || std::net::TcpStream::connect(at).is_ok()), "no stranger");
        std::fs::remove_file(&conf)?;
        swap(&conf)?;
        Ok(stranger)
    }

    /// Its master.
    pub fn pid(&self) -> i32 {
        self.nginx.id().cast_signed()
    }

    fn family(&self) -> anyhow::Result<Vec<i32>> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        Ok(std::fs::read_to_string(path)?.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

/// All of them around one nginx.
#[derive(Debug)]
pub struct Decoys {
    impostors: Vec<Impostor>,
    strangers: Vec<(&'static str, Stranger, Vec<i32>)>,
    contained: Option<Contained>,
    other: Nginx,
    family: (i32, Vec<i32>),
    _elsewhere: Place,
}

impl Decoys {
    /// Two impostors that run no nginx, one that does, an innocent; strangers' nginx whose configuration is a FIFO, a
    /// bomb of includes, a file without an end; an nginx with another configuration, and where that can be had one in
    /// a container.
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
        let mut strangers = Vec::new();
        for (what, swap) in SWAPS {
            let stranger = Stranger::new(swap)?;
            ensure!(wait_until(LONG, || stranger.family().is_ok_and(|f| !f.is_empty())), "no workers");
            let family = stranger.family()?;
            strangers.push((what, stranger, family));
        }
        let contained = Contained::start(place);
        Ok(Self { impostors, strangers, contained, other, family, _elsewhere: elsewhere })
    }

    /// Every one of them that isn't an nginx of its own right: what no fault may be asked for.
    pub fn pids(&self) -> Vec<i32> {
        let impostors = self.impostors.iter().map(Impostor::pid);
        let strangers = self.strangers.iter().map(|(_, stranger, _)| stranger.pid());
        impostors.chain(strangers).chain(self.contained.as_ref().map(|c| c.pid)).collect()
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
        for (what, stranger, family) in &self.strangers {
            let now = stranger.family().with_context(|| format!("the stranger with {what} is gone"))?;
            ensure!(now == *family, "the stranger with {what} was touched: {now:?}, not {family:?}");
        }
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
