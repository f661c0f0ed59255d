//! A fault from its beginning to its end, undisturbed or ended early.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use world::agent::{self, Running};
use world::place::wait_until;

use super::{LONG, World, exists, finish, names};

#[test]
fn stop_and_crash_take_nginx_away_and_bring_it_back() {
    for mode in ["stop", "crash"] {
        let world = World::new();
        let (master, workers) = (world.nginx.master().unwrap(), world.nginx.workers());
        let running = Running::spawn(&world.place, world.fail(&format!("--mode {mode} --secs 2"))).unwrap();
        let effective = running.event("effective", LONG).unwrap();
        assert_eq!(
            (&effective["mode"], &effective["observed"]),
            (&mode.into(), &"refuses connections".into())
        );
        assert!(!world.nginx.answers() && !exists(master));
        assert!(wait_until(LONG, || workers.iter().all(|w| !exists(*w))), "no worker survives");
        let result = running.event("result", LONG).unwrap();
        assert_eq!((&result["effective"], &result["recovered"]), (&true.into(), &true.into()));
        assert!(result["held_ms"].as_u64().unwrap() >= 1000 && result["first_ok_after_ms"].is_u64());
        world.is_well();
        assert_ne!(world.nginx.master().unwrap(), master);
    }
}

#[test]
fn the_events_come_in_their_order_and_the_history_tells_them() {
    let world = World::new();
    let (code, events, _) = finish(world.fail("--mode stop --secs 1"));
    assert_eq!(code, 0);
    let order = ["armed", "injected", "effective", "recovering", "recovered", "result"];
    assert_eq!(names(&events), order);
    assert_eq!(events[3]["why"], "deadline");
    world.is_well();
    let history = agent::events(world.history().as_bytes());
    assert_eq!(names(&history), ["armed", "effective", "recovered"]);
    assert!(history.iter().all(|line| line["mode"] == "stop" && line["id"] == history[0]["id"]));
}

#[test]
fn nginx_comes_back_as_it_was_started() {
    let world = World::new();
    let title = |pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let cwd = |pid| std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    let before = world.nginx.master().unwrap();
    let (arguments, folder) = (title(before), cwd(before));
    assert_eq!(finish(world.fail("--mode crash --secs 1")).0, 0);
    let after = world.nginx.master().unwrap();
    let options = |title: &[u8]| String::from_utf8_lossy(title).split_once(" -c ").unwrap().1.to_owned();
    assert_eq!(options(&title(after)), options(&arguments));
    assert_eq!(cwd(after), folder);
    let session = std::fs::read_to_string(format!("/proc/{after}/stat")).unwrap();
    assert_eq!(session.split_ascii_whitespace().nth(5).unwrap(), after.to_string(), "a session of its own");
}

#[test]
fn each_signal_of_the_terminal_ends_a_fault_early_and_twice_does_no_harm() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let world = World::new();
        let mut running = Running::spawn(&world.place, world.fail("--mode stop --secs 250")).unwrap();
        running.event("effective", LONG).unwrap();
        running.signal(signal).unwrap();
        let _ = running.signal(signal);
        assert_eq!(running.event("recovering", LONG).unwrap()["why"], "signal");
        let _ = running.signal(signal);
        assert_eq!(running.event("result", LONG).unwrap()["recovered"], true);
        assert_eq!(running.wait(LONG).unwrap().code(), Some(code));
        world.is_well();
    }
}

#[test]
fn a_fault_that_nobody_reads_any_more_ends_all_the_same() {
    let world = World::new();
    let mut command = world.fail("--mode stop --secs 2");
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    command.stdout(write.try_clone().unwrap()).stderr(write);
    assert_eq!(command.status().unwrap().code(), Some(0));
    world.is_well();
}

