//! Two targets, each an nginx that names its instance, behind the simulated load balancer's two nodes.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::agent;
use crate::alb::{Alb, Check, Node, Settings, State};
use crate::nginx::Nginx;
use crate::place::{self, Place};

/// What the first target calls itself: the one that drills are run on.
pub const OURS: &str = "i-0000000000000000a";
/// What the second does.
pub const OTHER: &str = "i-0000000000000000b";

/// Longer than anything in a fleet takes.
const LONG: Duration = Duration::from_secs(20);

/// The targets and the load balancer, dropped in this order.
#[derive(Debug)]
pub struct Fleet {
    /// The load balancer: two nodes, on port 80 of addresses of their own.
    pub alb: Alb,
    /// The web servers; drills make the first fail.
    pub nginx: Vec<Nginx>,
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
    /// `targets` (one or two) of them; `/health` is nginx's own answer unless `health` says otherwise for the first.
    ///
    /// # Errors
    /// When nginx isn't installed, or something doesn't start.
    pub fn start(check: Check, targets: usize, health: Option<&str>) -> anyhow::Result<Self> {
        let mut places = Vec::new();
        let mut nginx = Vec::new();
        for (name, number) in [OURS, OTHER].into_iter().zip(0..targets) {
            let place = Place::new()?;
            let own = "location = /health { access_log off; return 200; }";
            let health = health.filter(|_| number == 0).unwrap_or(own);
            let server =
                format!("{health} location / {{ add_header X-Instance-Id {name}; return 200 \"{name}\"; }}");
            nginx.push(Nginx::start(&place, "", &server)?);
            places.push(place);
        }
        let interval = check.interval;
        let node = |phase| {
            let source = place::address();
            Node { listen: SocketAddr::new(source.into(), 80), source, phase }
        };
        let nodes = vec![node(Duration::ZERO), node(interval.mul_f64(0.4))];
        let settings = Settings { nodes, ..Settings::new(check) };
        let addrs: Vec<SocketAddr> = nginx.iter().map(|one| one.addr).collect();
        let alb = Alb::start(settings, &addrs)?;
        for addr in addrs {
            alb.wait_for(addr, State::Healthy, LONG)?;
        }
        let place = places.remove(0);
        // Nothing answers as a metadata service, and nothing waits for one.
        agent::configure(&place, &format!("[identity]\nendpoint = \"http://{}:1\"\n", place.ip))?;
        Ok(Self { alb, nginx, place, _others: places })
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
        let mut all = vec!["drill", "failover", "--json", "--url", "http://alb.test/", "--resolve", &nodes];
        all.extend(["--baseline", "1s"]);
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
