//! Every dialect that a listener of nginx can have: well, answering 5xx, hung, stopped, reloading. The daemon finds the
//! listener in nginx's configuration.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::agent::configure;
use world::daemon::Daemon;
use world::nginx::Nginx;
use world::place::{Place, wait_until};

/// Found in 3 s, and a loaded machine takes its time.
const LIMIT: Duration = Duration::from_secs(8);

/// A key and a certificate of its own in the place, as directives for a server.
fn certificate(place: &Place) -> String {
    let (key, certificate) = (place.join("key.pem"), place.join("cert.pem"));
    let openssl = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=nobody.example"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
    format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display())
}

fn signal(nginx: &Nginx, signal: Signal) {
    let processes = [vec![nginx.master().unwrap()], nginx.workers()].concat();
    processes.iter().for_each(|pid| kill(Pid::from_raw(*pid), signal).unwrap());
}

/// The master runs, and has both of its workers.
fn runs(nginx: &Nginx) -> bool {
    nginx.workers().len() >= 2
}

/// Goes through the states of an nginx whose server has `listen` in it and says `body` while it is well.
fn every_state(listen: &str, body: &str) {
    let place = Place::new().unwrap();
    let listen =
        listen.replace("IP", &place.ip.to_string()).replace("DIR", &place.path().display().to_string());
    let tls = if listen.contains("ssl") { certificate(&place) } else { String::new() };
    let addr = SocketAddr::new(place.ip.into(), 80);
    let server = |body: &str| format!("{listen} {tls} {body}");
    let nginx = Nginx::configured(&place, addr, "", &server(body)).unwrap();
    configure(&place, &format!("[nginx]\nconf = {:?}\n", nginx.conf)).unwrap();
    nginx.launch().unwrap();
    assert!(wait_until(LIMIT, || runs(&nginx)));
    let daemon = Daemon::start(&place, &[]).unwrap();
    let says = |status, state: &str| {
        if let Err(e) = daemon.wait_for(status, LIMIT) {
            panic!("{listen} {body}: {state}: {e}: {}", daemon.status().unwrap()["health"]);
        }
    };
    says(200, "well");

    signal(&nginx, Signal::SIGSTOP);
    says(503, "hung");
    signal(&nginx, Signal::SIGCONT);
    says(200, "continued");

    // Reloading loses nothing, and what a reload brings is seen.
    for _ in 0..10 {
        assert!(nginx.nginx(&["-s", "reload"]).unwrap().status.success());
        assert_eq!(daemon.health().unwrap().status, 200, "{listen} {body}: reloading");
    }
    let broken = Nginx::configured(&place, addr, "", &server("return 502;")).unwrap();
    assert!(broken.nginx(&["-s", "reload"]).unwrap().status.success());
    says(503, "5xx");
    let whole = Nginx::configured(&place, addr, "", &server(body)).unwrap();
    assert!(whole.nginx(&["-s", "reload"]).unwrap().status.success());
    says(200, "no 5xx any more");

    signal(&nginx, Signal::SIGKILL);
    says(503, "killed");
    let _ = fs::remove_file(place.join("x.sock"));
    nginx.launch().unwrap();
    says(200, "started again");
    assert!(nginx.nginx(&["-s", "quit"]).unwrap().status.success());
    says(503, "stopped");
}

fn matrix(listens: &[(&str, &str)]) {
    std::thread::scope(|scope| {
        for (listen, body) in listens {
            scope.spawn(|| every_state(listen, body));
        }
    });
}

const OK: &str = "location / { return 200; }";

#[test]
fn plain_listeners_tell_the_truth_in_every_state() {
    matrix(&[
        ("listen IP:80;", OK),
        ("listen IP:80 proxy_protocol;", OK),
        ("listen IP:80 http2;", OK),
        ("listen IP:8100-8102;", OK),
        ("listen unix:DIR/x.sock;", OK),
        ("listen IP:80 default_server;", "return 444;"),
        ("listen IP:80; reset_timedout_connection on;", "return 444;"),
    ]);
}

#[test]
fn tls_listeners_tell_the_truth_in_every_state() {
    matrix(&[
        ("listen IP:443 ssl;", OK),
        ("listen IP:443 ssl http2;", OK),
        ("listen IP:443 ssl proxy_protocol;", OK),
        ("listen IP:443 ssl; ssl_protocols TLSv1.2;", "return 444;"),
        ("listen unix:DIR/x.sock ssl;", OK),
    ]);
}

#[test]
fn a_refused_handshake_is_an_answer_while_the_process_gives_it() {
    let place = Place::new().unwrap();
    let addr = SocketAddr::new(place.ip.into(), 443);
    let server = format!("listen {addr} ssl; ssl_reject_handshake on;");
    let nginx = Nginx::configured(&place, addr, "", &server).unwrap();
    configure(&place, &format!("[nginx]\nconf = {:?}\n", nginx.conf)).unwrap();
    nginx.launch().unwrap();
    assert!(wait_until(LIMIT, || runs(&nginx)));
    let daemon = Daemon::start(&place, &[]).unwrap();
    daemon.wait_for(200, LIMIT).unwrap();
    signal(&nginx, Signal::SIGSTOP);
    daemon.wait_for(503, LIMIT).unwrap();
}
