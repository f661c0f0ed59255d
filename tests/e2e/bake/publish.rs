//! The launch template and the group: publishing, rolling back, pruning.

use super::World;

/// Makes another image each time: the RPM differs.
fn another(world: &World, seed: u8, args: &str) -> String {
    std::fs::write(world.rpm(), [super::lead(), vec![seed]].concat()).unwrap();
    world.image(args, None).done().stdout.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_group_that_is_pinned_to_a_version_goes_to_the_new_one_and_back() {
    let world = World::new("1");
    world.image("--asg web", None).done();
    assert_eq!(world.holdings()["asg"]["version"], "2");
    world.run("rollback --asg web").done();
    let after = world.holdings();
    assert_eq!(
        (&after["asg"]["version"], &after["templates"]["lt-web"]["default"]),
        (&"1".into(), &1.into())
    );
    let run = world.run("rollback --asg web");
    assert!(run.code == Some(1) && run.stderr.contains("not published by ami-bake"), "{}", run.stderr);
}

#[test]
fn a_refresh_of_a_pinned_group_brings_its_own_way_back() {
    let world = World::new("1");
    world.image("--asg web --refresh", None).done();
    let calls = world.cloud.calls();
    let refresh = calls.iter().find(|call| call.contains("start-instance-refresh")).unwrap();
    assert!(refresh.contains("\"AutoRollback\":true") && refresh.contains("\"Version\":\"2\""), "{refresh}");
    assert_eq!(world.holdings()["asg"]["version"], "1", "the refresh takes it over when it succeeds");
    let run = world.image("--asg web --refresh", None);
    assert!(run.code == Some(1) && run.stderr.contains("is under way"), "{}", run.stderr);
}

#[test]
fn rollback_refuses_a_version_whose_image_is_gone() {
    let world = World::new("$Default");
    world.image("--asg web", None).done();
    let mut state = world.cloud.state().unwrap();
    state["images"].as_object_mut().unwrap().remove("ami-base");
    world.cloud.save(&state).unwrap();
    let before = world.holdings();
    let run = world.run("rollback --launch-template web");
    assert!(
        run.code == Some(1) && run.stderr.contains("ami-base of version 1 is not available"),
        "{}",
        run.stderr
    );
    assert_eq!(world.holdings(), before);
}

#[test]
fn a_rollback_that_fails_is_undone() {
    let world = World::new("2");
    world.image("--launch-template web", None).done();
    let before = world.holdings();
    let calls = world.cloud.calls().len();
    // Its calls: the group, the template, two versions, the image; then the default and the group are changed.
    for (at, way) in [(6, "before"), (6, "after"), (7, "before"), (7, "after")] {
        let mut command = world.command("rollback --asg web");
        command.env("STAND_IN_FAULT", format!("{way}:{}", calls + at));
        std::fs::write(world.place.join("calls"), "x\n".repeat(calls)).unwrap();
        let run = super::Run::of(command);
        assert_eq!(run.code, Some(1), "{way}:{at} {}", run.stderr);
        assert_eq!(world.holdings(), before, "{way}:{at} {}", run.stderr);
    }
}

#[test]
fn prune_keeps_the_newest_and_what_a_launch_template_names() {
    let world = World::new("$Default");
    let published = another(&world, 1, "--launch-template web");
    let loose = another(&world, 2, "");
    let newest = another(&world, 3, "");
    let plan = world.run("prune --keep 1 --dry-run").done();
    assert_eq!(plan.stdout.trim(), loose);
    let run = world.run("prune --keep 1").done();
    assert!(
        run.stdout.trim() == loose && run.stderr.contains(&format!("{published} stays")),
        "{}",
        run.stderr
    );
    let after = world.holdings();
    let images: Vec<_> = after["images"].as_object().unwrap().keys().collect();
    assert!(images.len() == 3 && !images.contains(&&loose) && images.contains(&&newest), "{images:?}");
    assert_eq!(after["snapshots"].as_object().unwrap().len(), 3, "its snapshot went with it");
}

#[test]
fn prune_takes_versions_away_that_nothing_needs() {
    let world = World::new("$Default");
    let images: Vec<_> = (1..=4).map(|seed| another(&world, seed, "--launch-template web")).collect();
    world.run("prune --keep 1 --launch-template web").done();
    let after = world.holdings();
    let versions: Vec<_> = after["templates"]["lt-web"]["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["n"].as_u64().unwrap())
        .collect();
    assert_eq!(versions, [1, 4, 5], "the first isn't ours, 4 is what rollback goes back to");
    let left = after["images"].as_object().unwrap();
    assert!(!left.contains_key(&images[0]) && !left.contains_key(&images[1]), "{:?}", left.keys());
    assert!(left.contains_key(&images[2]) && left.contains_key(&images[3]), "{:?}", left.keys());
    world.run("rollback --launch-template web").done();
    assert_eq!(world.holdings()["templates"]["lt-web"]["default"], 4);
}
