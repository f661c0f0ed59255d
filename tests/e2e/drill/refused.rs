//! What the baseline speaks against isn't made to fail, and the way out is named.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use world::alb::State;
use world::fleet::{Fleet, OTHER, OURS, check};
use world::place::Place;

use super::{LONG, all, finish, result};

const CHECK: &str = "--mode stop --secs 60 --rps 40 --interval 1s --timeout 500ms --healthy 2 --unhealthy 2";

fn fleet(targets: usize) -> Fleet {
    Fleet::start(check(Duration::from_secs(1)), targets, false).unwrap()
}

/// Exit 4 for this reason, with a way out, and nginx was never touched.
fn is_refused(fleet: &Fleet, command: Command, reason: &str) -> Value {
    let (code, events, stderr) = finish(command);
    let refused = all(&events, "refused");
    assert_eq!((code, refused.len()), (4, 1), "{reason}: {stderr}");
    let reasons = refused[0]["reasons"].as_array().unwrap();
    let found = reasons.iter().find(|one| one["reason"] == reason);
    let found = found.unwrap_or_else(|| panic!("{reason} is not in {reasons:?}"));
    assert!(!found["way_out"].as_str().unwrap().is_empty());
    assert!(stderr.contains("refused, nothing was touched") && stderr.contains("--force"), "{stderr}");
    assert!(fleet.nginx[0].answers() && !fleet.place.join("log/faults.jsonl").exists(), "{reason}");
    found.clone()
}

#[test]
fn the_only_target_is_not_made_to_fail() {
    let fleet = fleet(1);
    is_refused(&fleet, fleet.failover(CHECK), "only_target");
}

#[test]
fn a_group_at_its_minimum_is_not_made_smaller() {
    let fleet = fleet(2);
    for minimum in ["2", "60%"] {
        let found =
            is_refused(&fleet, fleet.failover(&format!("{CHECK} --routing-min {minimum}")), "at_minimum");
        assert!(found["why"].as_str().unwrap().contains(minimum), "{found}");
    }
}

#[test]
fn somebody_elses_group_teaches_nothing() {
    let mut fleet = fleet(2);
    fleet.alb.deregister(fleet.nginx[0].addr).unwrap();
    let found = is_refused(&fleet, fleet.failover(CHECK), "not_ours");
    assert!(found["why"].as_str().unwrap().contains(OTHER), "{found}");
    // It is the other one that is expected to fail, and this isn't it.
    let found = is_refused(&fleet, fleet.failover(&format!("{CHECK} --expect-instance {OTHER}")), "not_ours");
    assert!(found["why"].as_str().unwrap().contains(OURS), "{found}");
}

#[test]
fn without_a_name_nothing_can_be_told_and_nginx_is_asked_for_its_own() {
    let fleet = fleet(2);
    is_refused(&fleet, fleet.failover(&format!("{CHECK} --instance-header x-nobody")), "nameless");
    // No --expect-instance and no metadata service: nginx says it.
    let whole = fleet.failover(&format!("{CHECK} --routing-min 2"));
    let args: Vec<_> = whole.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let place = args.iter().position(|arg| arg == "--expect-instance").unwrap();
    let args: Vec<&str> = args[..place].iter().chain(&args[place + 2..]).map(String::as_str).collect();
    let found = is_refused(&fleet, world::agent::command(&fleet.place, &args), "at_minimum");
    assert!(found["why"].as_str().unwrap().contains("2 targets answer"), "{found}");
}

#[test]
fn a_load_balancer_that_answers_itself_is_not_measured() {
    let fleet = fleet(2);
    let rule = Place::new().unwrap();
    let listener = std::net::TcpListener::bind((rule.ip, 80)).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {
                    let answer = "HTTP/1.1 301 Moved Permanently\r\nServer: awselb/2.0\r\nContent-Length: 0\r\n\
                                  Location: https://alb.test:443/\r\n\r\n";
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    let found =
        is_refused(&fleet, fleet.failover(&format!("{CHECK} --resolve {}", rule.ip)), "answers_itself");
    assert!(found["way_out"].as_str().unwrap().contains("redirects"), "{found}");
}

#[test]
fn forced_it_says_what_it_does_and_does_it() {
    let fleet = fleet(1);
    let args = CHECK.replace("--secs 60", "--secs 3") + " --force";
    let (code, events, stderr) = finish(fleet.failover(&args));
    let last = result(&events);
    assert_eq!((code, last["predicted"]["takes_out"].as_bool()), (1, Some(false)), "{stderr} {last:#}");
    assert_eq!(all(&events, "refused")[0]["reasons"][0]["reason"], "only_target");
    assert!(stderr.contains("going on all the same"), "{stderr}");
}

#[test]
fn below_the_minimum_clients_lose_as_long_as_it_lasts_as_predicted() {
    let fleet =
        Fleet::start_with(check(Duration::from_secs(1)), 2, false, |settings| settings.group.routing_min = 2);
    let fleet = fleet.unwrap();
    let args = CHECK.replace("--secs 60", "--secs 5") + " --force --routing-min 2";
    let (_, events, stderr) = finish(fleet.failover(&args));
    let last = result(&events);
    let outage = &last["hypothesis"]["reasons"][0];
    assert_eq!(
        (outage["about"].as_str(), outage["answer"].as_str()),
        (Some("outage"), Some("yes")),
        "{stderr} {last:#}"
    );
    assert!(last["outage_ms"].as_f64().unwrap() > 4000.0, "{last:#}");
    fleet.alb.wait_for(fleet.nginx[0].addr, State::Healthy, LONG).unwrap();
}
