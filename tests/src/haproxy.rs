//! A real load balancer: HAProxy with two nodes, each on an address of its own, with checks of its own, and a log that
//! knows of every request.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::http;
use crate::place::{self, Place, wait_until};

/// HAProxy's health check.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// `inter`.
    pub interval: Duration,
    /// `timeout check`.
    pub timeout: Duration,
    /// `rise`.
    pub rise: u32,
    /// `fall`.
    pub fall: u32,
    /// `retries` and `option redispatch`: a request that one target refuses goes to another.
    pub redispatch: bool,
}

/// A running HAProxy. Dropped, it is gone.
#[derive(Debug)]
pub struct Haproxy {
    child: Child,
    nodes: Vec<Ipv4Addr>,
    place: Place,
}

impl Haproxy {
    /// Starts it before these targets; `None` where it isn't installed.
    ///
    /// # Errors
    /// When it doesn't start, or doesn't find the targets healthy.
    pub fn start(check: Check, targets: &[SocketAddr]) -> anyhow::Result<Option<Self>> {
        Self::start_with(check, targets, None)
    }

    /// The same, and on port 443 of each node TLS with this certificate and key (a PEM file of both).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(
        check: Check,
        targets: &[SocketAddr],
        pem: Option<&Path>,
    ) -> anyhow::Result<Option<Self>> {
        if !Command::new("haproxy").arg("-v").output().is_ok_and(|o| o.status.success()) {
            return Ok(None);
        }
        let place = Place::new()?;
        let nodes = vec![place::address(), place::address()];
        let conf = place.join("haproxy.cfg");
        fs::write(&conf, configuration(check, &nodes, targets, pem, &place.join("socket")))?;
        let (out, errors) = (File::create(place.join("log"))?, File::create(place.join("errors"))?);
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&conf).current_dir(place.path());
        let child = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn()?;
        let haproxy = Self { child, nodes, place };
        let up = || {
            haproxy.nodes.iter().all(|node| {
                let addr = SocketAddr::new((*node).into(), 80);
                http::get(addr, "/", Duration::from_secs(1)).is_ok_and(|answer| answer.status == 200)
            })
        };
        if !wait_until(Duration::from_secs(10), up) {
            bail!("haproxy: {}", fs::read_to_string(haproxy.place.join("errors")).unwrap_or_default());
        }
        Ok(Some(haproxy))
    }

    /// The nodes' addresses, as `--resolve` takes them.
    pub fn nodes(&self) -> String {
        self.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// From the first to the last request that failed, or whose answer took longer than `deadline`, by its own log, in
    /// milliseconds; by node. A client that has given up is answered all the same, once the target is.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn outages(&self, deadline: Duration) -> anyhow::Result<BTreeMap<String, f64>> {
        let log = fs::read_to_string(self.place.join("log"))?;
        let mut windows: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for line in log.lines().filter_map(|line| line.strip_prefix("request ")) {
            let fields: Vec<&str> = line.split(' ').collect();
            let [at, node, status, took, _] = fields[..] else { continue };
            let took = took.parse::<u64>().unwrap_or(0);
            if status != "200" || u128::from(took) >= deadline.as_millis() {
                let at = millis(at).with_context(|| format!("no time: {at}"))?;
                let window = windows.entry(node.to_owned()).or_insert((at, at));
                *window = (window.0.min(at), window.1.max(at));
            }
        }
        Ok(windows.into_iter().map(|(node, (first, last))| (format!("{node}:80"), last - first)).collect())
    }

    /// Sends no more requests to this target (`set server … state drain`, HAProxy's management guide): what deregistration
    /// is on AWS.
    ///
    /// # Errors
    /// When its socket doesn't answer.
    pub fn drain(&self, target: usize) -> anyhow::Result<()> {
        for number in 0..self.nodes.len() {
            let mut socket = UnixStream::connect(self.place.join("socket"))?;
            writeln!(socket, "set server all{number}/t{target} state drain")?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            anyhow::ensure!(answer.trim().is_empty(), "{answer}");
        }
        Ok(())
    }

    /// When the last request to this target came, by its own log, in milliseconds of the day; by node.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn last_requests(&self, target: usize) -> anyhow::Result<BTreeMap<String, f64>> {
        let log = fs::read_to_string(self.place.join("log"))?;
        let mut last = BTreeMap::new();
        for line in log.lines().filter_map(|line| line.strip_prefix("request ")) {
            let fields: Vec<&str> = line.split(' ').collect();
            let [at, node, _, _, server] = fields[..] else { continue };
            if server == format!("t{target}") {
                let at = millis(at).with_context(|| format!("no time: {at}"))?;
                let latest = last.entry(format!("{node}:80")).or_insert(at);
                *latest = latest.max(at);
            }
        }
        Ok(last)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(
    check: Check,
    nodes: &[Ipv4Addr],
    targets: &[SocketAddr],
    pem: Option<&Path>,
    socket: &Path,
) -> String {
    let mut text = format!(
        "global\n log stdout format raw local0\n maxconn 4000\n stats socket {} level admin\n\
         defaults\n mode http\n log global\n option dontlognull\n option httpchk GET /health\n {}\n\
         timeout connect 5s\n timeout client 30s\n timeout server 30s\n timeout check {}ms\n",
        socket.display(),
        if check.redispatch { "retries 3\n option redispatch 1" } else { "retries 0" },
        check.timeout.as_millis()
    );
    let Check { interval, rise, fall, .. } = check;
    let inter = interval.as_millis();
    for (number, node) in nodes.iter().enumerate() {
        let tls = pem.map_or_else(String::new, |pem| format!(" bind {node}:443 ssl crt {}\n", pem.display()));
        text.push_str(&format!(
            "frontend node{number}\n bind {node}:80\n{tls} log-format \"request %tr %fi %ST %Ta %s\"\n default_backend all{number}\n\
             backend all{number}\n balance roundrobin\n source {node}\n"
        ));
        for (target, addr) in targets.iter().enumerate() {
            text.push_str(&format!(
                " server t{target} {addr} check inter {inter}ms fall {fall} rise {rise}\n"
            ));
        }
    }
    text
}

/// The time of the day in HAProxy's notation, `[22/Nov/2026:19:46:12.773]`. A test that runs over midnight is wrong.
fn millis(at: &str) -> Option<f64> {
    let mut parts = at.trim_matches(['[', ']']).split(':').skip(1);
    let mut next = || parts.next()?.parse::<f64>().ok();
    Some(((next()? * 60.0 + next()?) * 60.0 + next()?) * 1e3)
}
