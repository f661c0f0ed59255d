//! The machine on which the blocks are run.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use world::agent::{self, Running};
use world::alb::{Alb, Check, Node, Settings, State};
use world::background::Background;
use world::http;
use world::imds::Imds;
use world::place::{Place, wait_until};
use world::program;
use world::tmux::Tmux;

/// What says that this process is on the machine already.
const INSIDE: &str = "ASG_AGENT_DOCS_MACHINE";

const ID: &str = "i-0a5cade0000000001";
const OTHER: &str = "i-0a5cade0000000002";
const INSTANCE: Ipv4Addr = Ipv4Addr::new(172, 31, 20, 10);
const SECOND: Ipv4Addr = Ipv4Addr::new(172, 31, 40, 20);
/// Of each node: where clients reach it, and where its probes come from.
const NODES: [(Ipv4Addr, Ipv4Addr); 2] = [
    (Ipv4Addr::new(203, 0, 113, 11), Ipv4Addr::new(172, 31, 5, 17)),
    (Ipv4Addr::new(203, 0, 113, 12), Ipv4Addr::new(172, 31, 33, 80)),
];

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(120);

/// What the bash that is the machine's init does before the test runs on it. Nothing of it is seen outside.
const SETUP: &str = r#"set -e
ip link set lo up
for ip in 169.254.169.254 172.31.20.10 172.31.40.20 203.0.113.11 203.0.113.12 172.31.5.17 172.31.33.80; do
    ip addr add "$ip/32" dev lo
done
for folder in /run /var/log /var/lib; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
mkdir /run/lock /var/log/nginx /var/lib/nginx
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/nginx.conf" /etc/nginx/nginx.conf
shift
set +e
"$@"
exit"#;

/// Everything on it. Its processes end with its init.
#[derive(Debug)]
pub(crate) struct Machine {
    alb: Alb,
    _daemon: Running,
    place: Place,
    path: String,
    imds: Imds,
    _second: Background,
}

/// The machine, inside; outside, the test called `name` is run again on one, and there is nothing left to do.
#[allow(clippy::print_stderr)] // a test has no other voice
pub(crate) fn enter(name: &str) -> Option<Machine> {
    if std::env::var_os(INSIDE).is_some() {
        return Some(Machine::start().unwrap());
    }
    let may = ["unshare --mount --net --pid --uts --fork --mount-proc true", "ip -V", "jq --version"];
    let missing = may.iter().find(|line| !succeeds(line));
    if let Some(missing) = missing {
        eprintln!("skipped: `{missing}` fails here");
        return None;
    }
    let place = Place::new().unwrap();
    let nodes: String = NODES.iter().map(|(node, _)| format!("{node} my-alb.example\n")).collect();
    fs::write(place.join("hosts"), format!("127.0.0.1 localhost\n{nodes}")).unwrap();
    fs::write(place.join("nginx.conf"), nginx_conf()).unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]);
    unshare.args(["bash", "-c", SETUP, "init"]).arg(place.path()).arg(std::env::current_exe().unwrap());
    unshare.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").stdin(Stdio::null());
    let output = unshare.output().expect("unshare(1)");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    None
}

fn succeeds(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    Command::new(words[0]).args(&words[1..]).output().is_ok_and(|output| output.status.success())
}

/// As the package wires it.
fn nginx_conf() -> String {
    format!(
        "user root; worker_processes 2; pid /run/nginx.pid; error_log /var/log/nginx/error.log notice;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n{http}\naccess_log /var/log/nginx/access.log asg_agent;\n\
         server {{ listen 127.0.0.1:80; listen {INSTANCE}:80;\n{health}\n\
         location / {{ add_header X-Instance-Id {ID}; return 200 \"hello from {ID}\\n\"; }}\n}} }}\n",
        http = include_str!("../../packaging/nginx/http.conf"),
        health = include_str!("../../packaging/nginx/health.conf"),
    )
}

/// The other target: all that it does is answer.
async fn answers(listener: std::net::TcpListener) {
    let app = axum::Router::new()
        .fallback(|| async { ([("x-instance-id", OTHER)], format!("hello from {OTHER}\n")) });
    if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
        let _ = axum::serve(listener, app).await;
    }
}

