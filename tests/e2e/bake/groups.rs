//! Every way in which groups name a launch template: going on, going back, and what prune may take.

use serde_json::{Value, json};

use super::World;

/// The version that a group's specification leads to.
fn leads_to(state: &Value, version: &Value) -> u64 {
    let template = &state["templates"]["lt-web"];
    match version.as_str().unwrap_or("$Default") {
        "$Default" => template["default"].as_u64().unwrap(),
        "$Latest" => {
            template["versions"].as_array().unwrap().iter().map(|v| v["n"].as_u64().unwrap()).max().unwrap()
        }
        number => number.parse().unwrap(),
    }
}

/// The image of a version.
fn image(state: &Value, version: u64) -> String {
    let versions = state["templates"]["lt-web"]["versions"].as_array().unwrap();
    versions.iter().find(|v| v["n"] == version).unwrap()["image"].as_str().unwrap().to_owned()
}

/// The images that new instances of the group `web` would have, of every specification that names the template.
fn images(world: &World) -> Vec<String> {
    let state = world.holdings();
    let group = &state["asg"];
    if group["mixed"].is_null() {
        return vec![image(&state, leads_to(&state, &group["version"]))];
    }
    let template = &group["mixed"]["LaunchTemplate"];
    let overrides = template["Overrides"].as_array().cloned().unwrap_or_default();
    let all = std::iter::once(template["LaunchTemplateSpecification"].clone())
        .chain(overrides.into_iter().map(|one| one["LaunchTemplateSpecification"].clone()));
    all.filter(|spec| spec["LaunchTemplateId"] == "lt-web")
        .map(|spec| image(&state, leads_to(&state, &spec["Version"])))
        .collect()
}

fn mixed(main: &str, overrides: &[Option<&str>]) -> Value {
    let spec = |version: &str| json!({"LaunchTemplateId": "lt-web", "LaunchTemplateName": "web", "Version": version});
    let overrides: Vec<_> = overrides
        .iter()
        .map(|version| match version {
            Some(version) => {
                json!({"InstanceType": "t3.small", "LaunchTemplateSpecification": spec(version)})
            }
            None => json!({"InstanceType": "t3.micro"}),
        })
        .chain([json!({"InstanceType": "t4g.micro",
            "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-arm", "Version": "7"}})])
        .collect();
    json!({"LaunchTemplate": {"LaunchTemplateSpecification": spec(main), "Overrides": overrides},
        "InstancesDistribution": {"OnDemandBaseCapacity": 1}})
}

#[test]
fn whatever_names_the_template_an_image_reaches_it_and_a_rollback_takes_it_back() {
    let plain = ["$Default", "$Latest", "1"].map(|version| (version.to_owned(), None));
    let policies = [
        ("$Default", vec![None]),
        ("$Latest", vec![None]),
        ("1", vec![Some("1"), None]),
        ("$Default", vec![Some("1")]),
        ("$Latest", vec![Some("1"), Some("$Default")]),
        ("1", vec![Some("$Latest")]),
    ]
    .map(|(main, overrides)| (format!("{main} {overrides:?}"), Some(mixed(main, &overrides))));
    for (name, policy) in plain.into_iter().chain(policies) {
        // A refresh brings what is pinned along itself.
        for refresh in if name.starts_with('1') { &["", "--refresh --watch"][..] } else { &[""] } {
            let world = World::new(if policy.is_some() { "$Default" } else { &name });
            world.set(|state| state["asg"]["mixed"] = policy.clone().unwrap_or_default());
            let run = world.image(&format!("--asg web {refresh}"), None).done();
            let made = run.stdout.split(' ').next().unwrap().to_owned();
            let now = images(&world);
            assert!(
                now.iter().all(|image| *image == made),
                "{name} {refresh}: {now:?}, not {made}\n{}",
                run.stderr
            );
            let run = world.run(&format!("rollback --asg web {refresh}")).done();
            let now = images(&world);
            assert!(now.iter().all(|image| image == "ami-base"), "{name} {refresh}: {now:?}\n{}", run.stderr);
            if let Some(policy) = &policy {
                let left = &world.holdings()["asg"]["mixed"];
                assert_eq!(left["InstancesDistribution"], policy["InstancesDistribution"], "{name}");
                let arm = left["LaunchTemplate"]["Overrides"].as_array().unwrap().last().unwrap().clone();
                assert_eq!(arm["LaunchTemplateSpecification"]["Version"], "7", "{name}: another template's");
            }
            // A second one: nothing was published before that.
            let run = world.run("rollback --asg web");
            assert!(run.code == Some(1) && run.stderr.contains("not published by"), "{name}: {}", run.stderr);
        }
    }
}

