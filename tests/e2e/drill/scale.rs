//! A group that grows under load and shrinks after it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;
use world::agent::{self, Running};
use world::alb::State;
use world::fleet::{Fleet, OTHER, check};
use world::place::wait_until;

use super::LONG;
use super::page::{browse, carried, shown};

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
    let page = fleet.place.join("report.html");
    let path = page.to_string_lossy().into_owned();
    let args: Vec<&str> = ARGS.into_iter().chain([nodes.as_str(), "--report", &path]).collect();
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
    assert_eq!(last["report"], path.as_str());
    the_page_shows(&fleet, &page, &last);
}

/// The figures on the page are those of the JSON.
fn the_page_shows(fleet: &Fleet, page: &Path, last: &Value) {
    let mut data = carried(&fs::read_to_string(page).unwrap());
    assert_eq!(data["requests"]["rows"].as_array().unwrap().len() as u64, last["requests"].as_u64().unwrap());
    data["result"]["report"] = last["report"].clone();
    assert_eq!(&data["result"], last);
    let Some((dom, console)) = browse(&fleet.place, page) else { return };
    assert_eq!(console, "");
    let secs = |value: &Value| format!("{:.3} s", value.as_f64().unwrap() / 1e3);
    for key in ["out_after_ms", "in_after_ms"] {
        assert_eq!(shown(&dom, key), secs(&last[key]));
    }
    for key in ["requests", "errors"] {
        assert_eq!(shown(&dom, key), last[key].to_string());
    }
    let all = last["instances"].as_array().unwrap();
    let newcomer = all.iter().find(|one| one["instance"] == OTHER).unwrap();
    // The last row of the table: who came.
    let stays = &dom[dom.find("<h2>Instances</h2>").unwrap()..];
    let row = &stays[stays.find(OTHER).unwrap()..];
    assert_eq!(shown(row, "came_after_ms"), secs(&newcomer["came_after_ms"]));
    assert_eq!(shown(row, "gone_after_ms"), secs(&newcomer["gone_after_ms"]));
    assert_eq!((shown(&dom, "out"), shown(&dom, "in")), ("yes".into(), "yes".into()));
    assert_eq!(shown(&dom, "rows"), format!("{} requests.", last["requests"]));
}

/// The policy that grows the group and shrinks it is played here: it lets an instance come when the alarm was said to fire, and
/// go when the one below may. Load, minutes and clocks are real.
#[test]
#[ignore = "takes 22 minutes: datapoints are minutes, and fifteen of them below the target let an instance go"]
fn each_step_of_a_whole_alarm_is_measured_beside_its_prediction() {
    let mut fleet = Fleet::start(check(Duration::from_secs(1)), 2, false).unwrap();
    let newcomer = fleet.nginx[1].addr;
    fleet.alb.deregister(newcomer).unwrap();
    let (nodes, page) = (fleet.nodes(), fleet.place.join("report.html"));
    let path = page.to_string_lossy().into_owned();
    let args = "drill scale --json --url http://alb.test/ --target 60 --secs 5m --alarm 20 --launch 1m --watch 25m --rps 10";
    let mut args: Vec<&str> = args.split_ascii_whitespace().collect();
    args.extend(["--resolve", &nodes, "--report", &path]);
    let mut drill = Running::start(&fleet.place, &args).unwrap();
    let until = |at: Timestamp| {
        let left = at.duration_since(Timestamp::now());
        std::thread::sleep(Duration::try_from(left).unwrap_or_default());
    };
    let told = drill.event("forecast", LONG).unwrap();
    assert_eq!(told["forecast"]["verdict"], "certain", "{told:#}");
    until(
        told["forecast"]["fires"].as_str().unwrap().parse::<Timestamp>().unwrap() + Duration::from_secs(30),
    );
    fleet.alb.register(newcomer).unwrap();
    while drill.event("phase", Duration::from_secs(400)).unwrap()["phase"] != "watch" {}
    until(Timestamp::now() + Duration::from_secs(15 * 60 + 30));
    fleet.alb.deregister(newcomer).unwrap();
    let last = drill.event("result", LONG).unwrap();
    assert_eq!(last["hypothesis"]["answer"], "yes", "{last:#}");
    assert_eq!(
        last["steps"].as_array().unwrap().iter().filter(|step| step["answer"] == "yes").count(),
        4,
        "{last:#}"
    );
    assert_eq!(drill.wait(LONG).unwrap().code(), Some(0));
    println!("{:#}", last["steps"]);
}

fn agents(fleet: &Fleet) -> usize {
    agent::processes(&fleet.place).len()
}

#[test]
fn a_killed_drill_leaves_no_load() {
    let fleet = Fleet::start(check(Duration::from_millis(500)), 1, false).unwrap();
    let nodes = fleet.nodes();
    let long = ARGS.map(|arg| if arg == "4" { "600" } else { arg });
    let args: Vec<&str> = long.into_iter().chain([nodes.as_str()]).collect();
    let mut drill = Running::start(&fleet.place, &args).unwrap();
    while drill.event("phase", LONG).unwrap()["phase"] != "load" {}
    assert!(wait_until(LONG, || agents(&fleet) >= 2), "the drill and its load");
    drill.signal(Signal::SIGKILL).unwrap();
    drill.wait(LONG).unwrap();
    assert!(wait_until(LONG, || agents(&fleet) == 0));
}

#[test]
fn interrupted_under_load_it_reports_and_leaves_no_load() {
    let fleet = Fleet::start(check(Duration::from_millis(500)), 1, false).unwrap();
    let (nodes, page) = (fleet.nodes(), fleet.place.join("report.html"));
    let path = page.to_string_lossy().into_owned();
    let args: Vec<&str> = ARGS.into_iter().chain([nodes.as_str(), "--report", &path]).collect();
    let mut drill = Running::start(&fleet.place, &args).unwrap();
    while drill.event("phase", LONG).unwrap()["phase"] != "load" {}
    drill.signal(Signal::SIGTERM).unwrap();
    let last = drill.event("result", LONG).unwrap();
    assert_eq!(last["out"], false, "{last:#}");
    assert_eq!(drill.wait(LONG).unwrap().code(), Some(143));
    assert!(wait_until(LONG, || agents(&fleet) == 0));
    let data = carried(&fs::read_to_string(page).unwrap());
    assert_eq!((&data["result"]["out"], &data["result"]["signal"]), (&false.into(), &15.into()));
}
