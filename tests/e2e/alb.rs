//! The simulated load balancer does to a real nginx what AWS documents.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, spawn};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::alb::{Alb, Check, Event, Matcher, Reason, Settings, State, Trouble};
use world::http::{Answer, exchange, get};
use world::nginx::Nginx;
use world::place::{Place, address, is_refused, wait_until};

const LIMIT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(500);

/// Two nodes, probes every half second, two successes or failures in a row.
fn settings() -> Settings {
    let check = Check {
        path: "/health".into(),
        interval: INTERVAL,
        timeout: Duration::from_millis(400),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        ..Check::default()
    };
    Settings { idle_timeout: Duration::from_secs(1), connect_timeout: INTERVAL, ..Settings::new(check) }
}

fn nginx(place: &Place, server: &str) -> Nginx {
    let format =
        "log_format main '$remote_addr|$request|$status|$http_user_agent|$http_host|$http_connection';";
    let server = format!("access_log {}/nginx/logs/main.log main; {server}", place.path().display());
    Nginx::start(place, format, &server).unwrap()
}

/// A target that never answers: its kernel takes connections, nobody reads them.
fn silent() -> TcpListener {
    TcpListener::bind((address(), 8000)).unwrap()
}

fn ask(alb: &Alb, node: usize) -> Answer {
    get(alb.addrs()[node], "/health", LIMIT).unwrap()
}

#[test]
fn probes_look_as_a_load_balancer_sends_them_and_come_from_each_node() {
    let place = Place::new().unwrap();
    let nginx = nginx(&place, "location / { return 200; }");
    let settings = settings();
    let sources = settings.nodes.clone().into_iter().map(|node| node.source);
    let alb = Alb::start(settings, &[nginx.addr]).unwrap();
    alb.wait_for(nginx.addr, State::Healthy, LIMIT).unwrap();
    let log = || std::fs::read_to_string(place.join("nginx/logs/main.log")).unwrap();
    for source in sources {
        let line = format!("{source}|GET /health HTTP/1.1|200|ELB-HealthChecker/2.0|{}|close\n", nginx.addr);
        assert!(wait_until(LIMIT, || log().contains(&line)), "{line} is not in {}", log());
    }
}

#[test]
fn each_node_keeps_its_own_cadence_while_probes_time_out() {
    let target = silent();
    let alb = Alb::start(settings(), &[target.local_addr().unwrap()]).unwrap();
    let mut events = alb.events();
    let mut due = [vec![], vec![]];
    while due.iter().any(|times| times.len() < 4) {
        let probe = events.find(LIMIT, |event| event.probe().cloned()).unwrap();
        assert_eq!(probe.outcome, Err(Trouble::Timeout));
        assert!(probe.took >= Duration::from_millis(395));
        due[probe.node].push(probe.at);
    }
    for node in &due {
        for at in node {
            // A machine that stood still may have missed a tick altogether: what counts is the grid.
            let off = (*at - node[0]).as_millis() % INTERVAL.as_millis();
            assert!(off < 5, "the schedule moved by {off} ms");
        }
    }
    let phase = (due[1][0] - due[0][0]).abs_diff(INTERVAL / 2);
    assert!(phase < Duration::from_millis(5), "the phase moved by {phase:?}");
}

#[test]
fn the_matcher_decides_which_codes_pass() {
    let place = Place::new().unwrap();
    let nginx = nginx(&place, "location /health { return 204; }");
    let alb = Alb::start(settings(), &[nginx.addr]).unwrap();
    alb.wait_for(nginx.addr, State::Unhealthy, LIMIT).unwrap();
    assert!(alb.snapshot().iter().all(|seen| seen.health.reason == Some(Reason::ResponseCodeMismatch(204))));
    let mut wider = settings();
    wider.check.matcher = Matcher::parse("200-299").unwrap();
    let alb = Alb::start(wider, &[nginx.addr]).unwrap();
    alb.wait_for(nginx.addr, State::Healthy, LIMIT).unwrap();
}