#[test]
fn a_rollback_by_the_template_reaches_who_follows_it_and_names_who_does_not() {
    for other in ["$Latest", "$Default", "2"] {
        let world = World::new("$Default");
        world.image("--launch-template web", None).done();
        world.set(|state| {
            state["more_groups"] = json!([{"AutoScalingGroupName": "other",
                "LaunchTemplate": {"LaunchTemplateId": "lt-web", "Version": other}}]);
        });
        let plan = world.run("rollback --launch-template web --dry-run").done();
        assert!(plan.stdout.contains("group      other"), "{}", plan.stdout);
        let run = world.run("rollback --launch-template web").done();
        let state = world.holdings();
        let others = image(&state, leads_to(&state, &other.into()));
        assert_eq!(image(&state, leads_to(&state, &"$Default".into())), "ami-base");
        match other {
            "2" => assert!(
                others != "ami-base" && run.stderr.contains("other is pinned to version 2 and stays there"),
                "{}",
                run.stderr
            ),
            _ => assert_eq!(others, "ami-base", "{other}: {}", run.stderr),
        }
    }
}

#[test]
fn a_refused_or_failed_change_of_a_group_leaves_it_as_it_was() {
    for (main, overrides) in [("1", vec![Some("1")]), ("$Latest", vec![Some("1")])] {
        let whole = World::new("$Default");
        whole.set(|state| state["asg"]["mixed"] = mixed(main, &overrides));
        whole.image("--asg web", None).done();
        let (first, published) = (whole.cloud.calls().len(), whole.cloud.state().unwrap());
        whole.run("rollback --asg web").done();
        for (at, call) in whole.cloud.calls().into_iter().enumerate().skip(first) {
            let at = at + 1 - first;
            // A read that fails is the same whether it was done or not, and the failed reads are others' tests.
            let ways: &[&str] = if call.contains("describe-") { &[] } else { &["before", "after"] };
            for way in ways {
                let world = World::new("$Default");
                world.cloud.save(&published).unwrap();
                let before = images(&world);
                let mut command = world.command("rollback --asg web");
                command.env("STAND_IN_FAULT", format!("{way}:{at}"));
                let run = super::Run::of(command);
                assert_eq!(run.code, Some(1), "{way}:{at} {}", run.stderr);
                assert_eq!(images(&world), before, "{way}:{at} {}", run.stderr);
            }
        }
    }
}

/// Publishes as many images as asked for; version 1 is the base.
fn published(count: u8) -> World {
    let world = World::new("$Default");
    for seed in 1..=count {
        std::fs::write(world.rpm(), [super::lead(), vec![seed]].concat()).unwrap();
        world.image("--launch-template web", None).done();
    }
    world
}

