//! What is refused, with its exit code, and that nothing was touched then.

use std::os::unix::process::CommandExt;

use world::agent::{self, Running};
use world::nginx::Nginx;
use world::place::{Place, wait_until};

use super::{LONG, World, finish};

#[test]
fn wrong_usage_is_told_with_exit_2() {
    let world = World::new();
    for (args, told) in [
        ("--mode nap", "invalid value 'nap'"),
        ("--mode stop --secs 0", "lasts 1 to 300 s"),
        ("--mode stop --secs 2h --force", "up to 3600"),
        ("--mode stop --secs soon", "is no duration"),
        ("--mode stop --delay 5s", "--delay is for --mode slow"),
        ("--mode unhealthy", "touches no nginx"),
    ] {
        let (code, _, stderr) = finish(world.fail(args));
        assert_eq!(code, 2, "{args}: {stderr}");
        assert!(stderr.contains(told), "{args}: {stderr}");
    }
}

#[test]
fn a_long_outage_must_be_meant() {
    let world = World::new();
    let master = world.nginx.master().unwrap();
    let (code, _, stderr) = finish(world.fail("--mode stop --secs 301"));
    assert!(code == 4 && stderr.contains("add --force"), "{code} {stderr}");
    world.is_untouched(master);
    assert_eq!(finish(world.fail("--mode stop --secs 301 --force --dry-run")).0, 0);
}

#[test]
fn a_second_fault_is_refused_and_told_of_the_first() {
    let world = World::new();
    let running = Running::spawn(&world.place, world.fail("--mode stop --secs 250")).unwrap();
    running.event("effective", LONG).unwrap();
    let (code, _, stderr) = finish(world.fail("--mode crash"));
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("a fault is active already: stop on nginx"), "{stderr}");
    running.end(nix::sys::signal::Signal::SIGTERM).unwrap();
    world.is_well();
}

#[test]
fn of_two_that_race_one_wins() {
    let world = World::new();
    let mut racers: Vec<_> =
        (0..4).map(|_| Running::spawn(&world.place, world.fail("--mode stop --secs 250")).unwrap()).collect();
    let record = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(world.record()).ok()?).ok();
    assert!(wait_until(LONG, || record().is_some_and(|record| record["phase"] == "injected")));
    let winner = record().unwrap()["holder"]["pid"].as_i64().unwrap();
    let winner = racers.iter().position(|racer| i64::from(racer.pid()) == winner).unwrap();
    let winner = racers.swap_remove(winner);
    for mut loser in racers {
        assert_eq!(loser.wait(LONG).unwrap().code(), Some(4), "{}", loser.stderr());
    }
    assert_eq!(winner.end(nix::sys::signal::Signal::SIGTERM).unwrap().code(), Some(143));
    world.is_well();
}

#[test]
fn an_nginx_that_is_not_well_is_left_alone() {
    let world = World::new();
    for pid in world.nginx.workers() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGSTOP).unwrap();
    }
    let (code, _, stderr) = finish(world.fail("--mode stop"));
    assert!(code == 4 && stderr.contains("does not answer"), "{code} {stderr}");
    for pid in world.nginx.workers() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGCONT).unwrap();
    }
    world.is_well();
}

#[test]
fn without_nginx_it_cannot_be_told() {
    let world = World::new();
    world.nginx.stop().unwrap();
    let (code, _, stderr) = finish(world.fail("--mode stop"));
    assert!(code == 3 && stderr.contains("no nginx found"), "{code} {stderr}");
}

#[test]
fn of_several_nginx_one_must_be_named() {
    let (one, other) = (World::new(), Place::new().unwrap());
    let second = Nginx::start(&other, "", "location / { return 200; }").unwrap();
    let (code, _, stderr) = one.run(&["fail", "--mode", "stop"]);
    assert_eq!(code, 4, "{stderr}");
    for nginx in [&one.nginx, &second] {
        let named = format!("--pid {} (--conf {})", nginx.master().unwrap(), nginx.conf.display());
        assert!(stderr.contains(&named), "{stderr}");
    }
    let master = second.master().unwrap();
    assert_eq!(finish(one.fail("--mode crash --secs 1")).0, 0);
    assert_eq!(second.master().unwrap(), master);
    assert!(second.answers() && second.workers().len() == 2);
}

