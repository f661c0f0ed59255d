//! `drop`, `reject` and `error`, as a client on another machine sees them: two network namespaces and a cable.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use world::agent::{self, Running};
use world::http;
use world::place::{Place, wait_until};

use super::{LONG, finish, names};

static NEXT: AtomicU8 = AtomicU8::new(0);

/// nginx in a namespace `server`, a client in a namespace `client`. Dropped, both are gone.
pub(crate) struct Cable {
    pub(crate) place: Place,
    server: String,
    client: String,
    pub(crate) addr: SocketAddr,
    pub(crate) conf: String,
}

fn ip(args: &str) -> bool {
    Command::new("ip")
        .args(args.split(' '))
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

impl Cable {
    /// `None`, with a message, where namespaces or nftables aren't to be had.
    pub(crate) fn new() -> Option<Self> {
        let place = Place::new().unwrap();
        let name = format!("asg-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (server, client) = (format!("{name}s"), format!("{name}c"));
        let conf = place.join("net.conf");
        let folder = place.path().display();
        std::fs::write(
            &conf,
            format!(
                "user root; worker_processes 2; pid {folder}/net.pid; error_log {folder}/net.log; events {{}}\n\
                 http {{ access_log off; server {{ listen 80; location / {{ add_header X-Instance-Id i-cable; return 200; }} }} }}"
            ),
        )
        .unwrap();
        let cable = Self {
            conf: conf.to_str().unwrap().to_owned(),
            place,
            addr: SocketAddr::new(Ipv4Addr::new(10, 77, 0, 1).into(), 80),
            server,
            client,
        };
        let (s, c) = (&cable.server, &cable.client);
        let made = ip(&format!("netns add {s}"))
            && ip(&format!("netns add {c}"))
            && ip(&format!("-n {s} link add cable0 type veth peer name cable0 netns {c}"))
            && ip(&format!("-n {s} addr add 10.77.0.1/24 dev cable0"))
            && ip(&format!("-n {c} addr add 10.77.0.2/24 dev cable0"))
            && ip(&format!("-n {s} link set cable0 up"))
            && ip(&format!("-n {c} link set cable0 up"))
            && ip(&format!("-n {s} link set lo up"))
            && cable
                .in_server(Command::new("nft").args(["list", "tables"]))
                .status()
                .is_ok_and(|s| s.success());
        if !made {
            super::skipped("ip(8), nft(8) or the permission to make network namespaces is missing");
            return None;
        }
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&cable.conf).arg("-p").arg(cable.place.path());
        assert!(cable.in_server(&nginx).status().unwrap().success());
        assert!(wait_until(LONG, || cable.get().is_ok_and(|status| status == 200)));
        Some(cable)
    }

    /// The same command, in nginx's namespace.
    pub(crate) fn in_server(&self, command: &Command) -> Command {
        self.inside(&self.server, command)
    }

    /// And in the client's.
    pub(crate) fn in_client(&self, command: &Command) -> Command {
        self.inside(&self.client, command)
    }

    fn inside(&self, namespace: &str, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", namespace]).arg(command.get_program()).args(command.get_args());
        inside.current_dir(command.get_current_dir().unwrap_or(self.place.path()));
        if command.get_envs().next().is_some() {
            inside.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        }
        inside
    }

    fn fail(&self, args: &str) -> Command {
        let mut all = vec!["fail", "--json", "--conf", &self.conf];
        all.extend(args.split(' '));
        self.in_server(&agent::command(&self.place, &all))
    }

    /// One request from the client's namespace: its status.
    fn get(&self) -> io::Result<u16> {
        let (addr, namespace) = (self.addr, format!("/run/netns/{}", self.client));
        let ask = move || {
            setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
            http::get(addr, "/", Duration::from_millis(400)).map(|answer| answer.status)
        };
        // In a thread of its own: a namespace is the thread's.
        std::thread::spawn(ask).join().unwrap()
    }

    /// What a client sees: a status, or why there is none.
    fn sees(&self) -> String {
        match self.get() {
            Ok(status) => status.to_string(),
            Err(e) => match e.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => "reset".into(),
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "silence".into(),
                _ => e.to_string(),
            },
        }
    }

    fn sees_soon(&self, what: &str) {
        assert!(wait_until(LONG, || self.sees() == what), "{what}, but: {}", self.sees());
    }

    /// Nothing of ours is left in the kernel.
    fn has_no_rules(&self) -> bool {
        let output = self.in_server(Command::new("nft").args(["list", "tables"])).output().unwrap();
        !String::from_utf8_lossy(&output.stdout).contains("asg_agent")
    }

    fn record(&self) -> std::path::PathBuf {
        self.place.join("state/fault.json")
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for pid in self.place.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        ip(&format!("netns del {}", self.server));
        ip(&format!("netns del {}", self.client));
    }
}

