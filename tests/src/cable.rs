//! nginx on one machine and a client on another: two network namespaces and a cable between them. Packets for nginx can
//! be lost here without anybody else's being touched.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent;
use crate::http;
use crate::place::{Place, wait_until};

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A machine's network, as seen by threads that enter it.
#[derive(Debug, Clone)]
pub struct Network(PathBuf);

impl Network {
    /// Makes it the calling thread's, for good, and that of the threads it starts from now on.
    ///
    /// # Errors
    /// When it is gone, or may not be entered.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(File::open(&self.0)?, CloneFlags::CLONE_NEWNET)?)
    }

    /// Does something in it, in a thread of its own.
    ///
    /// # Errors
    /// When it can't be entered, or what is done fails.
    pub fn within<T: Send>(&self, what: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().and_then(|()| what()));
            thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")))
        })
    }
}

/// nginx in a network `server`, a client's network `client`. Dropped, both are gone.
#[derive(Debug)]
pub struct Cable {
    /// The folder of nginx and of the agent.
    pub place: Place,
    /// Where the client reaches nginx.
    pub addr: SocketAddr,
    /// nginx's configuration.
    pub conf: String,
    /// nginx's network.
    pub server: Network,
    /// The client's network.
    pub client: Network,
    name: String,
}

fn ip(args: &str) -> bool {
    let mut ip = Command::new("ip");
    ip.args(args.split(' ')).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

impl Cable {
    /// `None` where namespaces or nftables aren't to be had.
    ///
    /// # Errors
    /// When nginx doesn't start.
    pub fn new() -> anyhow::Result<Option<Self>> {
        let place = Place::new()?;
        let name = format!("asg-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let conf = place.join("net.conf");
        let folder = place.path().display();
        std::fs::write(
            &conf,
            format!(
                "user root; worker_processes 2; pid {folder}/net.pid; error_log {folder}/net.log; events {{}}\n\
                 http {{ access_log off; server {{ listen 80; location / {{ return 200; }} }} }}"
            ),
        )?;
        let network = |end| Network(PathBuf::from(format!("/run/netns/{name}{end}")));
        let cable = Self {
            conf: conf.to_string_lossy().into_owned(),
            place,
            addr: SocketAddr::new(Ipv4Addr::new(10, 77, 0, 1).into(), 80),
            server: network('s'),
            client: network('c'),
            name,
        };
        let (s, c) = (format!("{}s", cable.name), format!("{}c", cable.name));
        let made = ip(&format!("netns add {s}"))
            && ip(&format!("netns add {c}"))
            && ip(&format!("-n {s} link add cable0 type veth peer name cable0 netns {c}"))
            && ip(&format!("-n {s} addr add 10.77.0.1/24 dev cable0"))
            && ip(&format!("-n {c} addr add 10.77.0.2/24 dev cable0"))
            && ip(&format!("-n {s} link set cable0 up"))
            && ip(&format!("-n {c} link set cable0 up"))
            && ip(&format!("-n {s} link set lo up"))
            && cable.in_server(Command::new("nft").args(["list", "tables"])).output()?.status.success();
        if !made {
            return Ok(None);
        }
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&cable.conf).arg("-p").arg(cable.place.path());
        ensure!(cable.in_server(&nginx).status().context("nginx")?.success(), "nginx does not start");
        let up = || cable.get().is_ok_and(|status| status == 200);
        ensure!(wait_until(Duration::from_secs(20), up), "nginx does not answer");
        Ok(Some(cable))
    }

    /// The same command, in nginx's network.
    pub fn in_server(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec"]).arg(format!("{}s", self.name));
        inside.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        inside.current_dir(command.get_current_dir().unwrap_or(self.place.path()));
        if command.get_envs().next().is_some() {
            inside.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        }
        inside
    }

    /// `agent fail` on this nginx.
    pub fn fail(&self, args: &str) -> Command {
        let mut all = vec!["fail", "--json", "--conf", &self.conf];
        all.extend(args.split(' '));
        self.in_server(&agent::command(&self.place, &all))
    }

    /// `agent recover`, where nginx is.
    pub fn recover(&self) -> Command {
        self.in_server(&agent::command(&self.place, &["recover"]))
    }

    /// One request of the client's: its status.
    ///
    /// # Errors
    /// When none comes.
    pub fn get(&self) -> io::Result<u16> {
        self.get_within(Duration::from_millis(400))
    }

    /// The same, in less time.
    ///
    /// # Errors
    /// When none comes.
    pub fn get_within(&self, limit: Duration) -> io::Result<u16> {
        self.client.within(|| http::get(self.addr, "/", limit)).map(|answer| answer.status)
    }

    /// What a client sees: a status, or why there is none.
    pub fn sees(&self) -> String {
        match self.get() {
            Ok(status) => status.to_string(),
            Err(e) => match e.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => "reset".into(),
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "silence".into(),
                _ => e.to_string(),
            },
        }
    }

    /// Nothing of ours is left in the kernel.
    pub fn has_no_rules(&self) -> bool {
        let tables = self.in_server(Command::new("nft").args(["list", "tables"])).output();
        tables.is_ok_and(|o| !String::from_utf8_lossy(&o.stdout).contains("asg_agent"))
    }

    /// The fault's record.
    pub fn record(&self) -> PathBuf {
        self.place.join("state/fault.json")
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for pid in self.place.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        ip(&format!("netns del {}s", self.name));
        ip(&format!("netns del {}c", self.name));
    }
}
