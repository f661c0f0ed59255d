//! `agent watch` on a real terminal beside a real daemon.

mod page;

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::agent;
use world::daemon::Daemon;
use world::http;
use world::nginx::Nginx;
use world::place::{Place, wait_until};
use world::tmux::Tmux;

const UTF8: &[(&str, &str)] = &[("LC_ALL", "C.UTF-8")];

fn started(place: &Place) -> (Nginx, Daemon) {
    let nginx = Nginx::start(place, "", "add_header X-Instance-Id i-1; location / { return 200; }").unwrap();
    let conf = format!("[nginx]\nconf = \"{}\"\n", nginx.conf.display());
    agent::configure(place, &conf).unwrap();
    let daemon = Daemon::start(place, &[]).unwrap();
    (nginx, daemon)
}

fn watch(place: &Place, daemon: &Daemon, more: &str) -> String {
    format!(
        "{} watch --admin {} --config {}/agent.toml {more}",
        agent::binary().display(),
        daemon.admin,
        place.path().display()
    )
}

/// The pid of the view in a terminal of the place.
fn viewer(place: &Place) -> Option<i32> {
    let is_view = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(7).any(|w| w == b"\0watch\0"))
    };
    agent::processes(place).into_iter().find(is_view)
}

#[test]
fn every_size_shows_what_the_daemon_says() {
    let place = Place::new().unwrap();
    let (nginx, daemon) = started(&place);
    let terminal = Tmux::open(&place, 120, 40, UTF8).unwrap();
    terminal.line(&watch(&place, &daemon, &format!("--alarm 50 --url http://{}/", nginx.addr))).unwrap();
    for part in ["HEALTHY", "answered 200", "/health says", "0 of 3 > 50 %", "i-1", "% busy"] {
        terminal.wait_for(part).unwrap();
    }
    // A storm of sizes ends in a picture of the last one.
    for n in 0..20 {
        terminal.resize(60 + n * 5, 16 + n).unwrap();
    }
    for (width, height) in [(80, 24), (120, 40), (40, 10)] {
        terminal.resize(width, height).unwrap();
        let fits = |screen: &str| {
            let widest = screen.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            let framed =
                screen.lines().next().is_some_and(|line| line.starts_with('┌') && line.ends_with('┐'));
            screen.contains("HEALTHY") && widest <= usize::from(width) && (width < 60 || framed)
        };
        terminal.wait(fits).unwrap();
    }
    terminal.resize(100, 30).unwrap();
    nginx.stop().unwrap();
    terminal.wait_for("UNHEALTHY").unwrap();
    terminal.wait_for("/health says 503").unwrap();
    assert_eq!(daemon.status().unwrap()["health"]["status"], "fail");
    nginx.boot().unwrap();
    terminal.wait_for("/health says 200").unwrap();
}

#[test]
fn every_key_does_what_the_help_says_and_the_terminal_is_whole_after_it() {
    let place = Place::new().unwrap();
    let (_nginx, daemon) = started(&place);
    let terminal = Tmux::open(&place, 100, 30, UTF8).unwrap();
    terminal.line(&watch(&place, &daemon, "")).unwrap();
    terminal.wait_for("answered 200").unwrap();
    for (key, shows) in [
        ("?", "agent recover"),
        ("?", "CloudWatch"),
        ("+", "one cell = 10 s"),
        ("-", "one cell = 5 s"),
        ("Space", "held"),
        ("Space", "now"),
        ("Left", "30 s ago"),
        ("Right", "now"),
        ("w", "saved agent-watch.txt"),
    ] {
        terminal.key(key).unwrap();
        terminal.wait_for(shows).unwrap();
    }
    let saved = std::fs::read_to_string(place.join("agent-watch.txt")).unwrap();
    assert!(saved.contains("HEALTHY"), "{saved}");
    assert!(std::fs::read_to_string(place.join("agent-watch.svg")).unwrap().starts_with("<svg "));
    terminal.key("Tab").unwrap();
    terminal.wait(|screen| screen.contains("CloudWatch") && !screen.contains("nginx check")).unwrap();
    terminal.key("q").unwrap();
    terminal.is_whole().unwrap();
}