fn versions(world: &World) -> Vec<u64> {
    let state = world.holdings();
    state["templates"]["lt-web"]["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["n"].as_u64().unwrap())
        .collect()
}

#[test]
fn prune_keeps_every_version_that_anything_names() {
    let spec = json!({"LaunchTemplateId": "lt-web", "Version": "2"});
    type Change = Box<dyn Fn(&mut Value)>;
    let users: [(&str, Change); 6] = [
        ("group", Box::new(|state| state["asg"]["version"] = "2".into())),
        ("override", Box::new(|state| state["asg"]["mixed"] = mixed("$Default", &[Some("2")]))),
        (
            "another group's override",
            Box::new(|state| {
                state["more_groups"] = json!([
            {"AutoScalingGroupName": "o", "MixedInstancesPolicy": mixed("$Latest", &[None, Some("2")])}])
            }),
        ),
        (
            "instance of a group",
            Box::new({
                let spec = spec.clone();
                move |state| {
                    state["asg"]["instances"] = json!([{"InstanceId": "i-1", "LaunchTemplate": spec}])
                }
            }),
        ),
        (
            "instance",
            Box::new(|state| {
                state["instances"]["i-mine"]["tags"] =
                    json!({"aws:ec2launchtemplate:id": "lt-web", "aws:ec2launchtemplate:version": "2"})
            }),
        ),
        (
            "fleet",
            Box::new(move |state| {
                state["fleets"] = json!([{"FleetState": "active",
            "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": spec}]}])
            }),
        ),
    ];
    let state = published(4).cloud.state().unwrap();
    for (name, change) in users {
        let world = World::new("$Default");
        world.cloud.save(&state).unwrap();
        world.set(change);
        world.run("prune --keep 1 --launch-template web").done();
        let left = versions(&world);
        // 5 is the default and the newest, 4 what its rollback goes back to, 1 isn't ours and what 2 goes back to.
        assert_eq!(left, [1, 2, 4, 5], "{name}");
        let state = world.holdings();
        assert!(state["images"].as_object().unwrap().contains_key(&image(&state, 2)), "{name}");
    }
}

#[test]
fn a_snapshot_that_could_not_be_deleted_goes_the_next_time_and_all_takes_the_last_image() {
    let world = published(0);
    for seed in 1..=2 {
        std::fs::write(world.rpm(), [super::lead(), vec![seed]].concat()).unwrap();
        world.image("", None).done();
    }
    let before = world.cloud.calls().len();
    world.run("prune --keep 1 --dry-run").done();
    let listed = world.cloud.calls().len() - before;
    // One try fails, and all that follow it: as with a snapshot that is locked.
    world.set(|state| state["locked_snapshots"] = true.into());
    let run = world.run("prune --keep 1");
    assert!(
        run.code == Some(1) && run.stderr.contains("the next prune tries again"),
        "{} {listed}",
        run.stderr
    );
    let state = world.holdings();
    assert_eq!(state["images"].as_object().unwrap().len(), 2);
    assert_eq!(state["snapshots"].as_object().unwrap().len(), 3, "{}", state["snapshots"]);
    world.set(|state| state["locked_snapshots"] = false.into());
    let run = world.run("prune --keep 1").done();
    assert!(run.stdout.contains("whose image is gone"), "{}", run.stdout);
    assert_eq!(world.holdings()["snapshots"].as_object().unwrap().len(), 2);
    world.run("prune --all").done();
    let state = world.holdings();
    assert_eq!(
        (state["images"].as_object().unwrap().len(), state["snapshots"].as_object().unwrap().len()),
        (1, 1)
    );
}

#[test]
fn a_run_whose_image_was_tested_goes_as_well_unless_a_template_names_it() {
    for published in [false, true] {
        let world = World::new("$Default");
        world.image(if published { "--launch-template web" } else { "" }, None).done();
        let state = world.holdings();
        let (_, made) =
            state["images"].as_object().unwrap().iter().find(|(id, _)| *id != "ami-base").unwrap();
        let run = made["tags"]["ami-bake:run"].as_str().unwrap().to_owned();
        world.run(&format!("prune --run {run}")).done();
        assert_eq!(world.holdings()["images"].as_object().unwrap().len(), 2, "tested: it stays");
        let said = world.run(&format!("prune --run {run} --all")).done();
        let left = world.holdings();
        let count = if published { 2 } else { 1 };
        assert_eq!(left["images"].as_object().unwrap().len(), count, "{}", said.stderr);
        assert_eq!(left["snapshots"].as_object().unwrap().len(), count, "{}", said.stderr);
    }
}

#[test]
fn data_volumes_that_outlive_their_instance_go_with_the_run() {
    for fault in [None, Some("before:22")] {
        let world = World::new("$Default");
        world.set(|state| state["data_volume"] = true.into());
        let run = world.image("--launch-template web", fault);
        assert_eq!(run.code, Some(i32::from(fault.is_some())), "{}", run.stderr);
        assert!(world.cloud.calls().iter().any(|call| call.contains("delete-volume")), "{}", run.stderr);
        assert_eq!(world.holdings()["volumes"], json!({}), "{}", run.stderr);
    }
}
