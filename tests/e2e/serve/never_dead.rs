//! What must not end or delay the daemon: a log that nobody reads, too few descriptors, clients that ask and never read,
//! a flood.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt};
use world::agent::{binary, command, configure};
use world::daemon::Daemon;
use world::http;
use world::place::{Place, wait_until};

const SOON: Duration = Duration::from_secs(10);

/// Ends with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(place: &Place, stderr: impl Into<Stdio>) -> (Serving, SocketAddr, SocketAddr) {
    let (public, admin) = (SocketAddr::new(place.ip.into(), 8080), SocketAddr::new(place.ip.into(), 8081));
    let (listen, admin_flag) = (format!("--listen={public}"), format!("--admin={admin}"));
    let mut command = command(place, &["serve", "--no-nginx", &listen, &admin_flag]);
    command.env("AGENT_IDENTITY_ENDPOINT", format!("http://{}:1", place.ip)).env("AGENT_LOG", "trace");
    (Serving(command.stderr(stderr).spawn().unwrap()), public, admin)
}

#[test]
fn a_log_that_cannot_be_written_or_is_not_read_ends_and_delays_nothing() {
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let (unread, to_unread) = nix::unistd::pipe().unwrap();
    let (closed, to_closed) = nix::unistd::pipe().unwrap();
    drop(closed);
    for stderr in [full(), to_unread.into(), to_closed.into()] {
        let place = Place::new().unwrap();
        let (mut serving, public, admin) = serve(&place, stderr);
        let healthy = || http::get(public, "/health", SOON).is_ok_and(|answer| answer.status == 200);
        assert!(wait_until(SOON, healthy));
        // More than a pipe holds.
        for _ in 0..300 {
            assert!(healthy());
        }
        let status: serde_json::Value =
            serde_json::from_str(&http::get(admin, "/status", SOON).unwrap().body).unwrap();
        assert!(status["log_lines_dropped"].is_u64(), "{status}");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(serving.0.id().cast_signed()), Signal::SIGINT)
            .unwrap();
        let ended = || serving.0.try_wait().unwrap().is_some();
        assert!(wait_until(SOON, ended));
        assert_eq!(serving.0.wait().unwrap().code(), Some(130));
    }
    drop(unread);
}

#[test]
fn too_few_descriptors_are_a_plain_error_and_few_ones_are_said() {
    let place = Place::new().unwrap();
    let run = |limit: u32| {
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(binary()).args(["serve", "--no-nginx"]);
        shell.args([format!("--listen={}:8080", place.ip), format!("--admin={}:8081", place.ip)]);
        shell.env_clear().env("AGENT_IDENTITY_ENDPOINT", format!("http://{}:1", place.ip));
        shell.current_dir(place.path()).stdin(Stdio::null()).stdout(Stdio::null());
        for (name, folder) in [("STATE", "state"), ("RUN", "run"), ("LOG", "log")] {
            shell.env(format!("AGENT_PATHS_{name}"), place.join(folder));
        }
        shell
    };
    for limit in [8, 16, 30] {
        let output = run(limit).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{limit}: {text}");
        assert!(text.contains("ulimit -n") && !text.contains("panicked"), "{limit}: {text}");
    }
    let log = place.join("log.txt");
    let _serving = Serving(run(80).stderr(File::create(&log).unwrap()).spawn().unwrap());
    let public = SocketAddr::new(place.ip.into(), 8080);
    let healthy = || http::get(public, "/health", SOON).is_ok_and(|answer| answer.status == 200);
    assert!(wait_until(SOON, healthy));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("80 open files are allowed (ulimit -n): 32 connections at once"), "{text}");
    let mut held = Vec::new();
    for _ in 0..120 {
        let mut stream = TcpStream::connect(public).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\n").unwrap();
        held.push(stream);
    }
    assert!(healthy());
}

/// A client with the smallest segments and window that asks a hundred times and never reads.
fn unread(to: SocketAddr) -> TcpStream {
    let SocketAddr::V4(v4) = to else { panic!("IPv4") };
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::TcpMaxSeg, &88).unwrap();
    setsockopt(&socket, sockopt::RcvBuf, &1).unwrap();
    connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::from(v4)).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(true).unwrap();
    let _ = stream.write(format!("GET /health HTTP/1.1\r\nHost: {to}\r\n\r\n").repeat(100).as_bytes());
    stream
}

#[test]
fn clients_that_ask_and_never_read_make_room_for_probes() {
    let place = Place::new().unwrap();
    configure(&place, "[serve]\nmax_connections = 32\n").unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let mut held = Vec::new();
    for _ in 0..20 {
        held.extend((0..16).map(|_| unread(daemon.public)));
        let answer = http::get(daemon.public, "/health", Duration::from_secs(3));
        assert_eq!(answer.unwrap().status, 200);
    }
    // They were closed to make room, or after an answer as in a flood; and nobody was turned away.
    assert!(daemon.metric("asg_agent_connections_open").unwrap() <= 32.0);
    assert_eq!(daemon.metric("asg_agent_connections_refused_total").unwrap(), 0.0);
}

#[test]
fn a_steady_flood_is_one_flood() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let flooding = std::sync::atomic::AtomicBool::new(true);
    let floods = || daemon.metric("asg_agent_floods_total").unwrap_or(0.0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while flooding.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = http::get(daemon.public, "/health", Duration::from_secs(1));
                }
            });
        }
        let began = wait_until(SOON, || floods() > 0.0);
        let since = std::time::Instant::now();
        // It goes on for longer than calm would have to last.
        wait_until(Duration::from_secs(7), || false);
        let asked = http::get(daemon.public, "/health", Duration::from_secs(3));
        flooding.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(began, "no flood was seen");
        assert_eq!(asked.unwrap().status, 200, "answered during the flood, {:?}", since.elapsed());
    });
    assert_eq!(floods(), 1.0);
    let over = || daemon.process.stderr().contains("the flood is over");
    assert!(wait_until(Duration::from_secs(20), over));
    assert_eq!(daemon.process.stderr().matches("a flood of requests").count(), 1);
}

#[test]
fn sighup_changes_nothing_and_says_so() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    daemon.process.signal(Signal::SIGHUP).unwrap();
    assert!(wait_until(SOON, || daemon.process.stderr().contains("SIGHUP changes nothing")));
    assert_eq!(daemon.health().unwrap().status, 200);
    let mut stream = TcpStream::connect(daemon.public).unwrap();
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.0 200") || text.starts_with("HTTP/1.1 200"), "{text}");
}