#[test]
fn a_detached_fault_is_ended_by_its_keeper() {
    let world = World::new();
    let (code, events, _) = finish(world.fail("--mode crash --secs 2 --detach"));
    assert_eq!(code, 0);
    let result = events.last().unwrap();
    assert_eq!((&result["detached"], &result["effective"]), (&true.into(), &true.into()));
    assert!(result["recovered"].is_null() && !world.nginx.answers());
    world.is_well();
    assert!(world.history().contains(r#""detail":"deadline""#));
}

#[test]
fn recover_ends_a_detached_fault_and_its_keeper_at_once() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode stop --secs 250 --detach")).0, 0);
    let keeper = world.keeper().unwrap();
    let (code, events, _) = world.run(&["recover", "--json"]);
    assert_eq!((code, names(&events)), (0, vec!["recovering", "recovered", "result"]));
    assert!(world.nginx.answers());
    assert!(wait_until(LONG, || !exists(keeper)), "the keeper ends");
    world.is_well();
}

#[test]
fn recover_elsewhere_ends_the_command_that_holds_the_fault() {
    let world = World::new();
    let mut running = Running::spawn(&world.place, world.fail("--mode stop --secs 250")).unwrap();
    running.event("effective", LONG).unwrap();
    assert_eq!(world.run(&["recover"]).0, 0);
    assert_eq!(running.event("result", LONG).unwrap()["recovered"], true);
    assert_eq!(running.wait(LONG).unwrap().code(), Some(0));
    world.is_well();
}

#[test]
fn recover_without_a_fault_says_so() {
    let world = World::new();
    let output = agent::run(&world.place, &["recover"]).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "no fault is active\n");
    assert_eq!(world.run(&["recover", "--json"]).1[0]["fault"], serde_json::Value::Null);
}

#[test]
fn a_dry_run_tells_all_and_touches_nothing() {
    let world = World::new();
    let (master, workers) = (world.nginx.master().unwrap(), world.nginx.workers());
    let (code, events, _) = finish(world.fail("--mode crash --dry-run"));
    assert_eq!((code, events.len()), (0, 1));
    assert_eq!((&events[0]["event"], &events[0]["pid"]), (&"plan".into(), &master.into()));
    assert_eq!(events[0]["workers"].as_array().unwrap().len(), workers.len());
    assert!(events[0]["restore"].as_str().unwrap().contains(world.nginx.conf.to_str().unwrap()));
    assert_eq!((world.nginx.master().unwrap(), world.nginx.workers()), (master, workers));
    assert!(!world.record().exists() && world.history().is_empty());
}

#[test]
fn unhealthy_and_slow_show_at_health_alone_and_end() {
    for (args, status) in [("--mode unhealthy --secs 4", 503), ("--mode slow --secs 6 --delay 700ms", 200)] {
        let world = World::new();
        let daemon = world.daemon();
        let mut all = vec!["fail", "--json"];
        all.extend(args.split(' '));
        let mut command = agent::command(&world.place, &all);
        // Where /health is, the daemon says itself.
        command.env("AGENT_SERVE_ADMIN", daemon.admin.to_string());
        let mut running = Running::spawn(&world.place, command).unwrap();
        running.event("effective", LONG).unwrap();
        let answer = daemon.health().unwrap();
        assert_eq!(answer.status, status, "{args}");
        assert!(status == 503 || answer.took >= Duration::from_millis(700), "{args}: {:?}", answer.took);
        assert!(world.nginx.answers());
        assert_eq!(running.event("result", LONG).unwrap()["recovered"], true);
        assert_eq!(running.wait(LONG).unwrap().code(), Some(0));
        let prompt = || daemon.health().is_ok_and(|a| a.status == 200 && a.took < Duration::from_millis(600));
        assert!(wait_until(LONG, prompt), "{args}");
    }
}

#[test]
fn a_fault_that_is_in_force_for_nobody_has_no_effect_and_says_so() {
    let world = World::new();
    // Nobody serves /health here.
    let health = format!("{}:9", world.place.ip);
    let mut command = agent::command(&world.place, &["fail", "--json", "--mode", "unhealthy", "--secs", "2"]);
    let start = Instant::now();
    let (code, events, stderr) = finish({
        command.env("AGENT_SERVE_LISTEN", health);
        command
    });
    assert_eq!((code, events.last().unwrap()["effective"].clone()), (1, false.into()), "{stderr}");
    assert!(stderr.contains("no effect") && start.elapsed() < LONG);
    assert!(!world.record().exists());
    world.is_well();
}
