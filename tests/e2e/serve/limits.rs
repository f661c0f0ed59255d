//! Clients that mean no good: half-open, trickling, oversized, too many, too fast.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use world::agent::configure;
use world::daemon::Daemon;
use world::http;
use world::place::{Place, wait_until};

/// How long until the other side closes; `None` when it answers first.
fn cut_after(mut stream: TcpStream, start: Instant) -> Option<Duration> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    match stream.read(&mut [0; 1024]) {
        Ok(0) => Some(start.elapsed()),
        Ok(_) => None,
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Some(start.elapsed()),
        Err(e) => panic!("not cut: {e}"),
    }
}

fn about_five_seconds(took: Option<Duration>) -> bool {
    took.is_some_and(|t| (Duration::from_millis(3500)..Duration::from_secs(9)).contains(&t))
}

#[test]
fn half_open_and_trickling_clients_are_cut_after_five_seconds() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let connect = || TcpStream::connect(daemon.public).unwrap();
    std::thread::scope(|scope| {
        let half_open = scope.spawn(|| cut_after(connect(), Instant::now()));
        let half_head = scope.spawn(|| {
            let (mut stream, start) = (connect(), Instant::now());
            stream.write_all(b"GET /health HTTP/1.1\r\nHost:").unwrap();
            cut_after(stream, start)
        });
        let trickling = scope.spawn(|| {
            let (stream, start) = (connect(), Instant::now());
            let mut writer = stream.try_clone().unwrap();
            let writing = scope.spawn(move || {
                for byte in b"GET /health HTTP/1.1\r\nX-A: ".iter().chain(std::iter::repeat(&b'a')) {
                    if writer.write_all(&[*byte]).is_err() || start.elapsed() > Duration::from_secs(15) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(100)); // the trickle itself
                }
            });
            let cut = cut_after(stream, start);
            writing.join().unwrap();
            cut
        });
        let kept = scope.spawn(|| {
            let (mut stream, start) = (connect(), Instant::now());
            let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.public);
            stream.write_all(request.as_bytes()).unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            while start.elapsed() < Duration::from_secs(8) {
                std::thread::sleep(Duration::from_millis(200)); // being idle is what is tested
            }
            stream.write_all(request.as_bytes()).unwrap();
            stream.read(&mut [0; 1024]).unwrap()
        });
        for (name, cut) in [("half-open", half_open), ("half a head", half_head), ("trickling", trickling)] {
            let cut = cut.join().unwrap();
            assert!(about_five_seconds(cut), "{name}: {cut:?}");
        }
        assert!(kept.join().unwrap() > 0, "a connection that was served may be idle for longer");
    });
    assert!(daemon.metric("asg_agent_connections_timed_out_total").unwrap() >= 3.0);
}

#[test]
fn oversized_requests_are_refused() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let with =
        |headers: &str| format!("GET /health HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    let send =
        |request: String| http::exchange(daemon.public, None, request.as_bytes(), Duration::from_secs(5));
    let refused = |request: String| match send(request) {
        Ok(answer) => [400, 414, 431].contains(&answer.status),
        Err(e) => {
            e.kind() == std::io::ErrorKind::ConnectionReset || e.kind() == std::io::ErrorKind::BrokenPipe
        }
    };
    assert!(refused(with(&"X-A: b\r\n".repeat(100))), "too many headers");
    assert!(refused(with(&format!("X-A: {}\r\n", "b".repeat(64 << 10)))), "a header too long");
    assert!(
        refused(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(128 << 10))),
        "a path too long"
    );
    assert!(refused("no http at all\r\n\r\n".to_owned()));
    assert_eq!(send(with("X-A: b\r\n")).unwrap().status, 200);
}

#[test]
fn a_request_with_a_body_is_answered_without_reading_it() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
    let answer = http::exchange(daemon.public, None, request.as_bytes(), Duration::from_secs(8));
    assert!(answer.is_ok_and(|answer| answer.status == 200));
}

#[test]
fn probes_are_answered_at_the_cap_and_the_quietest_make_room() {
    let place = Place::new().unwrap();
    configure(&place, "[serve]\nmax_connections = 32\n").unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n", daemon.public);
    // Half a request each, so that the kernel hands them over at once.
    let hold = || {
        let mut stream = TcpStream::connect(daemon.public).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let mut held: Vec<TcpStream> = (0..40).map(|_| hold()).collect();
    let full = || daemon.metric("asg_agent_connections_accepted_total").unwrap() >= 40.0;
    assert!(wait_until(Duration::from_secs(5), full));
    assert!(daemon.metric("asg_agent_connections_open").unwrap() <= 32.0);
    for _ in 0..20 {
        held.push(hold());
        assert_eq!(daemon.health().unwrap().status, 200);
    }
    assert!(daemon.metric("asg_agent_connections_evicted_total").unwrap() >= 28.0);
}

/// The scheduling policy of the serving thread, from field 41 of its stat (proc_pid_stat(5)); 2 is SCHED_RR.
fn policy(daemon: &Daemon) -> u32 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.process.pid())).unwrap();
    let stat = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat")).unwrap();
    let serving = tasks.flatten().map(stat).find(|stat| stat.contains("(serve)")).unwrap();
    let fields: Vec<&str> = serving.rsplit(") ").next().unwrap().split(' ').collect();
    fields[41 - 3].parse().unwrap()
}

#[test]
fn a_flood_costs_the_real_time_priority_until_it_is_over() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    daemon.health().unwrap(); // the serving thread is there
    let real_time = daemon.metric("asg_agent_realtime").unwrap() == 1.0;
    assert_eq!(policy(&daemon) == 2, real_time);
    let started = |daemon: &Daemon| daemon.metric("asg_agent_floods_total").unwrap() > 0.0;
    let flooding = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let one = format!("GET /health HTTP/1.1\r\nHost: {}\r\n", daemon.public);
                let request = format!("{one}\r\n").repeat(49) + &one + "Connection: close\r\n\r\n";
                let begun = Instant::now();
                while flooding.load(std::sync::atomic::Ordering::Relaxed)
                    && begun.elapsed() < Duration::from_secs(20)
                {
                    let _ =
                        http::exchange(daemon.public, None, request.as_bytes(), Duration::from_millis(200));
                }
            });
        }
        let seen = wait_until(Duration::from_secs(20), || started(&daemon));
        let policy = policy(&daemon);
        let answer = daemon.health();
        flooding.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(seen, "no flood was seen");
        assert_ne!(policy, 2);
        assert_eq!(answer.unwrap().status, 200, "answered during the flood");
    });
    if real_time {
        assert!(wait_until(Duration::from_secs(15), || policy(&daemon) == 2), "the priority comes back");
    }
}
