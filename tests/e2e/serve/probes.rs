//! The daemon's eye on the probes: in nginx's log, and at its own listener.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use world::agent::configure;
use world::daemon::Daemon;
use world::http;
use world::nginx::Nginx;
use world::place::{Place, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn probe(addr: std::net::SocketAddr, from: Ipv4Addr) {
    let request = format!(
        "GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n"
    );
    http::exchange(addr, Some(from), request.as_bytes(), SOON).unwrap();
}

/// The node as `/status` shows it.
fn node(daemon: &Daemon, ip: Ipv4Addr) -> Value {
    let status = daemon.status().unwrap();
    let nodes = status["probes"]["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["node"] == ip.to_string()).cloned().unwrap_or_default()
}

#[test]
fn probes_at_the_own_listener_are_counted_by_node() {
    let place = Place::new().unwrap();
    configure(&place, &format!("[probes]\nlog = {:?}\n", place.join("none.log"))).unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let (one, other) = (Ipv4Addr::new(127, 200, 0, 1), Ipv4Addr::new(127, 200, 0, 2));
    (0..3).for_each(|_| probe(daemon.public, one));
    probe(daemon.public, other);
    probe(daemon.public, Ipv4Addr::LOCALHOST); // as nginx hands one on
    assert!(wait_until(SOON, || daemon.status().unwrap()["probes"]["direct_probes"] == 4));
    assert!(wait_until(SOON, || node(&daemon, one)["probes"] == 3 && node(&daemon, other)["probes"] == 1));
    assert!(node(&daemon, Ipv4Addr::LOCALHOST).is_null());
    assert_eq!(daemon.metric("asg_agent_probes_total{node=\"127.200.0.1\"}").unwrap(), 3.0);
}

#[test]
fn probes_in_the_log_are_counted_once_though_nginx_hands_them_on() {
    let place = Place::new().unwrap();
    let server =
        format!("location /health {{ proxy_pass http://{}:8080; }} location / {{ return 200; }}", place.ip);
    let nginx = Nginx::start(&place, "", &server).unwrap();
    configure(&place, &format!("[probes]\nlog = {:?}\n", nginx.access_log())).unwrap();
    let daemon = Daemon::start(&place, &[&format!("--nginx-url=http://{}/", nginx.addr)]).unwrap();
    let from = Ipv4Addr::new(127, 200, 0, 3);
    (0..2).for_each(|_| probe(nginx.addr, from));
    assert!(wait_until(SOON, || node(&daemon, from)["probes"] == 2));
    let probes = daemon.status().unwrap()["probes"].clone();
    assert_eq!((&probes["probes"], &probes["direct_probes"]), (&2.into(), &0.into()), "{probes}");
}
