//! `ami-bake.sh acceptance`: it proves what it can, says so, and leaves nothing, whatever ends it.

use std::fs;

use serde_json::Value;

use super::{Run, World};

/// A run whose Nth call fails in some way, and the world after it.
fn accept(fault: Option<&str>) -> (World, Run) {
    let world = World::new("1");
    let rpm = world.rpm().display().to_string();
    let report = world.place.join("report").display().to_string();
    let mut command =
        world.command(&format!("acceptance --rpm {rpm} --region eu-west-1 --yes --report {report}"));
    if let Some(fault) = fault {
        command.env("STAND_IN_FAULT", fault);
        // What never goes needn't be waited for.
        if fault.starts_with("never") {
            command.env("AMI_BAKE_PATIENCE", "12");
        }
    }
    let run = Run::of(command);
    (world, run)
}

/// What a run may leave nothing of.
fn kept(world: &World) -> Vec<(String, Value)> {
    let state = world.holdings();
    ["instances", "images", "snapshots", "groups", "objects", "volumes", "stacks", "suspended"]
        .map(|what| (what.to_owned(), state[what].clone()))
        .into_iter()
        .filter(|(_, value)| value.as_object().is_none_or(|table| !table.is_empty()) && !value.is_null())
        .collect()
}

fn report(world: &World) -> Value {
    serde_json::from_slice(&fs::read(world.place.join("report.json")).unwrap()).unwrap()
}

#[test]
fn the_tutorial_is_gone_through_reported_and_removed() {
    let before = kept(&World::new("1"));
    let (world, run) = accept(None);
    assert_eq!(run.code, Some(0), "{}\n{}", run.stderr, world.cloud.calls().join("\n"));
    assert_eq!(kept(&world), before, "{}", run.stderr);
    let report = report(&world);
    let steps: Vec<_> =
        report["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(
        steps,
        [
            "what the bake needs",
            "doctor",
            "image",
            "stack",
            "two healthy targets",
            "probes",
            "scales out",
            "heals",
            "rollback"
        ]
    );
    assert_eq!((&report["ok"], &report["left"]), (&true.into(), &Value::Array(vec![])));
    let page = fs::read_to_string(world.place.join("report.html")).unwrap();
    assert!(page.contains("passed") && page.contains("Left over: nothing"), "{page}");
    assert!(run.stderr.contains("less than 1 USD") && run.stderr.contains("about an hour"), "{}", run.stderr);
    let calls = world.cloud.calls().join("\n");
    for what in ["suspend-processes", "resume-processes", "delete-stack", "get-resources"] {
        assert!(calls.contains(what), "no {what} in {calls}");
    }
}

/// A call here and there, in the three ways: together with the tests of the verbs it is made of, each kind of call.
#[test]
fn whichever_call_fails_and_whenever_it_is_interrupted_nothing_is_left() {
    let before = kept(&World::new("1"));
    let (whole, _) = accept(None);
    let calls = whole.cloud.calls();
    for (number, at) in (3..calls.len()).step_by(29).enumerate() {
        let way = ["before", "TERM", "after"][number % 3];
        let (world, run) = accept(Some(&format!("{way}:{at}")));
        let said =
            format!("{way}:{at} {}\n{}\n{}", calls[at - 1], run.stderr, world.cloud.calls().join("\n"));
        assert_eq!(kept(&world), before, "{said}");
        assert!(run.code != Some(2) && run.code.is_some(), "{said}");
        // Before anything was begun there is nothing to report.
        if world.place.join("report.json").exists() {
            let report = report(&world);
            assert_eq!(report["left"], Value::Array(vec![]), "{said}");
            assert_eq!(report["ok"] == true, run.code == Some(0), "{said}");
        } else {
            assert_ne!(run.code, Some(0), "{said}");
        }
    }
}

/// What can't be deleted at all is named, on the terminal and in the report, and the run is no success.
#[test]
fn what_cannot_be_deleted_is_named() {
    let (world, run) = accept(Some("never:delete-stack"));
    // An image that the stack's template names stays with it.
    for left in ["arn:stacks/", "arn:images/ami-", "arn:snapshots/"] {
        let said = format!("{left}: {}", run.stderr);
        let last = run.stderr.lines().find(|line| line.contains("still there: ")).unwrap_or_default();
        assert!(run.code == Some(1) && last.contains(left), "{said}");
        let report = report(&world);
        assert_eq!(report["ok"], false, "{said}");
        let named = report["left"].as_array().unwrap();
        assert!(named.iter().any(|one| one.as_str().unwrap().starts_with(left)), "{said}");
    }
}

#[test]
fn without_a_yes_nothing_is_done() {
    let world = World::new("1");
    let before = world.cloud.state().unwrap();
    let rpm = world.rpm().display().to_string();
    let run = world.run(&format!("acceptance --rpm {rpm} --region eu-west-1"));
    assert!(run.code == Some(1) && run.stderr.contains("nothing was done"), "{}", run.stderr);
    assert_eq!(world.cloud.state().unwrap(), before);
    assert!(world.cloud.calls().is_empty(), "{:?}", world.cloud.calls());
}
