//! An effect that goes before its time: in every mode it is told when, by the command or by its keeper.

use std::process::Command;

use serde_json::Value;
use world::agent::{self, Running};
use world::cable::Cable;
use world::daemon::Daemon;
use world::place::{Place, wait_until};

use super::net::cable;
use super::{LONG, World, finish};

/// The command tells it, ends the fault, and fails.
fn is_told(mut running: Running, told: &str) {
    let lost = running.event("lost", LONG).unwrap();
    assert!(lost["what"].as_str().unwrap().contains(told), "{lost}");
    let recovering = running.event("recovering", LONG).unwrap();
    assert!(["lost", "undone"].map(Value::from).contains(&recovering["why"]), "{recovering}");
    let result = running.event("result", LONG).unwrap();
    assert_eq!((&result["effective"], &result["recovered"]), (&true.into(), &true.into()), "{result}");
    assert!(result["effective_ms"].as_u64().unwrap() < 250_000 && result["lost"].is_string(), "{result}");
    assert_eq!(running.wait(LONG).unwrap().code(), Some(1));
}

fn flush(cable: &Cable) {
    assert!(cable.in_server(Command::new("nft").args(["flush", "ruleset"])).status().unwrap().success());
}

#[test]
fn rules_that_somebody_flushes_are_told_in_every_mode_that_has_some() {
    for mode in ["drop", "reject", "error"] {
        let Some(cable) = cable() else { return };
        let running = Running::spawn(&cable.place, cable.fail(&format!("--mode {mode} --secs 250"))).unwrap();
        running.event("effective", LONG).unwrap();
        flush(&cable);
        is_told(running, "flushed by someone");
        assert_eq!(cable.sees(), "200", "{mode}");
        assert!(cable.has_no_rules() && !cable.record().exists(), "{mode}");
    }
}

#[test]
fn a_health_that_is_well_again_is_told() {
    for mode in ["unhealthy", "slow --delay 5s"] {
        let world = World::new();
        let daemon = world.daemon();
        let all = format!("fail --json --mode {mode} --secs 250");
        let mut fail = agent::command(&world.place, &all.split(' ').collect::<Vec<_>>());
        fail.env("AGENT_SERVE_ADMIN", daemon.admin.to_string());
        let running = Running::spawn(&world.place, fail).unwrap();
        running.event("effective", LONG).unwrap();
        // Somebody starts the daemon again, with another state folder: it knows of no fault.
        drop(daemon);
        let mut other = Place::new().unwrap();
        other.ip = world.place.ip;
        let daemon = Daemon::start(&other, &["--no-nginx"]).unwrap();
        is_told(running, "/health answers 200 again");
        drop(daemon);
        world.is_well();
    }
}

/// Nobody but the keeper is there: it tells the history, and ends the fault.
fn is_noted(place: &Place) {
    let text = || std::fs::read_to_string(place.join("log/faults.jsonl")).unwrap_or_default();
    assert!(wait_until(LONG, || text().contains(r#""event":"lost""#)), "{}", text());
    let over = || !place.join("state/fault.json").exists() && agent::processes(place).is_empty();
    assert!(wait_until(LONG, over), "{}", text());
    assert!(text().lines().next_back().unwrap().contains(r#""event":"recovered""#), "{}", text());
}

#[test]
fn a_detached_fault_whose_effect_goes_is_ended_by_its_keeper_and_the_history_says_so() {
    for mode in ["stop", "crash"] {
        let world = World::new();
        assert_eq!(finish(world.fail(&format!("--mode {mode} --secs 250 --detach"))).0, 0);
        assert!(!world.nginx.answers());
        world.nginx.boot().unwrap();
        let master = world.nginx.master().unwrap();
        is_noted(&world.place);
        assert_eq!(world.nginx.master().unwrap(), master, "{mode}: the one that was started meanwhile stays");
        world.is_well();
    }
    for mode in ["drop", "reject", "error"] {
        let Some(cable) = cable() else { return };
        assert_eq!(finish(cable.fail(&format!("--mode {mode} --secs 250 --detach"))).0, 0);
        flush(&cable);
        is_noted(&cable.place);
        assert_eq!(cable.sees(), "200", "{mode}");
    }
}