impl Machine {
    fn start() -> anyhow::Result<Self> {
        let place = Place::new()?;
        fs::create_dir(place.join("bin"))?;
        program::write(place.join("bin/sudo"), "#!/bin/sh\nexec \"$@\"\n")?;
        std::os::unix::fs::symlink(agent::binary(), place.join("bin/agent"))?;
        let path = format!("{}:{}", place.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let imds = Imds::start(Ipv4Addr::new(169, 254, 169, 254), ID, "eu-west-1a")?;
        let second = Background::start("second")?;
        let listener = std::net::TcpListener::bind(SocketAddr::new(SECOND.into(), 80))?;
        listener.set_nonblocking(true)?;
        second.spawn(answers(listener));
        anyhow::ensure!(Command::new("nginx").current_dir("/").status()?.success(), "nginx doesn't start");
        let mut serve = shell(&path, &imds, place.path());
        serve.args(["-c", "exec agent serve"]);
        let daemon = Running::spawn(&place, serve)?;
        let health = SocketAddr::new(INSTANCE.into(), 80);
        anyhow::ensure!(wait_until(LONG, || passes(health)), "no /health: {}", daemon.stderr());
        let alb = balancer(&[health, SocketAddr::new(SECOND.into(), 80)])?;
        let machine = Self { alb, _daemon: daemon, place, path, imds, _second: second };
        machine.wait_for_rhythm()?;
        Ok(machine)
    }

    /// Until the daemon has seen enough probes of each node to know their rhythm.
    fn wait_for_rhythm(&self) -> anyhow::Result<()> {
        self.settle();
        let known = || self.run("agent status").contains("every node keeps the rhythm");
        anyhow::ensure!(wait_until(LONG, known), "{}", self.run("agent status"));
        Ok(())
    }

    /// What a command line prints: stdout, then stderr, as chance decides how they mix. A drill begins once the fault
    /// before it is forgotten.
    pub(crate) fn run(&self, command: &str) -> String {
        if command.contains("agent drill") {
            self.settle();
        }
        let mut bash = shell(&self.path, &self.imds, self.place.path());
        let output = bash.arg("-c").arg(command).output().expect("bash");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// `agent watch` on a terminal.
    pub(crate) fn watched(&self) -> Tmux {
        let terminal =
            Tmux::open(&self.place, 100, 26, &[("LC_ALL", "C.UTF-8"), ("PATH", &self.path)]).unwrap();
        terminal.line("agent watch --url http://my-alb.example/ --alarm 50").unwrap();
        terminal.wait_for("HEALTHY").unwrap();
        terminal
    }

    /// The picture that it saves.
    pub(crate) fn picture(&self, view: &Tmux) -> String {
        view.key("w").unwrap();
        view.wait_for("saved").unwrap();
        fs::read_to_string(self.place.join("agent-watch.svg")).unwrap()
    }

    /// Waits until `/health` says 200 and every node finds this target healthy.
    pub(crate) fn settle(&self) {
        let target = SocketAddr::new(INSTANCE.into(), 80);
        assert!(wait_until(LONG, || passes(target)), "no 200");
        self.alb.wait_for(target, State::Healthy, LONG).expect("a healthy target");
    }
}

fn passes(target: SocketAddr) -> bool {
    http::get(target, "/health", Duration::from_secs(1)).is_ok_and(|answer| answer.status == 200)
}

fn shell(path: &str, imds: &Imds, folder: &Path) -> Command {
    let mut bash = Command::new("bash");
    bash.env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8").current_dir(folder).stdin(Stdio::null());
    bash.env("AGENT_IDENTITY_ENDPOINT", imds.endpoint());
    bash
}

fn balancer(targets: &[SocketAddr]) -> anyhow::Result<Alb> {
    let check = Check {
        path: "/health".into(),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        ..Check::default()
    };
    let node = |((listen, source), phase): (&(Ipv4Addr, Ipv4Addr), u64)| Node {
        listen: SocketAddr::new((*listen).into(), 80),
        source: *source,
        phase: Duration::from_secs(phase),
    };
    let nodes = NODES.iter().zip([0, 2]).map(node).collect();
    Alb::start(Settings { nodes, ..Settings::new(check) }, targets)
}
