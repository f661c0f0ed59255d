//! How long a load balancer still sends requests to a target that is to be used no more, and whether it may be stopped.

use std::time::Duration;

use serde_json::Value;
use world::agent::{self, Running};
use world::fleet::{Fleet, OTHER, OURS, check};

use super::haproxy::World;
use super::{LONG, all, finish, result, up_to_three_times};

/// What is read off a clock on the wall, in milliseconds of the day.
fn of_the_day(at: &Value) -> f64 {
    let at: jiff::Timestamp = at.as_str().unwrap().parse().unwrap();
    let time = at.to_zoned(jiff::tz::TimeZone::UTC).time();
    let seconds =
        f64::from(time.hour()) * 3600.0 + f64::from(time.minute()) * 60.0 + f64::from(time.second());
    seconds * 1e3 + f64::from(time.subsec_nanosecond()) / 1e6
}

/// The drill's last request to this instance at each node, and the log's.
fn compared(world: &World) -> Result<(), String> {
    let nodes = world.haproxy.nodes();
    let args = [
        "drill",
        "drain",
        "--json",
        "--observe",
        "--wait",
        "--url",
        "http://alb.test/",
        "--rps",
        "40",
        "--baseline",
        "1s",
        "--expect-instance",
        OURS,
        "--resolve",
        &nodes,
    ];
    let mut drill = Running::spawn(&world.ours, agent::command(&world.ours, &args)).unwrap();
    let mut last = std::collections::BTreeMap::new();
    let mut drained = false;
    let result = loop {
        let line = drill.line(LONG).unwrap().expect("a result");
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["phase"] == "observe" && !drained {
            world.haproxy.drain(0).unwrap();
            drained = true;
        }
        if event["event"] == "request" && event["instance"] == OURS {
            last.insert(event["node"].as_str().unwrap().to_owned(), of_the_day(&event["at"]));
        }
        if event["event"] == "result" {
            break event;
        }
    };
    assert_eq!(drill.wait(LONG).unwrap().code(), Some(0), "{result:#}");
    assert_eq!(result["safe_to_stop"]["answer"], "yes", "{result:#}");
    let judged = world.haproxy.last_requests(0).unwrap();
    let far = |(node, at): (&String, &f64)| last.get(node).is_none_or(|ours| (ours - at).abs() > 50.0);
    if judged.len() != 2 || judged.iter().any(far) {
        return Err(format!("the log says {judged:?}, the drill {last:?}"));
    }
    Ok(())
}

#[test]
fn the_log_of_a_real_load_balancer_agrees_on_the_last_request() {
    up_to_three_times(|| World::new().map_or(Ok(()), |world| compared(&world)));
}

#[test]
fn a_target_that_is_used_is_not_safe_to_stop_and_an_unknown_one_cannot_be_told() {
    let fleet = Fleet::start(check(Duration::from_secs(1)), 2, false).unwrap();
    let nodes = fleet.nodes();
    let look = |instance: &str| {
        let args = [
            "drill",
            "drain",
            "--json",
            "--observe",
            "--secs",
            "1",
            "--url",
            "http://alb.test/",
            "--rps",
            "40",
            "--baseline",
            "1s",
            "--resolve",
            &nodes,
            "--expect-instance",
            instance,
        ];
        finish(agent::command(&fleet.place, &args))
    };
    let (code, events, stderr) = look(OTHER);
    assert_eq!((code, &result(&events)["safe_to_stop"]["answer"]), (1, &"no".into()), "{stderr}");
    let (code, events, stderr) = look("i-00000000000000bad");
    assert_eq!((code, &result(&events)["safe_to_stop"]["answer"]), (3, &"unknown".into()), "{stderr}");
    let args = [
        "drill",
        "drain",
        "--json",
        "--observe",
        "--secs",
        "1",
        "--url",
        "http://127.0.0.1:9/",
        "--expect-instance",
        OURS,
    ];
    let (code, _, stderr) = finish(agent::command(&fleet.place, &args));
    assert_eq!(code, 3, "nothing answers: {stderr}");
}

#[test]
fn this_target_is_drained_as_predicted_without_an_error_and_taken_back() {
    let fleet = Fleet::start(check(Duration::from_secs(1)), 2, true).unwrap();
    let nodes = fleet.nodes();
    up_to_three_times(|| {
        let args = [
            "drill",
            "drain",
            "--json",
            "--url",
            "http://alb.test/",
            "--rps",
            "40",
            "--baseline",
            "1s",
            "--resolve",
            &nodes,
            "--expect-instance",
            OURS,
            "--interval",
            "1s",
            "--timeout",
            "500ms",
            "--healthy",
            "2",
        ];
        let (code, events, stderr) = finish(agent::command(&fleet.place, &args));
        let last = result(&events);
        assert_eq!(
            (&last["errors"], &last["cleanup"]["answer"]),
            (&0.into(), &"yes".into()),
            "{stderr} {last:#}"
        );
        assert_eq!(last["since"], "health");
        let recovering = all(&events, "recovering");
        assert_eq!(recovering[0]["why"], "drained", "{recovering:?}");
        if code == 0 { Ok(()) } else { Err(format!("{stderr} {last:#}")) }
    });
}