#[test]
fn each_mode_looks_like_itself_from_another_machine_and_ends() {
    for (mode, seen) in
        [("drop", "silence"), ("reject", "reset"), ("error", "503"), ("error --status 418", "418")]
    {
        let Some(cable) = Cable::new() else { return };
        let mut running =
            Running::spawn(&cable.place, cable.fail(&format!("--mode {mode} --secs 5"))).unwrap();
        running.event("effective", LONG).unwrap();
        assert_eq!(cable.sees(), seen, "{mode}");
        let result = running.event("result", LONG).unwrap();
        assert_eq!((&result["effective"], &result["recovered"]), (&true.into(), &true.into()), "{mode}");
        assert_eq!(running.wait(LONG).unwrap().code(), Some(0));
        assert_eq!(cable.sees(), "200", "{mode}");
        assert!(cable.has_no_rules() && !cable.record().exists(), "{mode}");
    }
}

#[test]
fn other_ports_and_loopback_are_left_alone() {
    let Some(cable) = Cable::new() else { return };
    let ssh = {
        let namespace = format!("/run/netns/{}", cable.server);
        let bind = move || {
            setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind("0.0.0.0:22").unwrap()
        };
        std::thread::spawn(bind).join().unwrap()
    };
    let running = Running::spawn(&cable.place, cable.fail("--mode drop --secs 60")).unwrap();
    running.event("effective", LONG).unwrap();
    let namespace = format!("/run/netns/{}", cable.client);
    let connect = move || {
        setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        http::connect("10.77.0.1:22".parse().unwrap(), None, LONG)
    };
    assert!(std::thread::spawn(connect).join().unwrap().is_ok(), "ssh gets through");
    drop(ssh);
    let namespace = format!("/run/netns/{}", cable.server);
    let local = move || {
        setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        http::get("127.0.0.1:80".parse().unwrap(), "/", LONG).map(|a| a.status)
    };
    assert_eq!(std::thread::spawn(local).join().unwrap().unwrap(), 200);
    assert_eq!(running.end(Signal::SIGINT).unwrap().code(), Some(130));
    cable.sees_soon("200");
}

#[test]
fn an_open_connection_is_reset_so_that_it_hides_nothing() {
    use std::io::{Read, Write};
    let Some(cable) = Cable::new() else { return };
    let namespace = format!("/run/netns/{}", cable.client);
    let open = move || {
        setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        http::connect("10.77.0.1:80".parse().unwrap(), None, LONG).unwrap()
    };
    let mut stream = std::thread::spawn(open).join().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut ask = move || {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        stream.read(&mut [0; 4096])
    };
    assert!(ask().unwrap() > 0);
    let running = Running::spawn(&cable.place, cable.fail("--mode error --secs 60")).unwrap();
    running.event("effective", LONG).unwrap();
    assert_eq!(ask().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(cable.sees(), "503");
    running.end(Signal::SIGTERM).unwrap();
    cable.sees_soon("200");
}

#[test]
fn the_kernel_alone_ends_what_all_agents_left_when_they_were_killed() {
    for mode in ["drop", "reject", "error"] {
        std::thread::scope(|scope| {
            for step in ["recorded", "leased", "inject.opened", "inject.signalled", "injected", "effective"] {
                scope.spawn(move || killed_with_its_keeper(mode, step));
            }
        });
    }
}

fn killed_with_its_keeper(mode: &str, step: &str) {
    let Some(cable) = Cable::new() else { return };
    let mut command = cable.fail(&format!("--mode {mode} --secs 2"));
    command.env("AGENT_FAILPOINT", step);
    Running::spawn(&cable.place, command).unwrap().wait(LONG).unwrap();
    let agents = || {
        let runs_agent = |pid: &i32| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == agent::binary())
        };
        cable.place.processes().into_iter().filter(runs_agent).collect::<Vec<_>>()
    };
    for pid in agents() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    assert!(wait_until(LONG, || agents().is_empty()), "{mode} {step}");
    assert!(cable.record().exists(), "{mode} {step}");
    cable.sees_soon("200");
    let recover = agent::command(&cable.place, &["recover"]);
    assert!(cable.in_server(&recover).status().unwrap().success());
    assert!(cable.has_no_rules() && !cable.record().exists(), "{mode} {step}");
}

#[test]
fn an_nginx_on_loopback_only_has_no_packets_to_lose() {
    let world = super::World::new();
    let (code, _, stderr) = finish(world.fail("--mode drop --secs 2"));
    assert!(code == 3 && stderr.contains("loopback only"), "{code} {stderr}");
    world.is_untouched(world.nginx.master().unwrap());
}

#[test]
fn the_plan_names_the_ports() {
    let Some(cable) = Cable::new() else { return };
    let (code, events, _) = finish(cable.fail("--mode reject --dry-run"));
    assert_eq!((code, names(&events)), (0, vec!["plan"]));
    assert_eq!(events[0]["ports"], Value::from(vec!["0.0.0.0:80"]));
    assert!(cable.has_no_rules());
}
