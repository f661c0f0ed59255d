//! What is looked at before anything is made: `image --dry-run` and `doctor`.

use serde_json::{Value, json};

use super::World;

const ALL: &str = "doctor --asg web --kms-key alias/bake --region eu-west-1";

#[test]
fn what_is_wrong_with_the_account_is_found_and_what_cannot_be_seen_is_said() {
    let wrong: [(&str, Value, &str); 11] = [
        (
            "head-bucket",
            "missing".into(),
            "FAIL  the bucket asg-agent-bake-123456789012-eu-west-1 is not there",
        ),
        (
            "head-bucket",
            "denied".into(),
            "--    the bucket asg-agent-bake-123456789012-eu-west-1: can't be told",
        ),
        (
            "get-instance-profile",
            "missing".into(),
            "FAIL  the instance profile asg-agent-bake-eu-west-1 is not there",
        ),
        ("get-instance-profile", json!({"InstanceProfile": {"Roles": []}}), "has no role"),
        (
            "describe-instance-type-offerings",
            json!({"InstanceTypeOfferings": [{"Location": "euw1-az3"}]}),
            "FAIL  t3.micro is not offered in euw1-az2, but in euw1-az3",
        ),
        (
            "describe-instance-types",
            json!({"InstanceTypes": [{"ProcessorInfo": {"SupportedArchitectures": ["arm64"]}}]}),
            "not of the architecture x86_64",
        ),
        (
            "describe-route-tables",
            json!({"RouteTables": [{"Routes": []}]}),
            "no endpoint of ssm ssmmessages s3",
        ),
        (
            "describe-key",
            json!({"KeyMetadata": {"KeyState": "PendingDeletion", "KeyManager": "CUSTOMER", "Arn": "a"}}),
            "FAIL  the key alias/bake is PendingDeletion",
        ),
        ("get-key-policy", json!({"Policy": "{}"}), "aws kms create-grant"),
        (
            "simulate-principal-policy",
            json!({"EvaluationResults": [
            {"EvalActionName": "ec2:CreateImage", "EvalDecision": "implicitDeny"}]}),
            "may not: ec2:CreateImage",
        ),
        (
            "simulate-principal-policy",
            "denied".into(),
            "--    what arn:aws:iam::123456789012:role/baker may do",
        ),
    ];
    let fine = World::new("$Default");
    let run = fine.run(ALL).done();
    assert!(!run.stdout.contains("FAIL") && run.stdout.contains("may do all"), "{}", run.stdout);
    for (call, answer, said) in wrong {
        let world = World::new("$Default");
        world.set(|state| state["account"] = json!({call: answer}));
        let run = world.run(ALL);
        assert!(run.stdout.contains(said), "{call}: {}\n{}", run.stdout, run.stderr);
        assert_eq!(run.code, Some(i32::from(!said.starts_with("--"))), "{call}: {}", run.stdout);
    }
}

#[test]
fn a_plan_fails_where_the_image_would() {
    let world = World::new("$Default");
    world.set(|state| {
        state["account"] = json!({"head-bucket": "missing", "describe-route-tables": {"RouteTables": []}})
    });
    let before = world.cloud.state().unwrap();
    let run = world.image("--dry-run", None);
    assert!(run.code == Some(1) && run.stdout.contains("FAIL  the bucket"), "{}", run.stdout);
    assert!(run.stdout.contains("no endpoint of"), "{}", run.stdout);
    assert_eq!(world.cloud.state().unwrap(), before);
}

#[test]
fn whichever_look_fails_doctor_goes_on() {
    let whole = World::new("$Default");
    whole.run(ALL).done();
    for (at, call) in whole.cloud.calls().iter().enumerate() {
        let world = World::new("$Default");
        let mut command = world.command(ALL);
        command.env("STAND_IN_FAULT", format!("before:{}", at + 1));
        let run = super::Run::of(command);
        assert!(run.code == Some(0) || run.code == Some(1), "{call}: {:?} {}", run.code, run.stderr);
        assert!(
            run.code == Some(1)
                || run.stdout.contains("can't be told")
                || run.stdout.contains("--    ")
                || run.stderr.contains("nothing"),
            "{call}: {}",
            run.stdout
        );
    }
}

#[test]
fn tags_reach_all_that_is_made_and_ours_cannot_be_set() {
    let world = World::new("$Default");
    world.image("--tags team=web,stage=a-b/c", None).done();
    let calls = world.cloud.calls();
    let tagged: Vec<_> = calls.iter().filter(|call| call.contains("--tag-specifications")).collect();
    assert!(tagged.len() >= 4, "{calls:?}");
    assert!(
        tagged
            .iter()
            .all(|call| call.contains("Key=team,Value=web") && call.contains("Key=stage,Value=a-b/c"))
    );
    for tags in ["Name=x", "ami-bake:run=1", "aws:x=1", "a", "a=b}", "a={b"] {
        let run = world.image(&format!("--tags {tags}"), None);
        assert!(run.code == Some(2), "{tags}: {:?} {}", run.code, run.stderr);
    }
}
