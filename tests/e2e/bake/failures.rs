//! Every call of AWS fails in turn, in every way: nothing is left behind and nothing is half published.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::World;

/// Runs `image`, its Nth call failing, for every N until a run gets by without its fault; `tries` says which ways the
/// call, as recorded, is to fail in.
fn every_call(pin: &str, args: &str, ways: fn(usize, &str) -> Vec<&'static str>) {
    let whole = World::new(pin);
    whole.image(args, None).done();
    let calls = whole.cloud.calls();
    let faults: Vec<String> = calls
        .iter()
        .enumerate()
        .flat_map(|(at, call)| ways(at, call).into_iter().map(move |way| format!("{way}:{}", at + 1)))
        .collect();
    assert!(faults.len() > 10, "{calls:?}");
    let next = AtomicUsize::new(0);
    // Two at a time: they wait for each other's processes more than for a CPU.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    strike(pin, args, fault, &calls);
                }
            });
        }
    });
}

fn strike(pin: &str, args: &str, fault: &str, calls: &[String]) {
    let world = World::new(pin);
    let before = world.holdings();
    let run = world.image(args, Some(fault));
    let at: usize = fault.split_once(':').unwrap().1.parse().unwrap();
    let context =
        || format!("{fault}, {}\n{}\n{}", calls[at - 1], run.stderr, world.cloud.calls().join("\n"));
    let after = world.holdings();
    let published = without_steps(&after)["templates"] != before["templates"];
    if published || run.code == Some(0) {
        // The fault came when all was done but for the leftovers, which were removed at the second try.
        assert_eq!(run.code, Some(0), "{}", context());
        assert_eq!(after["instances"], before["instances"], "{}", context());
        assert_eq!(
            (&after["groups"], &after["objects"]),
            (&before["groups"], &before["objects"]),
            "{}",
            context()
        );
        assert_eq!(after["templates"]["lt-web"]["default"], 2, "{}", context());
        assert_eq!(after["images"].as_object().unwrap().len(), 2, "{}", context());
        return;
    }
    assert_eq!(without_steps(&after), without_steps(&before), "{}", context());
    let expected = match fault.split_once(':').unwrap().0 {
        "TERM" => Some(143),
        "INT" => Some(130),
        _ => Some(1),
    };
    assert_eq!(run.code, expected, "{}", context());
    assert!(run.stdout.is_empty(), "{}", context());
    let left = std::fs::read_dir(world.place.path()).unwrap().flatten();
    assert!(!left.into_iter().any(|e| e.file_name().to_string_lossy().starts_with("tmp.")), "{}", context());
}

fn without_steps(holdings: &Value) -> Value {
    let mut holdings = holdings.clone();
    holdings.as_object_mut().unwrap().remove("steps");
    holdings
}

/// A call that changes something may have done so although it failed, and a signal may come during it.
fn changes(call: &str) -> bool {
    !["describe-", "get-", "presign", "configure", "head-", "list-"].iter().any(|read| call.contains(read))
}

#[test]
fn whichever_call_fails_nothing_is_left_and_nothing_half_published() {
    every_call("$Default", "--asg web --refresh", |at, call| match changes(call) {
        // Done although it failed is the harder case; not done is what every failed read stands for as well.
        true if at % 2 == 0 => vec!["after"],
        true => vec!["before", "after"],
        // Off EC2's path: it has a default.
        false if call.starts_with("configure get") || call.contains("-offerings") => vec![],
        false => vec!["before"],
    });
}

#[test]
fn whenever_it_is_interrupted_nothing_is_left_and_nothing_half_published() {
    every_call("1", "--asg web", |at, call| match (changes(call), at % 2) {
        (false, _) => vec![],
        (true, 0) => vec!["TERM"],
        (true, _) => vec!["INT"],
    });
}

#[test]
fn an_instance_that_does_not_verify_gives_no_image() {
    let world = World::new("$Default");
    let before = world.holdings();
    let mut state = world.cloud.state().unwrap();
    state["step_status"] = "Failed".into();
    world.cloud.save(&state).unwrap();
    let run = world.image("--asg web", None);
    assert!(run.code == Some(1) && run.stderr.contains("install on i-"), "{}", run.stderr);
    assert!(run.stderr.contains("ended as Failed: said why"), "{}", run.stderr);
    let after = world.holdings();
    for what in ["instances", "images", "snapshots", "groups", "objects", "templates"] {
        assert_eq!(after[what], before[what], "{what}");
    }
}

#[test]
fn what_a_killed_run_left_goes_by_its_id() {
    let world = World::new("$Default");
    let before = world.holdings();
    // Everything that tidies up fails as well, as after a SIGKILL.
    let mut state = world.cloud.state().unwrap();
    let tags = serde_json::json!({"ami-bake:run": "20260131T120000Z-0a1b2c3d"});
    state["instances"]["i-9"] = serde_json::json!({"state": "running", "image": "ami-base", "tags": tags, "looks": 0,
        "group": "sg-9", "token": ""});
    state["groups"]["sg-9"] = serde_json::json!({"tags": tags});
    state["snapshots"]["snap-9"] = serde_json::json!({"tags": tags});
    state["images"]["ami-9"] = serde_json::json!({"name": "half", "state": "available", "arch": "x86_64",
        "snapshot": "snap-9", "tags": tags, "created": 9});
    world.cloud.save(&state).unwrap();
    let plan = world.run("prune --run 20260131T120000Z-0a1b2c3d --dry-run").done();
    assert_eq!(plan.stdout.split_whitespace().collect::<Vec<_>>(), ["i-9", "ami-9", "snap-9", "sg-9"]);
    world.run("prune --run 20260131T120000Z-0a1b2c3d").done();
    assert_eq!(world.holdings(), before);
}
