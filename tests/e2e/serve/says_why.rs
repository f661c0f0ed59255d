//! Why `/health` says what it says: the history of verdicts, what wrong clients sent, what can't be checked.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use world::agent::{self, configure};
use world::daemon::Daemon;
use world::http;
use world::nginx::Nginx;
use world::place::{Place, wait_until};

const SOON: Duration = Duration::from_secs(10);
const OK: &str = "location / { return 200; }";

fn by_conf(place: &Place, nginx: &Nginx) {
    configure(place, &format!("[nginx]\nconf = {:?}\n", nginx.conf)).unwrap();
}

#[test]
fn every_change_of_the_verdict_is_in_the_log_in_status_and_counted_with_its_cause() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", OK).unwrap();
    by_conf(&place, &nginx);
    let daemon = Daemon::start(&place, &[]).unwrap();
    daemon.wait_for(200, SOON).unwrap();
    nginx.stop().unwrap();
    daemon.wait_for(503, SOON).unwrap();
    nginx.boot().unwrap();
    daemon.wait_for(200, SOON).unwrap();
    let mut fault = agent::command(&place, &["fail", "--mode", "unhealthy", "--secs", "60", "--json"]);
    fault.env("AGENT_SERVE_LISTEN", daemon.public.to_string());
    fault.env("AGENT_SERVE_ADMIN", daemon.admin.to_string());
    let fault = agent::Running::spawn(&place, fault).unwrap();
    daemon.wait_for(503, SOON).unwrap();
    assert_eq!(daemon.check("fault").unwrap()["status"], "fail");
    fault.end(Signal::SIGTERM).unwrap();
    daemon.wait_for(200, SOON).unwrap();
    daemon.process.signal(Signal::SIGTERM).unwrap();
    daemon.wait_for(503, SOON).unwrap();
    let history = || daemon.status().unwrap()["health"]["history"].as_array().unwrap().clone();
    assert!(wait_until(SOON, || history().len() == 6));
    let told: Vec<(Value, Value)> = history().iter().map(|c| (c["to"].clone(), c["cause"].clone())).collect();
    let expected = [
        ("pass", "check"),
        ("fail", "check"),
        ("pass", "check"),
        ("fail", "fault"),
        ("pass", "fault"),
        ("fail", "drain"),
    ];
    let expected: Vec<(Value, Value)> =
        expected.iter().map(|(to, cause)| ((*to).into(), (*cause).into())).collect();
    assert_eq!(told, expected, "{:?}", history());
    assert!(
        history()[1]["held_ms"].is_u64()
            && history()[1]["detail"].as_str().unwrap().starts_with("nginx http://")
    );
    assert_eq!(daemon.metric("asg_agent_verdict_changes_total{to=\"fail\"}").unwrap(), 3.0);
    let log = daemon.process.stderr();
    assert_eq!(log.lines().filter(|line| line.contains("/health says")).count(), 6, "{log}");
}

