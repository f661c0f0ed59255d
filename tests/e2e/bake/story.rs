//! What `ami-bake.sh image` does when all goes well, and what it refuses.

use serde_json::json;

use super::World;

const PUBLISH: &str = "--launch-template web --asg web --refresh";

#[test]
fn an_image_is_made_tested_and_published_and_nothing_else_is_left() {
    let world = World::new("$Default");
    let before = world.holdings();
    let run = world.image(PUBLISH, None).done();
    let after = world.holdings();
    let (image, name) = run.stdout.trim().split_once(' ').unwrap();
    assert!(name.starts_with("asg-agent-0.1.0-x86_64-"), "{name}");

    assert_eq!(after["instances"], before["instances"]);
    assert_eq!((&after["groups"], &after["objects"]), (&before["groups"], &before["objects"]));
    assert_eq!(after["images"].as_object().unwrap().len(), 2);
    let made = &after["images"][image];
    assert_eq!((&made["imds"], &made["from"]), (&json!("v2.0"), &json!("stopped")));
    let snapshot = made["snapshot"].as_str().unwrap();
    let tag = &after["snapshots"][snapshot]["tags"]["ami-bake:run"];
    assert!(
        tag.is_string() && made["tags"]["ami-bake:run"] == *tag && made["tags"]["ami-bake:tested"] == *tag
    );
    let template = &after["templates"]["lt-web"];
    assert_eq!(template["default"], 2);
    assert_eq!(
        template["versions"][0], before["templates"]["lt-web"]["versions"][0],
        "the one before is kept"
    );
    assert_eq!(template["versions"][1]["image"], image);
    assert_eq!(after["refreshes"][0]["Status"], "InProgress");

    let verbs: Vec<_> =
        after["steps"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().trim()).collect();
    assert!(verbs[0].starts_with("install --rpm-url https"), "{verbs:?}");
    assert_eq!(verbs[1..], ["verify", "clean", "clean --check", "verify --booted"]);

    let calls = world.cloud.calls();
    let launches: Vec<_> = calls.iter().filter(|call| call.starts_with("ec2 run-instances")).collect();
    assert_eq!(launches.len(), 2);
    for launch in launches {
        assert!(
            launch.contains("HttpTokens=required") && launch.contains("shutdown-behavior terminate"),
            "{launch}"
        );
        assert!(launch.contains("Key=ami-bake:run") && !launch.contains("--key-name"), "{launch}");
    }
    assert!(calls.iter().any(|call| call.contains("VolumeType=gp3,Encrypted=true")));
    assert!(!calls.iter().any(|call| call.contains("authorize-security-group-ingress")));
    let at = |what: &str| calls.iter().position(|call| call.contains(what)).unwrap();
    assert!(at("ami-bake:tested") < at("create-launch-template-version"), "published before it was tested");
}

#[test]
fn an_rpm_in_a_bucket_its_key_and_the_configuration_of_an_own_nginx_reach_the_builder() {
    let world = World::new("$Default");
    let (rpm, sum) = ("s3://mine/rpms/asg-agent-0.1.0-1.x86_64.rpm", "a".repeat(64));
    let (key, conf) = (world.place.join("key"), "/opt/nginx/conf/nginx.conf");
    std::fs::write(&key, "public key\n").unwrap();
    let image = format!(
        "image --rpm {rpm} --sha256 {sum} --base-ami ami-base --rpm-key {} --nginx-conf",
        key.display()
    );
    let made = world.run(&format!("{image} {conf}")).done();
    let calls = world.cloud.calls();
    assert!(calls.iter().any(|call| call.starts_with(&format!("s3 presign {rpm}"))), "{calls:?}");
    assert!(!calls.iter().any(|call| call.contains("put-object")), "it is there already: {calls:?}");
    let after = world.holdings();
    let install = after["steps"][0].as_str().unwrap();
    for words in [
        format!("--sha256 {sum}"),
        format!("--nginx-conf {conf}"),
        "--rpm-key-base64 cHVibGljIGtleQo=".to_owned(),
    ] {
        assert!(install.contains(&words), "no {words} in {install}");
    }
    // Each of them makes another image.
    assert_ne!(world.run(&format!("{image} /opt/nginx/conf/other.conf")).done().stdout, made.stdout);
    std::fs::write(&key, "another\n").unwrap();
    assert_ne!(world.run(&format!("{image} {conf}")).done().stdout, made.stdout);
}

#[test]
fn the_same_inputs_make_no_second_image() {
    let world = World::new("$Default");
    let first = world.image("--launch-template web", None).done();
    let before = world.holdings();
    let second = world.image("--launch-template web", None).done();
    assert_eq!(second.stdout, first.stdout);
    assert!(
        second.stderr.contains("nothing to bake") && second.stderr.contains("names"),
        "{}",
        second.stderr
    );
    assert_eq!(world.holdings(), before);
    // Another RPM is another image.
    std::fs::write(world.rpm(), [super::lead(), vec![1]].concat()).unwrap();
    assert_ne!(world.image("--launch-template web", None).done().stdout, first.stdout);
}

