//! What the daemon knows of probes, and what becomes of it when nginx's configuration changes.

use std::net::Ipv4Addr;

use world::agent::configure;
use world::daemon::Daemon;
use world::http;
use world::nginx::Nginx;
use world::place::wait_until;

use super::*;

/// One probe from this address.
fn ask(addr: std::net::SocketAddr, from: Ipv4Addr) {
    let request = format!(
        "GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n"
    );
    http::exchange(addr, Some(from), request.as_bytes(), LIMIT).unwrap();
}

fn probes(daemon: &Daemon) -> Value {
    daemon.status().unwrap()["probes"].clone()
}

/// Changes nginx's configuration and reloads it; returns once every worker has the new one.
fn reload(nginx: &Nginx, old: &str, new: &str) {
    let text = fs::read_to_string(&nginx.conf).unwrap();
    assert!(text.contains(old), "{old}: {text}");
    fs::write(&nginx.conf, text.replace(old, new)).unwrap();
    let before = nginx.workers();
    let reloaded = nginx.nginx(&["-s", "reload"]).unwrap();
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert!(wait_until(LIMIT, || {
        let now = nginx.workers();
        !now.is_empty() && !now.iter().any(|pid| before.contains(pid))
    }));
}

#[test]
fn another_log_and_another_format_are_followed_once_nginx_is_reloaded() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
    configure(&place, &format!("[nginx]\nconf = {:?}\n", nginx.conf)).unwrap();
    let daemon = Daemon::start(&place, &[&format!("--nginx-url=http://{}/", nginx.addr)]).unwrap();
    let from = Ipv4Addr::new(127, 200, 0, 7);
    let seen = |count: u64| wait_until(LIMIT, || probes(&daemon)["probes"] == count);
    ask(nginx.addr, from);
    assert!(seen(1), "{}", probes(&daemon));
    let (log, other) = (nginx.access_log(), nginx.prefix().join("logs/other.log"));
    reload(
        &nginx,
        &format!("access_log {};", log.display()),
        &format!(
            "log_format one '$remote_addr [$time_local] \"$request\" \"$http_user_agent\"'; access_log {} one;",
            other.display()
        ),
    );
    ask(nginx.addr, from);
    assert!(seen(2), "in another place: {}", probes(&daemon));
    let logs = probes(&daemon)["logs"].clone();
    assert!(logs.as_array().unwrap().iter().any(|log| *log == other.to_str().unwrap()), "{logs}");
    reload(&nginx, "[$time_local] \"$request\"", "$status $msec \"$request\"");
    ask(nginx.addr, from);
    assert!(seen(3), "in another format: {}", probes(&daemon));
    let last = probes(&daemon);
    assert_eq!(
        (&last["unparsed"], &last["gaps"], &last["nodes"][0]["probes"]),
        (&0.into(), &0.into(), &3.into())
    );
    assert_eq!(last["nodes"][0]["codes"]["200"], 2, "the format between has no status: {last}");
}

#[test]
fn where_the_health_check_asks_the_agent_itself_probes_tells_what_the_daemon_knows() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
    configure(&place, &format!("[nginx]\nconf = {:?}\n", nginx.conf)).unwrap();
    let daemon = Daemon::start(&place, &[&format!("--nginx-url=http://{}/", nginx.addr)]).unwrap();
    let once = || {
        let admin = daemon.admin.to_string();
        let mut command = world::agent::command(&place, &["probes", "--once", "--json"]);
        let output = command.env("AGENT_SERVE_ADMIN", admin).output().unwrap();
        events(&output.stdout).last().cloned().unwrap()
    };
    assert!(nginx.answers(), "a request that is no probe is logged");
    assert_eq!(once()["by_daemon"], false, "{}", once());
    let (one, two) = (Ipv4Addr::new(127, 200, 0, 8), Ipv4Addr::new(127, 200, 0, 9));
    ask(daemon.public, one);
    ask(daemon.public, two);
    ask(daemon.public, one);
    let known = || {
        let nodes = probes(&daemon)["nodes"].clone();
        nodes.as_array().unwrap().iter().filter_map(|node| node["probes"].as_u64()).sum::<u64>()
    };
    assert!(wait_until(LIMIT, || known() == 3), "{}", probes(&daemon));
    let told = once();
    assert_eq!((&told["by_daemon"], &told["probes"]), (&true.into(), &3.into()), "{told}");
    let nodes = told["nodes"].as_array().unwrap();
    assert!(nodes.len() == 2 && nodes.iter().all(|node| node["direct"] == true), "{told}");
    assert_ne!(told["reason"], "not_logged", "{told}");
    // What is logged is judged by the log.
    ask(nginx.addr, one);
    assert!(wait_until(LIMIT, || once()["by_daemon"] == false), "{}", once());
}

#[test]
fn what_was_missing_half_an_hour_ago_is_told_and_no_longer_counts() {
    let place = Place::new().unwrap();
    let now = jiff::Timestamp::now().as_second();
    let at = |n: i64| now - 2400 + n * 5;
    let missing = 120; // half an hour ago
    let lines = (0..=480).filter(|n| *n != missing).map(|n| probe("10.0.0.1", at(n), "/health"));
    let log = write_log(&place, lines);
    configure(&place, &format!("[probes]\nlog = {log:?}\n")).unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    assert!(wait_until(LIMIT, || probes(&daemon)["probes"] == 480), "{}", probes(&daemon));
    assert!(wait_until(LIMIT, || !probes(&daemon)["nodes"][0].is_null()), "{}", probes(&daemon));
    let node = probes(&daemon)["nodes"][0].clone();
    assert_eq!((&node["missed"], &node["missed_total"]), (&0.into(), &1.into()), "{node}");
    let last_off: jiff::Timestamp = node["last_off_rhythm"].as_str().unwrap().parse().unwrap();
    let off = last_off.as_second() - at(missing);
    assert!((0..=6).contains(&off), "{off}: {node}");
}
