//! The name's addresses: each is measured, also when one dies, or goes and another comes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use world::agent::{self, Running};
use world::nginx::Nginx;
use world::place::Place;

use super::{LONG, finish, result};
use crate::fault::skipped;

/// The same command with a hosts file of its own: the system's resolver reads it (nss_files), nobody else sees it.
fn with_hosts(command: &Command, hosts: &Path) -> Option<Command> {
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(hosts);
    inside.arg(command.get_program()).args(command.get_args()).env_clear();
    inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    inside.current_dir(command.get_current_dir()?);
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts"]).arg(hosts);
    if probe.output().is_ok_and(|output| output.status.success()) {
        return Some(inside);
    }
    skipped("unshare(1) or the permission for a mount of one's own is missing");
    None
}

fn nodes(count: usize) -> Vec<(Place, Nginx)> {
    let node = |_| {
        let place = Place::new().unwrap();
        let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
        (place, nginx)
    };
    (0..count).map(node).collect()
}

fn hosts(place: &Place, nodes: &[&(Place, Nginx)]) -> PathBuf {
    let path = place.join("hosts");
    let lines: String = nodes.iter().map(|(node, _)| format!("{} alb.test\n", node.ip)).collect();
    // In place: what is mounted is this very file.
    fs::write(&path, format!("127.0.0.1 localhost\n{lines}")).unwrap();
    path
}

fn observe(place: &Place, secs: &str) -> Command {
    let args = [
        "drill",
        "failover",
        "--observe",
        "--json",
        "--url",
        "http://alb.test/",
        "--baseline",
        "1s",
        "--secs",
        secs,
    ];
    agent::command(place, &args)
}

fn by_node<'a>(result: &'a Value, node: &Place) -> &'a Value {
    let name = format!("{}:80", node.ip);
    result["nodes"].as_array().unwrap().iter().find(|one| one["node"] == name.as_str()).unwrap()
}

#[test]
fn every_address_of_the_name_is_measured_on_its_own() {
    let (place, all) = (Place::new().unwrap(), nodes(2));
    let hosts = hosts(&place, &all.iter().collect::<Vec<_>>());
    let Some(command) = with_hosts(&observe(&place, "1"), &hosts) else { return };
    let (_, events, stderr) = finish(command);
    let last = result(&events);
    for (node, _) in &all {
        let found = by_node(last, node);
        assert!(found["requests"].as_u64().unwrap() > 10 && found["errors"] == 0, "{stderr} {found}");
    }
}

#[test]
fn an_address_that_dies_is_an_outage_of_that_node_alone() {
    let (place, all) = (Place::new().unwrap(), nodes(2));
    let hosts = hosts(&place, &all.iter().collect::<Vec<_>>());
    let Some(command) = with_hosts(&observe(&place, "3"), &hosts) else { return };
    let drill = Running::spawn(&place, command).unwrap();
    while drill.event("phase", LONG).unwrap()["phase"] != "observe" {}
    all[1].1.stop().unwrap();
    let last = drill.event("result", LONG).unwrap();
    assert_eq!(by_node(&last, &all[0].0)["errors"], 0, "{last:#}");
    assert!(by_node(&last, &all[1].0)["failures"]["refused"].as_u64().unwrap() > 10, "{last:#}");
}

#[test]
fn an_address_that_the_name_loses_is_asked_no_more_and_a_new_one_is() {
    let (place, all) = (Place::new().unwrap(), nodes(2));
    let path = hosts(&place, &[&all[0]]);
    let Some(command) = with_hosts(&observe(&place, "60"), &path) else { return };
    let drill = Running::spawn(&place, command).unwrap();
    while drill.event("phase", LONG).unwrap()["phase"] != "observe" {}
    hosts(&place, &[&all[1]]);
    let start = Instant::now();
    let (mut added, mut removed) = (false, false);
    while !(added && removed) {
        let event = drill.event("node", LONG).unwrap();
        added |= event["change"] == "added" && event["node"] == format!("{}:80", all[1].0.ip).as_str();
        removed |= event["change"] == "removed" && event["node"] == format!("{}:80", all[0].0.ip).as_str();
        assert!(start.elapsed() < LONG);
    }
    // Gone from the name, it may go: nobody asks it.
    all[0].1.stop().unwrap();
    let answered =
        |event: &Value| event["node"] == format!("{}:80", all[1].0.ip).as_str() && event["status"] == 200;
    while !answered(&drill.event("request", LONG).unwrap()) {}
    std::thread::sleep(Duration::from_millis(500)); // nothing tells of requests that aren't sent
    drill.signal(nix::sys::signal::Signal::SIGINT).unwrap();
    let last = drill.event("result", LONG).unwrap();
    assert_eq!(by_node(&last, &all[0].0)["present"], false, "{last:#}");
    assert_eq!(by_node(&last, &all[0].0)["errors"], 0, "{last:#}");
    assert!(by_node(&last, &all[1].0)["requests"].as_u64().unwrap() > 0);
}