#[test]
fn requests_take_turns_and_carry_who_asked() {
    let places = [Place::new().unwrap(), Place::new().unwrap()];
    let server = "location / { add_header X-From $server_addr; \
                  add_header X-Seen \"$http_x_forwarded_for|$http_x_forwarded_proto|$http_x_forwarded_port|$host\"; \
                  return 200; }";
    let targets = [nginx(&places[0], server), nginx(&places[1], server)].map(|nginx| nginx.addr);
    let alb = Alb::start(settings(), &targets).unwrap();
    targets.iter().for_each(|target| alb.wait_for(*target, State::Healthy, LIMIT).unwrap());
    let node = alb.addrs()[1];
    let client = address();
    let request =
        "GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: close\r\n\r\n";
    let answers: Vec<Answer> =
        (0..4).map(|_| exchange(node, Some(client), request.as_bytes(), LIMIT).unwrap()).collect();
    let from: Vec<_> = answers.iter().map(|a| a.header("x-from").unwrap()).collect();
    assert!(from[0] != from[1] && from[..2] == from[2..], "{from:?}");
    let seen = format!("10.0.0.1, {client}|http|{}|example.com", node.port());
    assert!(answers.iter().all(|a| a.header("x-seen") == Some(&seen)), "{answers:?}");
}

#[test]
fn one_connection_to_a_target_serves_many_requests() {
    let place = Place::new().unwrap();
    let nginx = nginx(&place, "location / { add_header X-Connection $connection; return 200; }");
    let alb = Alb::start(settings(), &[nginx.addr]).unwrap();
    alb.wait_for(nginx.addr, State::Healthy, LIMIT).unwrap();
    let connection = || ask(&alb, 0).header("x-connection").unwrap().to_owned();
    let mut last = connection();
    assert!(wait_until(LIMIT, || std::mem::replace(&mut last, connection()) == last));
}

#[test]
fn without_targets_clients_get_503_and_with_the_first_they_are_served() {
    let mut alb = Alb::start(settings(), &[]).unwrap();
    let answer = ask(&alb, 0);
    assert_eq!((answer.status, answer.header("server")), (503, Some("awselb/2.0")));
    let place = Place::new().unwrap();
    let nginx = nginx(&place, "location / { return 200; }");
    alb.register(nginx.addr).unwrap();
    assert!(alb.register(nginx.addr).is_err());
    alb.wait_for(nginx.addr, State::Healthy, LIMIT).unwrap();
    assert_eq!(ask(&alb, 1).status, 200);
    alb.deregister(nginx.addr).unwrap();
    assert_eq!(ask(&alb, 1).status, 503);
    let drained =
        |event: &Event| event.transition().filter(|t| t.to.state == State::Draining).map(|t| t.node);
    assert_eq!(alb.events().so_far(drained), [0, 1]);
}

#[test]
fn a_target_that_refuses_resets_or_talks_nonsense_is_a_502() {
    let place = Place::new().unwrap();
    let nginx = nginx(&place, "reset_timedout_connection on; location /health { return 444; }");
    let nonsense = silent();
    let garbage = nonsense.local_addr().unwrap();
    spawn(move || {
        while let Ok((mut stream, _)) = nonsense.accept() {
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n");
        }
    });
    let refused = SocketAddr::new(address().into(), 8000);
    for target in [refused, nginx.addr, garbage] {
        let alb = Alb::start(settings(), &[target]).unwrap();
        assert_eq!(ask(&alb, 0).status, 502, "{target}");
        alb.wait_for(target, State::Unhealthy, LIMIT).unwrap();
        assert!(alb.snapshot().iter().all(|seen| seen.health.reason == Some(Reason::FailedHealthChecks)));
        assert_eq!(ask(&alb, 0).status, 502, "fail-open sends it there all the same");
        let open = alb.events().so_far(|event| event.request().map(|r| (r.fail_open, r.by_target)));
        assert_eq!(open, [(true, false); 2]);
    }
}

#[test]
fn a_hung_nginx_is_a_504_after_the_idle_time_out_and_unhealthy_by_time_out() {
    let place = Place::new().unwrap();
    let nginx = nginx(&place, "location / { return 200; }");
    let alb = Alb::start(settings(), &[nginx.addr]).unwrap();
    alb.wait_for(nginx.addr, State::Healthy, LIMIT).unwrap();
    let mut all = nginx.workers();
    all.push(nginx.master().unwrap());
    let signal = |signal| all.iter().for_each(|pid| kill(Pid::from_raw(*pid), signal).unwrap());
    signal(Signal::SIGSTOP);
    let answer = ask(&alb, 0);
    assert!(answer.status == 504 && answer.took >= Duration::from_millis(990), "{answer:?}");
    alb.wait_for(nginx.addr, State::Unhealthy, LIMIT).unwrap();
    assert_eq!(alb.snapshot()[0].health.reason, Some(Reason::Timeout));
    signal(Signal::SIGCONT);
    alb.wait_for(nginx.addr, State::Healthy, LIMIT).unwrap();
    assert_eq!(ask(&alb, 0).status, 200);
}

