//! The metadata service: absent, slow, failing, of version 1 only; and what it announces.

use std::time::Duration;

use serde_json::Value;
use world::agent::configure;
use world::daemon::Daemon;
use world::imds::{Behaviour, Imds};
use world::place::{Place, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn start(imds: &Imds, place: &Place, more: &str) -> Daemon {
    let text = format!("[identity]\nendpoint = \"{}\"\nrefresh = \"1s\"\n{more}", imds.endpoint());
    configure(place, &text).unwrap();
    Daemon::start(place, &["--no-nginx"]).unwrap()
}

fn instance(daemon: &Daemon) -> Value {
    daemon.status().unwrap()["instance"].clone()
}

fn becomes(daemon: &Daemon, key: &str, value: &str) -> bool {
    wait_until(SOON, || instance(daemon)[key] == value)
}

#[test]
fn everything_the_service_knows_is_in_status() {
    let place = Place::new().unwrap();
    let imds = Imds::start(place.ip, "i-1", "us-east-1c").unwrap();
    let daemon = start(&imds, &place, "");
    assert!(becomes(&daemon, "instance", "i-1"));
    let known = instance(&daemon);
    assert_eq!((&known["zone"], &known["type"]), (&"us-east-1c".into(), &"t3.micro".into()));
    assert_eq!((&known["lifecycle_state"], &known["spot_action"]), (&"InService".into(), &"none".into()));
    imds.set("events/recommendations/rebalance", Some("{\"noticeTime\":\"2026-01-01T00:00:00Z\"}"));
    assert!(wait_until(SOON, || instance(&daemon)["rebalance"].as_str().unwrap().contains("noticeTime")));
    assert_eq!(daemon.health().unwrap().status, 200, "draining on notices is off");
}

#[test]
fn a_token_that_ended_is_renewed() {
    let place = Place::new().unwrap();
    let imds = Imds::start(place.ip, "i-1", "z").unwrap();
    let daemon = start(&imds, &place, "");
    assert!(becomes(&daemon, "instance", "i-1"));
    imds.expire_tokens();
    imds.set("spot/instance-action", Some("{\"action\":\"stop\"}"));
    assert!(wait_until(SOON, || instance(&daemon)["spot_action"].as_str().unwrap().contains("stop")));
    assert!(imds.answered(401) >= 1 && imds.tokens_asked() >= 2);
}

#[test]
fn off_ec2_and_with_version_1_alone_it_is_none_and_version_1_is_never_asked() {
    let place = Place::new().unwrap();
    let imds = Imds::start(place.ip, "i-1", "z").unwrap();
    imds.behave(Behaviour::V1Only);
    let daemon = start(&imds, &place, "");
    assert!(becomes(&daemon, "source", "none"));
    assert_eq!(instance(&daemon)["instance"], "none");
    assert!(imds.asked().iter().all(|asked| asked.method == "PUT"));
    assert_eq!(daemon.health().unwrap().header("x-instance-id"), Some("none"));
}

#[test]
fn a_service_that_is_switched_off_slow_or_failing_delays_no_probe() {
    for behaviour in
        [Behaviour::Status(403), Behaviour::Status(503), Behaviour::Slow(Duration::from_secs(3600))]
    {
        let place = Place::new().unwrap();
        let imds = Imds::start(place.ip, "i-1", "z").unwrap();
        imds.behave(behaviour);
        let daemon = start(&imds, &place, "");
        assert_eq!(daemon.health().unwrap().status, 200, "{behaviour:?}");
        assert_ne!(instance(&daemon)["source"], "imds");
        // It comes back by itself.
        imds.behave(Behaviour::V2);
        assert!(becomes(&daemon, "instance", "i-1"), "{behaviour:?}");
    }
}

#[test]
fn a_target_that_leaves_drains_only_where_asked_to() {
    let place = Place::new().unwrap();
    let imds = Imds::start(place.ip, "i-1", "z").unwrap();
    let daemon = start(&imds, &place, "drain_on = [\"lifecycle\"]\n");
    assert!(becomes(&daemon, "instance", "i-1"));
    assert_eq!(daemon.health().unwrap().status, 200);
    imds.set("autoscaling/target-lifecycle-state", Some("Terminated"));
    daemon.wait_for(503, SOON).unwrap();
    assert!(daemon.check("leaving").unwrap()["detail"].as_str().unwrap().contains("Terminated"));
    imds.set("autoscaling/target-lifecycle-state", Some("InService"));
    daemon.wait_for(200, SOON).unwrap();
}

#[test]
fn an_announced_end_stays_announced_until_the_service_itself_withdraws_it() {
    let place = Place::new().unwrap();
    let mut imds = Imds::start(place.ip, "i-1", "z").unwrap();
    let daemon = start(&imds, &place, "drain_on = [\"spot\"]\n");
    assert!(becomes(&daemon, "instance", "i-1"));
    imds.set("spot/instance-action", Some("{\n\t\"action\": \"terminate\",\r\n\t\"time\": \"soon\"\n}\n"));
    daemon.wait_for(503, SOON).unwrap();
    let detail = daemon.check("leaving").unwrap()["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "EC2 will terminate this Spot instance at soon");
    // Each kind of failure is awaited in `status`, and the verdict looked at then.
    let failures = |daemon: &Daemon| {
        let paths = instance(daemon)["paths"].clone();
        let spot =
            paths.as_array().unwrap().iter().find(|p| p["path"] == "spot/instance-action").unwrap().clone();
        spot["error"].as_str().unwrap_or("").to_owned()
    };
    let still = |daemon: &Daemon, error: &str| {
        assert!(wait_until(SOON * 2, || failures(daemon).contains(error)), "{error}: {}", failures(daemon));
        assert_eq!(daemon.health().unwrap().status, 503, "{error}");
        assert!(instance(daemon)["spot_action"].as_str().unwrap().contains("terminate"), "{error}");
    };
    // In between it answers, so that the next failure is a first one and is soon followed by another question.
    let well = |daemon: &Daemon| assert!(wait_until(SOON, || failures(daemon).is_empty()));
    for status in [503, 429, 403] {
        imds.fail("meta-data/spot/instance-action", Some(status));
        still(&daemon, &status.to_string());
        imds.fail("meta-data/spot/instance-action", None);
        well(&daemon);
    }
    for broken in ["{\"action\":", "<html>"] {
        imds.set("spot/instance-action", Some(broken));
        still(&daemon, "not an answer");
        imds.set("spot/instance-action", Some("{\"action\": \"terminate\"}"));
        well(&daemon);
    }
    imds.vanish();
    still(&daemon, "no instance metadata service answers");
    imds.appear().unwrap();
    imds.set("spot/instance-action", None);
    daemon.wait_for(200, SOON * 2).unwrap();
}

#[test]
fn every_state_that_is_not_in_service_drains() {
    let place = Place::new().unwrap();
    let imds = Imds::start(place.ip, "i-1", "z").unwrap();
    let daemon = start(&imds, &place, "drain_on = [\"lifecycle\"]\n");
    for state in ["Warmed:Running", "Standby", "Detached", "Terminating:Retained"] {
        imds.set("autoscaling/target-lifecycle-state", Some(state));
        daemon.wait_for(503, SOON).unwrap();
        assert!(wait_until(SOON, || instance(&daemon)["lifecycle_state"] == state));
        imds.set("autoscaling/target-lifecycle-state", Some("InService"));
        daemon.wait_for(200, SOON).unwrap();
    }
}

#[test]
fn a_path_that_is_forbidden_leaves_the_rest_known() {
    for forbidden in [
        "instance-id",
        "placement/availability-zone",
        "autoscaling/target-lifecycle-state",
        "spot/instance-action",
    ] {
        let place = Place::new().unwrap();
        let imds = Imds::start(place.ip, "i-1", "z").unwrap();
        imds.fail(&format!("meta-data/{forbidden}"), Some(403));
        imds.set(
            "dynamic/instance-identity/document",
            Some(
                "{ \"instanceId\" : \"i-1\", \"availabilityZone\" : \"z\", \"instanceType\" : \"t3.nano\" }",
            ),
        );
        let daemon = start(&imds, &place, "");
        assert!(becomes(&daemon, "source", "imds"), "{forbidden}");
        let known = instance(&daemon);
        assert_eq!(
            (&known["instance"], &known["zone"]),
            (&"i-1".into(), &"z".into()),
            "{forbidden}: {known}"
        );
        assert_eq!(known["type"], "t3.micro", "{forbidden}: {known}");
        let from = if forbidden == "instance-id" { "document" } else { "imds" };
        assert_eq!(known["instance_from"], from);
        let told = known["paths"].as_array().unwrap().iter().filter(|path| !path["error"].is_null());
        assert_eq!(told.map(|path| path["path"].clone()).collect::<Vec<_>>(), [forbidden]);
    }
}

#[test]
fn where_the_service_is_switched_off_the_hardware_tells_the_id() {
    let place = Place::new().unwrap();
    let imds = Imds::start(place.ip, "i-1", "z").unwrap();
    imds.behave(Behaviour::Status(403));
    std::fs::write(place.join("asset-tag"), "i-0a5cade0000000001\n").unwrap();
    let daemon = start(&imds, &place, "");
    assert!(becomes(&daemon, "source", "none"));
    assert_eq!(instance(&daemon)["instance"], "i-0a5cade0000000001");
    assert_eq!(daemon.health().unwrap().header("x-instance-id"), Some("i-0a5cade0000000001"));
}

#[test]
fn answers_that_are_no_metadata_never_reach_a_header() {
    let place = Place::new().unwrap();
    let imds = Imds::start(place.ip, "i-1\u{1}X", "z").unwrap();
    let daemon = start(&imds, &place, "");
    assert!(wait_until(SOON, || imds.asked().len() >= 2));
    assert_eq!(daemon.health().unwrap().header("x-instance-id"), Some("unknown"));
}
