//! nginx comes back as it was started: its environment, its user, and what is done when that can't be had.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use world::http;
use world::place::Place;

use super::{LONG, World, finish};

/// Starts nginx anew, by `start` and with what it adds to the environment.
fn restarted(world: &World, start: &[&str], environment: &[(&str, &str)]) {
    world.nginx.stop().unwrap();
    let mut command = Command::new(start[0]);
    command.args(&start[1..]).args(["-c", world.nginx.conf.to_str().unwrap(), "-p"]);
    command.arg(world.nginx.prefix()).env_clear().envs(environment.iter().copied()).current_dir("/");
    command.env("PATH", std::env::var_os("PATH").unwrap());
    assert!(command.status().unwrap().success());
    assert!(world::place::wait_until(LONG, || world.nginx.answers()));
}

/// What the last line of the access log says of the time zone.
fn zone(world: &World) -> String {
    http::get(world.nginx.addr, "/", LONG).unwrap();
    let log = std::fs::read_to_string(world.nginx.access_log()).unwrap();
    let line = log.lines().next_back().unwrap();
    line.split_once("] ").unwrap().0.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn nginx_gets_its_environment_back_and_nobody_else_could_read_it() {
    let world = World::new();
    // TZ shows in the log; the secret is one that `env` hands to nginx's modules.
    restarted(&world, &["nginx"], &[("TZ", "Asia/Tokyo"), ("SECRET", "hunter2"), ("LISTEN_FDS", "1")]);
    assert_eq!(zone(&world), "+0900");
    for mode in ["stop", "crash"] {
        assert_eq!(finish(world.fail(&format!("--mode {mode} --secs 250 --detach"))).0, 0);
        let kept = world.place.join("state/fault.environ");
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&kept).unwrap();
        assert!(text.contains("SECRET=hunter2\0") && text.contains("TZ=Asia/Tokyo\0"));
        let told = std::fs::read_to_string(world.record()).unwrap() + &world.history();
        assert!(!told.contains("hunter2"), "{told}");
        assert_eq!(world.run(&["recover"]).0, 0);
        assert!(!kept.exists(), "{mode}: no secret stays behind");
        world.is_well();
        assert_eq!(zone(&world), "+0900", "{mode}");
    }
}

#[test]
fn nginx_comes_back_as_the_user_that_ran_it() {
    let world = World::new();
    world.nginx.stop().unwrap();
    let conf = std::fs::read_to_string(&world.nginx.conf).unwrap();
    // Not root: no `user`, and a port that anybody may have.
    let port = format!("{}:8088", world.place.ip);
    let conf = conf.replace("user root;", "").replace(&world.nginx.addr.to_string(), &port);
    std::fs::write(&world.nginx.conf, conf).unwrap();
    let theirs = Command::new("chown").args(["-R", "65534:65534"]).arg(world.nginx.prefix()).status();
    assert!(theirs.unwrap().success());
    let mut nginx = Command::new("setpriv");
    nginx.args(["--reuid=65534", "--regid=65534", "--groups=4,65534", "nginx", "-c"]).arg(&world.nginx.conf);
    assert!(nginx.arg("-p").arg(world.nginx.prefix()).status().unwrap().success());
    let who = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", world.nginx.master().unwrap())).unwrap();
        let line = |name| status.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        [line("Uid:"), line("Gid:"), line("Groups:")]
    };
    // It has its pid file before it has its title.
    assert!(world::place::wait_until(LONG, || world.nginx.workers().len() == 2));
    let before = (world.nginx.master().unwrap(), who());
    assert!(before.1[0].contains("65534"), "{before:?}");
    let (code, events, stderr) = finish(world.fail("--mode crash --secs 1"));
    assert_eq!((code, &events.last().unwrap()["recovered"]), (0, &true.into()), "{stderr}");
    assert_ne!(world.nginx.master().unwrap(), before.0);
    assert_eq!(who(), before.1);
}

#[test]
fn a_fault_ends_although_its_record_has_become_unreadable() {
    for mode in ["stop", "crash"] {
        let world = World::new();
        assert_eq!(finish(world.fail(&format!("--mode {mode} --secs 2 --detach"))).0, 0);
        std::fs::write(world.record(), "{ not a rec").unwrap();
        world.is_well();
        assert!(world.history().contains(r#""detail":"deadline""#), "{mode}: {}", world.history());
    }
}

#[test]
fn a_crash_that_something_else_undoes_is_over_and_says_so() {
    let world = World::new();
    let mut running =
        world::agent::Running::spawn(&world.place, world.fail("--mode crash --secs 250")).unwrap();
    running.event("effective", LONG).unwrap();
    world.nginx.boot().unwrap();
    let master = world.nginx.master().unwrap();
    assert_eq!(running.event("recovering", LONG).unwrap()["why"], "undone");
    assert_eq!(running.wait(LONG).unwrap().code(), Some(1));
    assert_eq!(world.nginx.master().unwrap(), master, "the one that was started meanwhile stays");
    world.is_well();
}

#[test]
fn a_stale_pid_file_that_names_another_nginx_hurts_nobody() {
    let world = World::new();
    let elsewhere = Place::new().unwrap();
    let other = world::nginx::Nginx::start(&elsewhere, "", "location / { return 200; }").unwrap();
    let (master, workers) = (other.master().unwrap(), other.workers());
    assert_eq!(finish(world.fail("--mode crash --secs 250 --detach")).0, 0);
    std::fs::write(world.nginx.prefix().join("nginx.pid"), master.to_string()).unwrap();
    assert_eq!(world.run(&["recover"]).0, 0);
    world.is_well();
    assert_eq!((other.master().unwrap(), other.workers()), (master, workers));
}
