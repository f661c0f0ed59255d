//! Start and end: readiness, the watchdog, SIGTERM with requests in flight.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use world::agent::{self, Running, configure};
use world::daemon::Daemon;
use world::place::Place;

#[test]
fn sigterm_says_503_at_once_serves_on_and_ends_with_0() {
    let place = Place::new().unwrap();
    configure(&place, "[serve]\ndrain = \"2s\"\n").unwrap();
    let mut daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let mut kept = TcpStream::connect(daemon.public).unwrap();
    let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.public);
    let mut ask = || {
        kept.write_all(request.as_bytes()).unwrap();
        let mut bytes = [0; 1024];
        let n = kept.read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    };
    assert!(ask().starts_with("HTTP/1.1 200"));
    daemon.process.signal(Signal::SIGTERM).unwrap();
    daemon.wait_for(503, Duration::from_secs(1)).unwrap();
    let last = ask();
    assert!(last.starts_with("HTTP/1.1 503") && last.contains("connection: close"), "{last}");
    assert_eq!(daemon.process.wait(Duration::from_secs(10)).unwrap().code(), Some(0));
    assert!(daemon.health().is_err(), "nothing listens any more");
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    let place = Place::new().unwrap();
    configure(&place, "[serve]\ndrain = \"0s\"\n").unwrap();
    let mut daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let mut stream = TcpStream::connect(daemon.public).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n").unwrap();
    let taken = || daemon.metric("asg_agent_connections_open").unwrap() >= 1.0;
    assert!(world::place::wait_until(Duration::from_secs(5), taken));
    daemon.process.signal(Signal::SIGTERM).unwrap();
    let refused = || TcpStream::connect(daemon.public).is_err();
    assert!(world::place::wait_until(Duration::from_secs(5), refused));
    stream.write_all(b"\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"fail\""), "{answer}");
    assert_eq!(daemon.process.wait(Duration::from_secs(10)).unwrap().code(), Some(0));
}

#[test]
fn ctrl_c_ends_it_without_a_drain_time() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let start = Instant::now();
    assert_eq!(daemon.process.end(Signal::SIGINT).unwrap().code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(8), "the default drain time is 10 s");
}

#[test]
fn systemd_hears_ready_and_then_the_watchdog() {
    let place = Place::new().unwrap();
    let path = place.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (listen, admin) = (format!("--listen={}:8080", place.ip), format!("--admin={}:8081", place.ip));
    let mut command = agent::command(&place, &["serve", "--no-nginx", &listen, &admin]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    command.env("AGENT_IDENTITY_ENDPOINT", format!("http://{}:1", place.ip));
    let daemon = Running::spawn(&place, command).unwrap();
    let next = || {
        let mut bytes = [0; 256];
        let n = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).trim().to_owned()
    };
    assert_eq!(next(), "READY=1");
    assert_eq!((next(), next()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
    daemon.signal(Signal::SIGTERM).unwrap();
    let stopping = (0..20).any(|_| next() == "STOPPING=1");
    assert!(stopping);
}

#[test]
fn status_tells_people_and_programs_and_its_exit_code_the_verdict() {
    let place = Place::new().unwrap();
    let admin = format!("--admin={}:8081", place.ip);
    let none = agent::run(&place, &["status", &admin]).unwrap();
    assert_eq!(none.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&none.stderr).contains("is `agent serve` running?"));

    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let people = agent::run(&place, &["status", &admin]).unwrap();
    assert_eq!(people.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&people.stdout).starts_with("HEALTHY"));
    let json = agent::run(&place, &["status", &admin, "--json"]).unwrap();
    assert_eq!(agent::events(&json.stdout).last().unwrap()["event"], "status");
    drop(daemon);

    let url = format!("--nginx-url=http://{}:9/", place.ip);
    let _daemon = Daemon::start(&place, &[&url]).unwrap();
    let unhealthy = agent::run(&place, &["status", &admin]).unwrap();
    assert_eq!(unhealthy.status.code(), Some(1));
}
