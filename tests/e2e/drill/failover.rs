//! A drill from its baseline to its verdict.

use std::time::Duration;

use serde_json::Value;
use world::agent::Running;
use world::fleet::{Fleet, OTHER, OURS, check};
use world::nginx::Nginx;
use world::place::Place;

use super::{LONG, all, finish, result, up_to_three_times};

const INTERVAL: Duration = Duration::from_secs(1);
const CHECK: &str = "--interval 1s --timeout 500ms --healthy 2 --unhealthy 2";

fn answers(result: &Value) -> [&str; 3] {
    ["hypothesis", "cleanup", "safety"].map(|question| result[question]["answer"].as_str().unwrap_or("none"))
}

/// The phases in their order.
fn phases(events: &[Value]) -> Vec<&str> {
    all(events, "phase").iter().map(|event| event["phase"].as_str().unwrap()).collect()
}

/// The events of a drill that ended with this exit code and these answers.
fn drill(fleet: &Fleet, args: &str, code: i32, wanted: [&str; 3]) -> Vec<Value> {
    let mut events = Vec::new();
    up_to_three_times(|| {
        let (found, told, stderr) = finish(fleet.failover(args));
        let last = result(&told);
        let right = found == code && answers(last) == wanted;
        let wrong = format!("exit code {found}: {stderr} {last:#}");
        events = told;
        if right { Ok(()) } else { Err(wrong) }
    });
    events
}