#[test]
fn a_plan_changes_nothing() {
    let world = World::new("1");
    let before = world.cloud.state().unwrap();
    let run = world.image(&format!("--dry-run {PUBLISH}"), None).done();
    for text in ["asg-agent-0.1.0-x86_64-", "encrypted gp3", "boot test", "a new version of web", "refresh"] {
        assert!(run.stdout.contains(text), "no {text} in {}", run.stdout);
    }
    assert_eq!(world.cloud.state().unwrap(), before);
    let reads =
        |call: &String| [" describe-", " get", " head-", " list-"].iter().any(|word| call.contains(word));
    assert!(world.cloud.calls().iter().all(reads), "{:?}", world.cloud.calls());
}

#[test]
fn an_instance_is_imaged_first_and_only_a_copy_is_worked_on() {
    let world = World::new("$Default");
    let before = world.holdings();
    let rpm = world.rpm().display().to_string();
    let run = world.run(&format!("image --rpm {rpm} --instance-id i-mine")).done();
    let after = world.holdings();
    assert_eq!(after["instances"]["i-mine"], before["instances"]["i-mine"]);
    assert_eq!(after["images"].as_object().unwrap().len(), 2, "{}", after["images"]);
    assert_eq!(after["snapshots"].as_object().unwrap().len(), 2, "the source's snapshot is gone");
    assert!(run.stdout.contains("asg-agent-0.1.0"), "{}", run.stdout);
    let touched = |call: &&String| call.contains("i-mine") && !call.contains("describe-");
    let calls = world.cloud.calls();
    let touching: Vec<_> = calls.iter().filter(touched).collect();
    assert!(touching.len() == 1 && touching[0].contains("create-image"), "{touching:?}");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_made() {
    let world = World::new("1");
    let before = world.cloud.state().unwrap();
    let mut arm = super::lead();
    arm[9] = 19;
    std::fs::write(world.rpm(), arm).unwrap();
    let run = world.image("", None);
    assert!(
        run.code == Some(1) && run.stderr.contains("RPM is for aarch64, ami-base is x86_64"),
        "{}",
        run.stderr
    );
    std::fs::write(world.rpm(), super::lead()).unwrap();
    let run = world.image("--asg other", None);
    assert!(run.code == Some(1) && run.stderr.contains("no Auto Scaling group other"), "{}", run.stderr);
    assert_eq!(world.cloud.state().unwrap(), before);
}

#[test]
fn an_image_that_was_never_tested_is_not_taken_for_one_that_is() {
    let world = World::new("1");
    world.image("", None).done();
    let mut state = world.cloud.state().unwrap();
    for image in state["images"].as_object_mut().unwrap().values_mut() {
        image["tags"].as_object_mut().unwrap().remove("ami-bake:tested");
    }
    world.cloud.save(&state).unwrap();
    let run = world.image("", None);
    assert!(run.code == Some(1) && run.stderr.contains("was never tested"), "{}", run.stderr);
    let advice = run.stderr.split("ami-bake.sh ").nth(1).unwrap().trim().to_owned();
    world.run(&advice).done();
    world.image("", None).done();
}

#[test]
fn wrong_usage_is_refused_before_any_call() {
    let world = World::new("1");
    let rpm = world.rpm().display().to_string();
    for (args, why) in [
        ("image --base-ami ami-base".to_owned(), "wants --rpm"),
        (format!("image --rpm {rpm}"), "wants --base-ami or --instance-id"),
        (format!("image --rpm {rpm} --base-ami a --instance-id b"), "exclude each other"),
        (format!("image --rpm {rpm} --base-ami a --sha256 00"), "has SHA-256"),
        ("image --rpm /nowhere.rpm --base-ami a".to_owned(), "no file /nowhere.rpm"),
        ("image --rpm /proc/self/exe --base-ami a".to_owned(), "is no RPM"),
        ("image --rpm https://x.invalid/asg-agent-1-1.x86_64.rpm --base-ami a".to_owned(), "wants --sha256"),
        (format!("image --rpm {rpm} --base-ami a --refresh"), "--refresh wants --asg"),
        ("prune --keep 0".to_owned(), "wants --keep N"),
        ("prune --run '*'".to_owned(), "wants the id of a run"),
        ("prune --asg web".to_owned(), "takes no --asg"),
        ("rollback".to_owned(), "wants --launch-template or --asg"),
        ("bake".to_owned(), "no verb bake"),
        ("image --rpm".to_owned(), "wants a value"),
    ] {
        let run = world.run(&args);
        assert!(run.code == Some(2) && run.stderr.contains(why), "{args}: {:?} {}", run.code, run.stderr);
    }
    assert!(world.cloud.calls().is_empty(), "{:?}", world.cloud.calls());
}