fn send(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn what_wrong_clients_sent_is_counted_by_kind_and_named_with_its_cure() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let ok = |request: &str| assert!(send(daemon.public, request.as_bytes()).starts_with("HTTP/1.1 200"));
    ok("GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    ok("GET /health HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n");
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"",
        b"hello\r\n\r\n",
    ] {
        send(daemon.public, bytes);
    }
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n"] {
        let answer = send(
            daemon.public,
            format!("GET /health HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n").as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 400"), "{hosts}: {answer}");
    }
    send(
        daemon.public,
        format!("GET /health HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100)).as_bytes(),
    );
    let wrong = || daemon.status().unwrap()["listener"]["wrong"].as_array().unwrap().clone();
    let counts = || -> Vec<(String, u64)> {
        wrong()
            .iter()
            .map(|w| (w["kind"].as_str().unwrap().to_owned(), w["count"].as_u64().unwrap()))
            .collect()
    };
    let expected = [
        ("tls", 1),
        ("http2", 1),
        ("proxy_protocol", 2),
        ("path", 1),
        ("method", 1),
        ("no_request", 1),
        ("host", 3),
        ("size", 1),
        ("garbage", 1),
    ]
    .map(|(kind, count)| (kind.to_owned(), count));
    assert!(wait_until(SOON, || counts() == expected), "{:?}", counts());
    assert!(wrong().iter().all(|w| w["last_peer"] == place.ip.to_string() || w["last_peer"] == "127.0.0.1"));
    let people = agent::run(&place, &["status", &format!("--admin={}", daemon.admin)]).unwrap();
    let text = String::from_utf8_lossy(&people.stdout).into_owned();
    for cure in [
        "TLS 1×",
        "protocol to HTTP, not HTTPS",
        "another path (GET / by ELB-HealthChecker/2.0) 1×",
        "path to /health",
        "proxy protocol v2 off",
    ] {
        assert!(text.contains(cure), "{cure} in {text}");
    }
}

#[test]
fn where_nginx_cannot_be_checked_that_is_said_once_and_not_guessed() {
    let place = Place::new().unwrap();
    let conf = place.join("nginx.conf");
    fs::write(&conf, "http {\n  server { listen 80;\n").unwrap();
    configure(&place, &format!("[health]\ninterval = \"100ms\"\n[nginx]\nconf = {conf:?}\n")).unwrap();
    let daemon = Daemon::start(&place, &[]).unwrap();
    assert_eq!(daemon.health().unwrap().status, 200);
    let check = daemon.check("nginx").unwrap();
    assert_eq!(check["status"], "unknown");
    let detail = check["detail"].as_str().unwrap();
    assert!(detail.contains("nginx.conf:3: ") && detail.ends_with("set nginx.url"), "{detail}");
    let said = || daemon.process.stderr().matches("cannot check nginx").count();
    // It is looked at again, and told no second time.
    wait_until(Duration::from_secs(3), || said() > 2);
    assert!(said() <= 2, "{}", daemon.process.stderr());
    fs::write(&conf, format!("http {{ server {{ listen {}:80; }} }}", place.ip)).unwrap();
    daemon.wait_for(503, SOON).unwrap();
    drop(daemon);
    fs::write(&conf, "http {").unwrap();
    let daemon = Daemon::start(&place, &["--require-nginx"]).unwrap();
    assert_eq!(daemon.health().unwrap().status, 503);
}

#[test]
fn one_lucky_answer_of_a_server_that_fails_two_of_three_is_no_recovery() {
    let place = Place::new().unwrap();
    // By the last digit of a connection's number: at most two good ones in a row.
    let http = "map $connection $bad { default 1; ~[0369]$ 0; }";
    let server = "location / { if ($bad) { return 500; } return 200; }";
    let nginx = Nginx::start(&place, http, server).unwrap();
    configure(
        &place,
        &format!("[health]\ninterval = \"10ms\"\nretry = \"10ms\"\n[nginx]\nconf = {:?}\n", nginx.conf),
    )
    .unwrap();
    let daemon = Daemon::start(&place, &[]).unwrap();
    daemon.wait_for(503, SOON).unwrap();
    let checks = || fs::read_to_string(nginx.access_log()).unwrap().matches("(nginx check)").count();
    let enough = checks() + 300;
    assert!(wait_until(Duration::from_secs(30), || checks() >= enough));
    let turned = daemon.metric("asg_agent_verdict_changes_total{to=\"fail\"}").unwrap();
    assert_eq!(turned, 1.0, "{}", daemon.process.stderr());
}

#[test]
fn the_view_of_a_client_can_be_checked_apart() {
    let place = Place::new().unwrap();
    let (key, certificate) = (place.join("key.pem"), place.join("cert.pem"));
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x", "-keyout"]);
    assert!(openssl.arg(&key).arg("-out").arg(&certificate).output().unwrap().status.success());
    let tls = format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display());
    let addr = SocketAddr::new(place.ip.into(), 443);
    let server = format!(
        "listen {addr} ssl default_server; {tls} return 500; }}\n\
         server {{ listen {addr} ssl; server_name www.example.com; {tls} location = /up {{ return 200; }}"
    );
    let nginx = Nginx::configured(&place, addr, "", &server).unwrap();
    nginx.launch().unwrap();
    let url = format!("--nginx-url=https://{}/up", place.ip);
    let daemon = Daemon::start(&place, &[&url]).unwrap();
    assert_eq!(daemon.health().unwrap().status, 503);
    drop(daemon);
    configure(&place, "[nginx]\nhost = \"www.example.com\"\n").unwrap();
    let daemon = Daemon::start(&place, &[&url]).unwrap();
    daemon.wait_for(200, SOON).unwrap();
    assert!(daemon.check("nginx").unwrap()["detail"].as_str().unwrap().contains("(Host www.example.com)"));
}

#[test]
fn the_location_of_nginx_setup_is_exempt_from_limits_and_logs() {
    let place = Place::new().unwrap();
    let limits = "limit_req_zone $server_addr zone=all:32k rate=1r/m; limit_req zone=all;";
    let health = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/nginx/health.conf");
    let check = fs::read_to_string(health).unwrap();
    let check = &check[check.find("location = /asg-agent-check").unwrap()..];
    let nginx = Nginx::start(&place, limits, &format!("{OK} {check}")).unwrap();
    // The limit is used up.
    let _ = http::get(nginx.addr, "/index.html", SOON);
    configure(&place, &format!("[health]\ninterval = \"50ms\"\n[nginx]\nconf = {:?}\n", nginx.conf)).unwrap();
    let daemon = Daemon::start(&place, &[]).unwrap();
    for _ in 0..50 {
        assert_eq!(daemon.health().unwrap().status, 200);
        assert_eq!(daemon.check("nginx").unwrap()["status"], "pass");
    }
    assert!(
        daemon.check("nginx").unwrap()["detail"].as_str().unwrap().contains("/asg-agent-check answered 204")
    );
    assert!(!fs::read_to_string(nginx.access_log()).unwrap().contains("asg-agent-check"));
}