#[test]
fn a_stopped_nginx_is_an_outage_as_long_as_predicted() {
    let fleet = Fleet::start(check(INTERVAL), 2, false).unwrap();
    let events = drill(&fleet, &format!("--mode stop --secs 5 --rps 40 {CHECK}"), 0, ["yes"; 3]);
    let last = result(&events);
    assert_eq!(phases(&events), ["baseline", "fault", "hold", "readmission", "after"]);
    assert!(fleet.nginx[0].answers());
    let nodes = last["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2);
    for node in nodes {
        assert!(node["errors"].as_u64().unwrap() > 0 && node["failures"]["502"].is_u64(), "{node}");
        assert!(node["readmitted_after_ms"].is_number());
    }
    let names: Vec<_> = last["instances"].as_array().unwrap().iter().map(|i| &i["instance"]).collect();
    assert!(names.contains(&&OURS.into()) && names.contains(&&OTHER.into()));
    // Every request is told, and the result counts no others.
    let requests = all(&events, "request");
    assert_eq!(requests.len() as u64, last["requests"].as_u64().unwrap());
    let failed = requests.iter().filter(|r| r["status"] != 200);
    let starts: Vec<f64> = failed.map(|r| r["start_ms"].as_f64().unwrap()).collect();
    let first = starts.iter().copied().fold(f64::MAX, f64::min);
    let length = starts.iter().copied().fold(0.0, f64::max) - first;
    assert!((length - last["outage_ms"].as_f64().unwrap()).abs() < 0.01, "{length} {last:#}");
    for stream in ["new", "kept"] {
        assert!(requests.iter().any(|r| r["stream"] == stream));
    }
}

#[test]
fn a_crash_that_is_over_before_it_is_noticed_is_as_long_as_it_was() {
    let fleet = Fleet::start(check(INTERVAL * 5), 2, false).unwrap();
    let args = "--mode crash --secs 1 --rps 40 --interval 5s --timeout 2s --healthy 2 --unhealthy 2";
    let events = drill(&fleet, args, 0, ["yes"; 3]);
    let last = result(&events);
    let at = |key: &str| last[key].as_f64().unwrap();
    assert!(at("outage_ms") <= at("recovered_ms") - at("armed_ms"), "{last:#}");
}

#[test]
fn clients_of_a_target_that_hangs_wait_until_their_deadline() {
    let fleet = Fleet::start(check(INTERVAL), 2, false).unwrap();
    let args = format!("--mode hang --secs 5 --rps 40 --deadline 1s {CHECK}");
    let events = drill(&fleet, &args, 0, ["yes"; 3]);
    let last = result(&events);
    let nodes = last["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| node["failures"]["read_timeout"].as_u64().unwrap() > 0), "{last:#}");
    // An open loop: while answers are waited for, requests go on being sent.
    let sent = all(&events, "request").len() as f64;
    let phases = last["phases"].as_array().unwrap();
    let due = phases.last().unwrap()["end_ms"].as_f64().unwrap() / 1e3 * 80.0;
    assert!(sent > due * 0.9, "{sent} of {due} requests");
}

#[test]
fn with_one_target_the_load_balancer_fails_open_and_that_is_not_safe() {
    let fleet = Fleet::start(check(INTERVAL), 1, false).unwrap();
    let events =
        drill(&fleet, &format!("--mode stop --secs 5 --rps 40 --force {CHECK}"), 1, ["yes", "yes", "no"]);
    let last = result(&events);
    assert!(last["safety"]["why"][0].as_str().unwrap().contains("failed open"), "{last:#}");
    assert!(last["outage_ms"].as_f64().unwrap() > 4000.0);
}

#[test]
fn a_wrong_hypothesis_is_said_to_be_wrong() {
    let fleet = Fleet::start(check(INTERVAL), 2, false).unwrap();
    // The load balancer probes every second, not every ten.
    let args = "--mode stop --secs 6 --rps 40 --interval 10s --timeout 500ms --healthy 2 --unhealthy 2";
    drill(&fleet, args, 1, ["no", "yes", "yes"]);
}

/// A fault of `/health` alone: the target is drained, and no client gets an error.
fn drains_at_no_cost(args: &str) {
    let fleet = Fleet::start(check(INTERVAL), 2, true).unwrap();
    let events = drill(&fleet, &format!("{args} --secs 4 --rps 40 {CHECK}"), 0, ["yes"; 3]);
    let last = result(&events);
    assert_eq!((&last["errors"], &last["outage_ms"]), (&0.into(), &Value::Null));
    assert!(last["hypothesis"]["why"][1].as_str().unwrap().contains("drained after"), "{last:#}");
}

#[test]
fn what_only_probes_see_costs_clients_nothing_and_drains_the_target() {
    drains_at_no_cost("--mode unhealthy");
}

#[test]
fn a_health_check_answered_too_late_costs_clients_nothing_and_drains_the_target() {
    drains_at_no_cost("--mode slow --delay 2s");
}

#[test]
fn a_health_check_answered_late_but_in_time_drains_nothing() {
    let fleet = Fleet::start(check(INTERVAL), 2, true).unwrap();
    let events =
        drill(&fleet, &format!("--mode slow --delay 100ms --secs 2 --rps 40 {CHECK}"), 0, ["yes"; 3]);
    let last = result(&events);
    assert_eq!((&last["errors"], &last["predicted"]["detection"]), (&0.into(), &Value::Null), "{last:#}");
}

#[test]
fn an_instance_is_not_said_to_vanish_where_nobody_answers() {
    let place = Place::new().unwrap();
    let server = format!("location / {{ add_header X-Instance-Id {OURS}; return 200; }}");
    let nginx = Nginx::start(&place, "", &server).unwrap();
    let url = format!("http://{}/", nginx.addr);
    let args = "drill failover --json --observe --secs 4 --before 1s --expect-instance";
    let mut args: Vec<&str> = args.split_ascii_whitespace().collect();
    args.extend([OURS, "--url", &url]);
    let drill = Running::start(&place, &args).unwrap();
    while drill.event("phase", LONG).unwrap()["phase"] != "observe" {}
    nginx.stop().unwrap();
    let last = drill.event("result", LONG).unwrap();
    let reasons = last["hypothesis"]["reasons"].as_array().unwrap();
    let vanished = reasons.iter().find(|one| one["about"] == "vanished").unwrap();
    assert_eq!(vanished["answer"], "unknown", "{last:#}");
}

#[test]
fn a_failure_elsewhere_is_observed_and_the_instance_that_vanished_is_named() {
    let fleet = Fleet::start(check(INTERVAL), 2, false).unwrap();
    let args = format!("--observe --secs 6 --rps 40 --expect-instance {OTHER} {CHECK}");
    let drill = Running::spawn(&fleet.place, fleet.failover(&args)).unwrap();
    while drill.event("phase", LONG).unwrap()["phase"] != "observe" {}
    fleet.nginx[1].stop().unwrap();
    let last = drill.event("result", LONG).unwrap();
    // How long it was is another test's question.
    assert_eq!(last["cleanup"], Value::Null, "{last:#}");
    assert!(last["hypothesis"]["why"][1].as_str().unwrap().contains("vanished"), "{last:#}");
    assert!(last["outage_ms"].is_number());
}