#[test]
fn a_target_that_takes_no_connection_is_a_504_after_the_connection_time_out() {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let target = std::net::SocketAddrV4::new(address(), 8000);
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::from(target)).unwrap();
    listen(&socket, Backlog::new(0).unwrap()).unwrap();
    // Its queue is full when a connection hangs; the kernel then drops further ones, listen(2).
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&target.into(), INTERVAL) {
        queued.push(stream);
    }
    let alb = Alb::start(settings(), &[target.into()]).unwrap();
    let answer = ask(&alb, 0);
    assert!(answer.status == 504 && answer.took < Duration::from_millis(990), "{answer:?}");
}

#[test]
fn a_client_that_gives_up_is_told_as_460() {
    let target = silent();
    let alb = Alb::start(settings(), &[target.local_addr().unwrap()]).unwrap();
    assert!(get(alb.addrs()[0], "/gone", Duration::from_millis(200)).is_err());
    let request = alb.events().find(LIMIT, |event| event.request().cloned()).unwrap();
    assert_eq!((request.status, request.path.as_str()), (460, "/gone"));
}

/// refused → 502, detected in (F−1)·I … F·I, readmitted in (H−1)·I … H·I, per node.
#[test]
fn a_stopped_nginx_costs_errors_only_until_each_node_found_it_out() {
    let places = [Place::new().unwrap(), Place::new().unwrap()];
    let [stopped, other] = places.each_ref().map(|place| nginx(place, "location / { return 200; }"));
    let alb = Alb::start(settings(), &[stopped.addr, other.addr]).unwrap();
    for target in [stopped.addr, other.addr] {
        alb.wait_for(target, State::Healthy, LIMIT).unwrap();
    }
    let mut events = alb.events().from_now();
    let over = AtomicBool::new(false);
    let (down, up) = scope(|scope| {
        for node in alb.addrs() {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let _ = get(node, "/", LIMIT);
                    std::thread::sleep(Duration::from_millis(10)); // a client's pace
                }
            });
        }
        let down = Instant::now();
        stopped.stop().unwrap();
        let out = alb.wait_for(stopped.addr, State::Unhealthy, LIMIT);
        let up = Instant::now();
        let back = stopped.boot().and_then(|()| alb.wait_for(stopped.addr, State::Healthy, LIMIT));
        over.store(true, Ordering::Relaxed);
        out.and(back).unwrap();
        (down, up)
    });

    let transitions = events.clone().so_far(|event| event.transition().cloned());
    let requests = events.so_far(|event| event.request().cloned());
    let noise = Duration::from_secs(1);
    for node in 0..2 {
        let change =
            |state| transitions.iter().find(|t| t.node == node && t.to.state == state).map(|t| t.at).unwrap();
        // F = H = 2
        let (out, back) = (change(State::Unhealthy), change(State::Healthy));
        assert!(out - down > INTERVAL / 2 && out - down < 2 * INTERVAL + noise, "{:?}", out - down);
        assert!(back - up > INTERVAL / 2 && back - up < 2 * INTERVAL + noise, "{:?}", back - up);
        let errors: Vec<_> = requests.iter().filter(|r| r.node == node && r.status != 200).collect();
        assert!(!errors.is_empty() && errors.iter().all(|r| r.status == 502), "{errors:?}");
        assert!(errors.iter().all(|r| r.at <= out && r.target == Some(stopped.addr)), "{errors:?}");
        let used = |r: &&world::alb::Request| r.node == node && r.target == Some(stopped.addr);
        assert!(!requests.iter().filter(used).any(|r| r.at > out && r.at < back), "routed while unhealthy");
    }
    assert!(transitions.iter().all(|t| t.target == stopped.addr), "{transitions:?}");
}

#[test]
fn dropped_it_hangs_up_and_refuses() {
    let target = silent();
    let alb = Alb::start(settings(), &[target.local_addr().unwrap()]).unwrap();
    let node = alb.addrs()[0];
    let mut client = TcpStream::connect(node).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    drop(alb);
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let closed = client.read(&mut [0; 64]);
    assert!(
        closed.as_ref().map_or_else(|e| e.kind() == ErrorKind::ConnectionReset, |n| *n == 0),
        "{closed:?}"
    );
    assert!(is_refused(node));
}