#[test]
fn ctrl_z_and_fg_and_every_end_leave_a_whole_terminal() {
    let place = Place::new().unwrap();
    let (_nginx, daemon) = started(&place);
    let terminal = Tmux::open(&place, 100, 30, UTF8).unwrap();
    let line = watch(&place, &daemon, "");
    terminal.line(&line).unwrap();
    terminal.wait_for("answered 200").unwrap();
    terminal.key("C-z").unwrap();
    terminal.wait_for("Stopped").unwrap();
    terminal.is_whole().unwrap();
    terminal.line("fg").unwrap();
    terminal.wait_for("only looks").unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGKILL] {
        let pid = viewer(&place).expect("a view");
        kill(Pid::from_raw(pid), signal).unwrap();
        terminal.is_whole().unwrap_or_else(|e| panic!("{signal}: {e}"));
        assert!(wait_until(Duration::from_secs(10), || viewer(&place).is_none()), "{signal}");
        terminal.line(&line).unwrap();
        terminal.wait_for("only looks").unwrap();
    }
}

#[test]
fn a_daemon_that_goes_is_told_and_one_that_comes_back_is_seen() {
    let place = Place::new().unwrap();
    let (_nginx, daemon) = started(&place);
    let terminal = Tmux::open(&place, 100, 30, &[("LC_ALL", "C"), ("NO_COLOR", "1")]).unwrap();
    terminal.line(&watch(&place, &daemon, "")).unwrap();
    terminal.wait_for("answered 200").unwrap();
    assert!(terminal.screen().is_ascii(), "{}", terminal.screen());
    let coloured = terminal.coloured();
    // 39 and 49 are the terminal's own colours.
    let colours = (30..38).chain(40..48).chain(90..98).map(|colour| format!("\u{1b}[{colour}m"));
    colours.into_iter().for_each(|colour| assert!(!coloured.contains(&colour), "{coloured:?}"));
    daemon.process.signal(Signal::SIGKILL).unwrap();
    terminal.wait_for("NO DAEMON").unwrap();
    drop(daemon);
    let _again = Daemon::start(&place, &[]).unwrap();
    terminal.wait_for("answers again").unwrap();
    terminal.wait_for("HEALTHY").unwrap();
}

#[test]
fn once_is_one_plain_picture_with_the_verdict_as_its_exit_code() {
    let place = Place::new().unwrap();
    let (nginx, daemon) = started(&place);
    let admin = format!("--admin={}", daemon.admin);
    let once = |more: &[&str]| agent::run(&place, &[&["watch", "--once", &admin], more].concat()).unwrap();
    let output = once(&[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("HEALTHY") && !text.contains('\u{1b}'), "{text}");
    let file = place.join("picture.svg");
    let output = once(&["--svg", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("HEALTHY") && svg.contains("/health says"), "{svg}");
    nginx.stop().unwrap();
    daemon.wait_for(503, Duration::from_secs(10)).unwrap();
    let output = once(&["--json"]);
    let event = agent::events(&output.stdout).pop().unwrap();
    assert_eq!((&event["event"], &event["status"]["health"]["status"]), (&"watch".into(), &"fail".into()));
    assert_eq!(output.status.code(), Some(1));
    drop(daemon);
    let output = once(&[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("NO DAEMON") && text.contains("% busy"), "{text}");
    let piped = agent::run(&place, &["watch", &admin]).unwrap();
    assert_eq!(piped.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&piped.stderr).contains("--once"), "{piped:?}");
}

#[test]
fn events_are_for_loopback_and_begin_with_the_last_hour() {
    let place = Place::new().unwrap();
    let (_nginx, daemon) = started(&place);
    assert!(wait_until(Duration::from_secs(15), || {
        let text =
            http::first_bytes(daemon.admin, "/events", 20_000, Duration::from_secs(3)).unwrap_or_default();
        text.contains("event: history") && text.contains("\"health\":true") && text.contains("event: status")
    }));
    let stranger = http::exchange(
        daemon.admin,
        None,
        b"GET /events HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        Duration::from_secs(5),
    );
    assert_eq!(stranger.unwrap().status, 403);
}
