//! Two targets, each an nginx that names its instance, behind the simulated load balancer's two nodes.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::agent;
use crate::alb::{Alb, Check, Node, Settings, State};
use crate::daemon::Daemon;
use crate::nginx::Nginx;
use crate::place::{self, Place};

/// What the first target calls itself: the one that drills are run on.
pub const OURS: &str = "i-0000000000000000a";
/// What the second does.
pub const OTHER: &str = "i-0000000000000000b";
/// What the third does.
pub const THIRD: &str = "i-0000000000000000c";

/// Longer than anything in a fleet takes.
const LONG: Duration = Duration::from_secs(20);

/// The load balancer and its targets, dropped in this order.
#[derive(Debug)]
pub struct Fleet {
    /// The load balancer: two nodes, on port 80 of addresses of their own.
    pub alb: Alb,
    /// The web servers; drills make the first fail.
    pub nginx: Vec<Nginx>,
    /// The first target's daemon, where it has one.
    pub daemon: Option<Daemon>,
    /// The first target's place; its agent's files are there.
    pub place: Place,
    _others: Vec<Place>,
}

/// A fast health check: every `interval`, two failures out, two successes in.
pub fn check(interval: Duration) -> Check {
    Check {
        path: "/health".into(),
        interval,
        timeout: interval / 2,
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        ..Check::default()
    }
}

impl Fleet {
    /// `targets` (one to three) of them. `/health` is nginx's own answer; with `daemon` that of `agent serve` behind the
    /// first one.
    ///
    /// # Errors
    /// When nginx isn't installed, or something doesn't start.
    pub fn start(check: Check, targets: usize, daemon: bool) -> anyhow::Result<Self> {
        Self::start_with(check, targets, daemon, |_| {})
    }

    /// The same, with a load balancer whose settings `change` has changed.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(
        check: Check,
        targets: usize,
        daemon: bool,
        change: impl FnOnce(&mut Settings),
    ) -> anyhow::Result<Self> {
        let mut places = Vec::new();
        let mut nginx = Vec::new();
        for (name, number) in [OURS, OTHER, THIRD].into_iter().zip(0..targets) {
            let place = Place::new()?;
            let health = match daemon && number == 0 {
                true => format!("proxy_pass http://{}:8080;", place.ip),
                false => "return 200;".to_owned(),
            };
            let server = format!(
                "location = /health {{ access_log off; {health} }} \
                 location / {{ add_header X-Instance-Id {name}; return 200 \"{name}\"; }}"
            );
            nginx.push(Nginx::start(&place, "", &server)?);
            places.push(place);
        }
        let place = places.remove(0);
        // Nothing answers as a metadata service, and nothing waits for one. Of the nginx that run here it is this one's log
        // that counts.
        let ip = place.ip;
        let settings = format!(
            "[identity]\nendpoint = \"http://{ip}:1\"\n\
             [serve]\nlisten = \"{ip}:8080\"\nadmin = \"{ip}:8081\"\n[nginx]\nurl = \"http://{ip}/\"\n\
             conf = \"{}\"\n",
            nginx[0].conf.display()
        );
        agent::configure(&place, &settings)?;
        let daemon = if daemon { Some(Daemon::start(&place, &[])?) } else { None };
        if let Some(daemon) = &daemon {
            daemon.wait_for(200, LONG)?;
        }
        let interval = check.interval;
        let node = |phase| {
            let source = place::address();
            Node { listen: SocketAddr::new(source.into(), 80), source, phase }
        };
        let nodes = vec![node(Duration::ZERO), node(interval.mul_f64(0.4))];
        let mut settings = Settings { nodes, ..Settings::new(check) };
        change(&mut settings);
        let addrs: Vec<SocketAddr> = nginx.iter().map(|one| one.addr).collect();
        let alb = Alb::start(settings, &addrs)?;
        for addr in addrs {
            alb.wait_for(addr, State::Healthy, LONG)?;
        }
        Ok(Self { alb, nginx, daemon, place, _others: places })
    }

    /// The nodes' addresses, as `--resolve` takes them.
    pub fn nodes(&self) -> String {
        let ips: Vec<String> = self.alb.addrs().iter().map(|addr| addr.ip().to_string()).collect();
        ips.join(",")
    }

    /// `agent drill failover` on the first target with `--json`, of both nodes, as quick as can be.
    pub fn failover(&self, args: &str) -> Command {
        let nodes = self.nodes();
        let conf = self.nginx[0].conf.to_string_lossy().into_owned();
        let mut all = vec!["drill", "failover", "--json", "--url", "http://alb.test/"];
        if !args.contains("--resolve") {
            all.extend(["--resolve", &nodes]);
        }
        if !args.contains("--baseline") {
            all.extend(["--baseline", "1s"]);
        }
        if !args.contains("--expect-instance") {
            all.extend(["--expect-instance", OURS]);
        }
        if !args.contains("--observe") && !args.contains("--mode unhealthy") && !args.contains("--mode slow")
        {
            all.extend(["--conf", &conf]);
        }
        all.extend(args.split_ascii_whitespace());
        agent::command(&self.place, &all)
    }
}
