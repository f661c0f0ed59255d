//! A group that grows under load and shrinks after it.

use std::time::Duration;

use nix::sys::signal::Signal;
use world::agent::{self, Running};
use world::alb::State;
use world::fleet::{Fleet, OTHER, check};
use world::place::wait_until;

use super::LONG;

const ARGS: [&str; 14] = [
    "drill",
    "scale",
    "--json",
    "--url",
    "http://alb.test/",
    "--baseline",
    "1s",
    "--target",
    "5",
    "--secs",
    "4",
    "--rps",
    "40",
    "--resolve",
];

#[test]
fn an_instance_that_comes_under_load_and_goes_after_it_is_told_with_its_times() {
    let mut fleet = Fleet::start(check(Duration::from_millis(500)), 2, false).unwrap();
    let newcomer = fleet.nginx[1].addr;
    fleet.alb.deregister(newcomer).unwrap();
    let nodes = fleet.nodes();
    let args: Vec<&str> = ARGS.into_iter().chain([nodes.as_str()]).collect();
    let mut drill = Running::start(&fleet.place, &args).unwrap();
    while drill.event("phase", LONG).unwrap()["phase"] != "load" {}
    fleet.alb.register(newcomer).unwrap();
    fleet.alb.wait_for(newcomer, State::Healthy, LONG).unwrap();
    let came = drill.event("instance", LONG).unwrap();
    assert_eq!((&came["instance"], &came["change"]), (&OTHER.into(), &"came".into()), "{came}");
    while drill.event("phase", LONG).unwrap()["phase"] != "watch" {}
    fleet.alb.deregister(newcomer).unwrap();
    let last = drill.event("result", LONG).unwrap();
    assert_eq!((&last["out"], &last["in"]), (&true.into(), &true.into()), "{last:#}");
    assert!(last["out_after_ms"].is_number() && last["in_after_ms"].is_number());
    assert_eq!(drill.wait(LONG).unwrap().code(), Some(0));
}

#[test]
fn interrupted_under_load_it_reports_and_leaves_no_load() {
    let fleet = Fleet::start(check(Duration::from_millis(500)), 1, false).unwrap();
    let nodes = fleet.nodes();
    let args: Vec<&str> = ARGS.into_iter().chain([nodes.as_str()]).collect();
    let mut drill = Running::start(&fleet.place, &args).unwrap();
    while drill.event("phase", LONG).unwrap()["phase"] != "load" {}
    drill.signal(Signal::SIGTERM).unwrap();
    let last = drill.event("result", LONG).unwrap();
    assert_eq!(last["out"], false, "{last:#}");
    assert_eq!(drill.wait(LONG).unwrap().code(), Some(143));
    let agents = || {
        let ours = |pid: &i32| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == agent::binary())
        };
        fleet.place.processes().into_iter().filter(ours).count()
    };
    assert!(wait_until(LONG, || agents() == 0));
}
