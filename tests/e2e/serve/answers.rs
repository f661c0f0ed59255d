//! Every status and header of both listeners, to the letter.

use std::net::SocketAddr;
use std::time::Duration;

use world::agent::configure;
use world::daemon::Daemon;
use world::http::{self, Answer};
use world::imds::Imds;
use world::place::Place;

fn send(addr: SocketAddr, request: &str) -> Answer {
    http::exchange(addr, None, request.as_bytes(), Duration::from_secs(5)).unwrap()
}

fn ask(addr: SocketAddr, method: &str, path: &str) -> Answer {
    send(addr, &format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"))
}

#[test]
fn health_says_200_with_the_headers_of_the_contract() {
    let place = Place::new().unwrap();
    let imds = Imds::start(place.ip, "i-0123456789abcdef0", "eu-central-1a").unwrap();
    configure(&place, &format!("[identity]\nendpoint = \"{}\"\n", imds.endpoint())).unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let known = || daemon.health().unwrap().header("x-instance-id") == Some("i-0123456789abcdef0");
    assert!(world::place::wait_until(Duration::from_secs(5), known));

    let answer = daemon.health().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/health+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("retry-after"), None);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let expected =
        serde_json::json!({"status": "pass", "instance": "i-0123456789abcdef0", "zone": "eu-central-1a"});
    assert_eq!(body, expected);
}

#[test]
fn health_says_503_with_retry_after_and_no_details() {
    let place = Place::new().unwrap();
    let url = format!("--nginx-url=http://{}:9/", place.ip);
    let daemon = Daemon::start(&place, &[&url]).unwrap();
    let answer = daemon.health().unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("content-type"), Some("application/health+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(answer.body.contains("\"fail\"") && !answer.body.contains("nginx"), "{}", answer.body);
}

#[test]
fn head_is_answered_like_get_without_a_body() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let known = || daemon.health().unwrap().header("x-instance-id") == Some("none");
    assert!(world::place::wait_until(Duration::from_secs(5), known), "the answer doesn't change any more");
    let (get, head) = (ask(daemon.public, "GET", "/health"), ask(daemon.public, "HEAD", "/health"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!(head.header("content-type"), get.header("content-type"));
}

#[test]
fn other_methods_get_405_with_allow_and_other_paths_404() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = ask(daemon.public, method, "/health");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method}");
    }
    for path in ["/", "/status", "/metrics", "/health/", "/healthz", "/health/../status", "//health"] {
        assert_eq!(ask(daemon.public, "GET", path).status, 404, "{path}");
    }
    assert_eq!(ask(daemon.public, "GET", "/health?from=elb").status, 200);
}

#[test]
fn a_connection_is_kept_for_many_requests_and_http_1_0_gets_its_answer() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.public);
    let last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let answer = send(daemon.public, &(request.repeat(20) + &last));
    assert_eq!(answer.body.matches("HTTP/1.1 200 OK").count(), 20, "and the first in the head");
    assert_eq!(daemon.metric("asg_agent_requests_total{code=\"200\"}").unwrap(), 21.0);
    assert_eq!(send(daemon.public, "GET /health HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn the_admin_listener_tells_and_changes_nothing() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let status = daemon.status().unwrap();
    assert_eq!((&status["event"], &status["health"]["status"]), (&"status".into(), &"pass".into()));
    for key in ["version", "instance", "nginx", "probes", "cpu"] {
        assert!(!status[key].is_null(), "{key} in {status}");
    }
    assert!(status["fault"].is_null());
    assert_eq!(daemon.metric("asg_agent_healthy").unwrap(), 1.0);
    for path in ["/status", "/metrics"] {
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(ask(daemon.admin, method, path).status, 405, "{method} {path}");
        }
    }
    assert_eq!(
        (ask(daemon.admin, "GET", "/").status, ask(daemon.admin, "GET", "/nothing").status),
        (200, 404)
    );
}

#[test]
fn the_admin_listener_refuses_a_host_that_is_not_loopback() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    for host in [
        "Host: evil.example.com\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "",
        "Host: localhost\r\nHost: a\r\n",
    ] {
        let answer = send(daemon.admin, &format!("GET /status HTTP/1.1\r\n{host}Connection: close\r\n\r\n"));
        assert_eq!(answer.status, 403, "{host}");
    }
    let answer =
        send(daemon.admin, "GET /status HTTP/1.1\r\nHost: localhost:8081\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.status, 200);
}
