//! What the story needs: two targets, each an nginx with its agent and metadata, and the load balancer in front. All
//! of it ends with the stage, whatever state it is in.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::interrupt::Interrupt;
use crate::agent::{self, Running};
use crate::alb::{Alb, Check, Node, Settings};
use crate::http;
use crate::imds::Imds;
use crate::nginx::Nginx;
use crate::place::Place;

/// Where everything listens: one port for the nginx of both targets and the nodes, the next two for the agents.
const TARGETS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 11), Ipv4Addr::new(127, 0, 0, 12)];
const IDS: [&str; 2] = ["i-0a5cade0000000001", "i-0a5cade0000000002"];
const ZONES: [&str; 2] = ["eu-west-1a", "eu-west-1b"];

/// What the package brings for nginx: times in milliseconds, so that short intervals can be told apart.
const LOG_FORMAT: &str = include_str!("../../../packaging/nginx/log_format.conf");

/// How long the end of a fault or of a daemon may take before it is ended by force.
const PATIENCE: Duration = Duration::from_secs(15);

/// Both targets and the load balancer. Its parts are dropped in this order.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) alb: Alb,
    pub(super) targets: Vec<Target>,
}

/// One simulated instance.
#[derive(Debug)]
pub(super) struct Target {
    /// Its instance id.
    pub(super) id: &'static str,
    /// Its web server.
    pub(super) nginx: Nginx,
    /// Where its agent answers `/health` itself.
    pub(super) health: SocketAddr,
    /// Where its agent tells everything.
    pub(super) admin: SocketAddr,
    serve: Option<Running>,
    _imds: Imds,
    // Last: it ends what is left.
    place: Place,
}

impl Stage {
    /// Builds everything; probes every `interval`.
    pub(super) fn build(interval: Duration, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut targets = Vec::new();
        for number in 0..TARGETS.len() {
            interrupt.check()?;
            targets.push(Target::start(number, port, interrupt)?);
        }
        interrupt.check()?;
        let check = Check {
            path: "/health".into(),
            interval,
            timeout: interval.mul_f64(0.4),
            healthy_threshold: 2,
            unhealthy_threshold: 2,
            ..Check::default()
        };
        let node = |(ip, phase): (Ipv4Addr, Duration)| Node {
            listen: SocketAddr::new(ip.into(), port),
            source: ip,
            phase,
        };
        let nodes = NODES.into_iter().zip([Duration::ZERO, interval.mul_f64(0.4)]).map(node).collect();
        let settings = Settings { nodes, ..Settings::new(check) };
        let addrs: Vec<SocketAddr> = targets.iter().map(|target| target.nginx.addr).collect();
        Ok(Self { alb: Alb::start(settings, &addrs)?, targets })
    }
}

impl Target {
    fn start(number: usize, port: u16, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let (ip, id) = (TARGETS[number], IDS[number]);
        let place = Place::new()?;
        let imds = Imds::start(ip, id, ZONES[number])?;
        let log = place.join("nginx/logs/probes.log");
        agent::configure(&place, &settings(&imds, &log))?;
        let [web, health, admin] = [0, 1, 2].map(|offset| SocketAddr::new(ip.into(), port + offset));
        let http = format!("{LOG_FORMAT}\nupstream agent {{ server {health}; keepalive 4; }}");
        let server = format!(
            "access_log {} probes;\n\
             location = /health {{ proxy_pass http://agent; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_set_header Host $http_host; }}\n\
             location / {{ add_header X-Instance-Id {id}; return 200 \"hello from {id}\\n\"; }}",
            log.display()
        );
        let nginx = Nginx::start_at(&place, web, &http, &server)?;
        let (listen, admin_flag, url) = (health.to_string(), admin.to_string(), format!("http://{web}/"));
        let args = ["serve", "--listen", &listen, "--admin", &admin_flag, "--nginx-url", &url];
        let mut command = agent::command(&place, &args);
        command.process_group(0);
        let serve = Some(Running::spawn(&place, command)?);
        let mut target = Self { id, nginx, health, admin, serve, _imds: imds, place };
        target.wait_for_pass(interrupt)?;
        Ok(target)
    }

    fn wait_for_pass(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let start = std::time::Instant::now();
        while !http::get(self.nginx.addr, "/health", Duration::from_secs(1)).is_ok_and(|a| a.status == 200) {
            interrupt.check()?;
            let serve = self.serve.as_mut().context("agent serve does not run")?;
            let ended = serve.wait(Duration::from_millis(20)).ok();
            if let Some(status) = ended {
                bail!("agent serve: {status}: {}", serve.stderr().trim());
            }
            if start.elapsed() > PATIENCE {
                bail!("{} does not answer /health with 200: {}", self.nginx.addr, serve.stderr().trim());
            }
        }
        Ok(())
    }

    /// Starts a verb on this instance, in a process group of its own: Ctrl-C reaches the story, which then ends the
    /// verb and looks at what it left.
    pub(super) fn agent(&self, args: &[&str]) -> anyhow::Result<Running> {
        let mut command = agent::command(&self.place, args);
        command.process_group(0);
        Running::spawn(&self.place, command)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Nothing to recover is the rule; after an interruption there may be.
        if let Ok(mut recover) = self.agent(&["recover"]) {
            let _ = recover.wait(PATIENCE);
        }
        if let Some(serve) = self.serve.take() {
            let _ = serve.end(Signal::SIGTERM);
        }
        let _ = self.nginx.stop();
    }
}

/// The agent's settings: where its metadata and its nginx's log are. Nobody is to wait for the drain time when the
/// curtain falls.
fn settings(imds: &Imds, log: &Path) -> String {
    let lines = LOG_FORMAT.lines().filter(|line| !line.starts_with('#'));
    let format: String = lines.flat_map(|line| line.split('\'').skip(1).step_by(2)).collect();
    format!(
        "[identity]\nendpoint = \"{}\"\n[probes]\nlog = \"{}\"\nformat = '{format}'\n[serve]\ndrain = \"0s\"\n",
        imds.endpoint(),
        log.display()
    )
}

/// A port that is free, with the two after it, on all addresses of the stage.
fn free_port() -> anyhow::Result<u16> {
    let free = |port: &u16| {
        let addrs = TARGETS.iter().chain(&NODES).flat_map(|ip| (0..3).map(move |n| (*ip, port + n)));
        addrs.map(TcpListener::bind).collect::<Result<Vec<_>, _>>().is_ok()
    };
    (8000..=9900).step_by(100).find(free).context("no free port between 8000 and 9900 on 127.0.0.1")
}