#[test]
fn who_is_not_root_may_not() {
    let world = World::new();
    let master = world.nginx.master().unwrap();
    for mode in ["stop", "unhealthy"] {
        // The binary may lie where only root looks.
        let copy = world.place.join("agent");
        world::program::copy(agent::binary(), &copy).unwrap();
        let mut command = std::process::Command::new(&copy);
        command.args(["fail", "--mode", mode]).uid(65534).gid(65534).current_dir("/").env_clear();
        let (code, _, stderr) = finish(command);
        assert!(code == 3 && stderr.contains("sudo"), "{code} {stderr}");
    }
    world.is_untouched(master);
}

/// The same command, started by another one.
fn through(wrapper: &[&str], command: &std::process::Command) -> std::process::Command {
    let mut outer = std::process::Command::new(wrapper[0]);
    outer.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    outer.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.current_dir(command.get_current_dir().unwrap());
    outer
}

#[test]
fn where_nft_is_missing_it_is_named_and_the_other_modes_work() {
    let world = World::new();
    let master = world.nginx.master().unwrap();
    // Everything that lies in nft's folders, but for nft.
    let without = "mkdir layers; mount -t tmpfs none layers; mkdir layers/up layers/work; \
                   mount -t overlay -o lowerdir=/usr/sbin,upperdir=layers/up,workdir=layers/work none /usr/sbin; \
                   rm -f /usr/sbin/nft /sbin/nft /usr/local/sbin/nft; exec \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-ec", without, "sh"];
    let fail = world.fail("--mode drop --secs 2");
    let (code, _, stderr) = finish(through(&wrapper, &fail));
    assert!(code == 3 && stderr.contains("nft is missing: install the package nftables"), "{code} {stderr}");
    world.is_untouched(master);
    let (code, _, stderr) = finish(through(
        &["unshare", "--mount", "sh", "-ec", &without.replace("mkdir layers;", ""), "sh"],
        &world.fail("--mode crash --secs 1"),
    ));
    assert_eq!(code, 0, "{stderr}");
    world.is_well();
}

#[test]
fn a_missing_capability_is_named() {
    for (mode, capability, told) in [
        ("hang", "-sys_ptrace", "CAP_SYS_PTRACE is missing"),
        ("drop", "-net_admin", "Operation not permitted"),
    ] {
        let world = World::new();
        let master = world.nginx.master().unwrap();
        let fail = world.fail(&format!("--mode {mode} --secs 2"));
        let (code, _, stderr) = finish(through(&["setpriv", &format!("--bounding-set={capability}")], &fail));
        assert!(
            code == 3 && stderr.contains(told) && stderr.contains("not possible here"),
            "{code} {stderr}"
        );
        world.is_untouched(master);
    }
}

#[test]
fn what_fails_already_is_not_made_to_fail() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 502; }").unwrap();
    let world = World { nginx, place };
    let (code, _, stderr) = finish(world.fail("--mode stop"));
    assert!(code == 4 && stderr.contains("answers 502"), "{code} {stderr}");
    let daemon =
        world::daemon::Daemon::start(&world.place, &[&format!("--nginx-url=http://{}/", world.nginx.addr)])
            .unwrap();
    daemon.wait_for(503, LONG).unwrap();
    let mut command = agent::command(&world.place, &["fail", "--mode", "unhealthy"]);
    command.env("AGENT_SERVE_ADMIN", daemon.admin.to_string());
    let (code, _, stderr) = finish(command);
    assert!(code == 4 && stderr.contains("answers 503 already"), "{code} {stderr}");
    drop(daemon);
    world.is_untouched(world.nginx.master().unwrap());
}
