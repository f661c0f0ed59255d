//! The AWS documents: accepted by cfn-lint and by the real command line, and put to use by `ami-bake.sh`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use world::agent;
use world::moto::{self, Moto};
use world::place::Place;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[allow(clippy::print_stderr)] // a test has no other voice
fn tools() -> Option<std::path::PathBuf> {
    let tools = moto::tools(Path::new(REPOSITORY)).unwrap();
    if tools.is_none() {
        eprintln!("skipped: the AWS command line, moto_server and cfn-lint can't be installed");
    }
    tools
}

fn document(name: &str) -> String {
    format!("{REPOSITORY}/packaging/aws/{name}")
}

#[test]
fn the_whole_tutorial_is_one_stack_and_one_bake_publishes_into_it() {
    let Some(tools) = tools() else { return };
    let place = Place::new().unwrap();
    let moto = Moto::start(&place, &tools).unwrap();
    let newest = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
    let image = moto.aws(&format!("ssm get-parameter --name {newest}")).unwrap();
    let image = image["Parameter"]["Value"].as_str().unwrap().to_owned();
    let subnets = moto.aws("ec2 describe-subnets").unwrap();
    let subnets: Vec<_> = subnets["Subnets"].as_array().unwrap().iter().take(2).collect();
    let ids: Vec<_> = subnets.iter().map(|subnet| subnet["SubnetId"].as_str().unwrap()).collect();
    let vpc = subnets[0]["VpcId"].as_str().unwrap();
    let stack = |name: &str, file: &str, parameters: &[(&str, &str)]| {
        let mut line = format!(
            "cloudformation create-stack --stack-name {name} --capabilities CAPABILITY_NAMED_IAM \
             --template-body file://{} --parameters ",
            document(file)
        );
        parameters
            .iter()
            .for_each(|(key, value)| line += &format!("ParameterKey={key},ParameterValue={value} "));
        moto.aws(&line).unwrap();
        let described = moto.aws(&format!("cloudformation describe-stacks --stack-name {name}")).unwrap();
        assert_eq!(described["Stacks"][0]["StackStatus"], "CREATE_COMPLETE", "{described}");
    };
    let both = ids.join("\\,");
    stack("web", "autoscaling.yaml", &[("ImageId", &image), ("VpcId", vpc), ("SubnetIds", &both)]);
    stack("asg-agent-bake", "bake.yaml", &[]);

    let target = &moto.aws("elbv2 describe-target-groups").unwrap()["TargetGroups"][0];
    for (key, value) in [
        ("HealthCheckPath", Value::from("/health")),
        ("HealthCheckIntervalSeconds", 5.into()),
        ("HealthCheckTimeoutSeconds", 2.into()),
        ("HealthyThresholdCount", 2.into()),
        ("UnhealthyThresholdCount", 2.into()),
    ] {
        assert_eq!(target[key], value, "{key}");
    }
    // moto gives no outputs of this stack: it doesn't know the full names of load balancers.
    let groups = moto.aws("autoscaling describe-auto-scaling-groups").unwrap();
    let group_is = &groups["AutoScalingGroups"][0];
    let group = group_is["AutoScalingGroupName"].as_str().unwrap();
    let template = group_is["LaunchTemplate"]["LaunchTemplateId"].as_str().unwrap();
    assert_eq!((&group_is["MinSize"], &group_is["HealthCheckType"]), (&2.into(), &"ELB".into()));
    assert_eq!(group_is["VPCZoneIdentifier"].as_str().unwrap().split(',').count(), 2);

    // The bucket and the instance profile are found by the names that bake.yaml gives them.
    let rpm = place.join("asg-agent-0.1.0-1.x86_64.rpm");
    std::fs::write(&rpm, super::lead()).unwrap();
    let bake = |args: &[&str]| {
        let output = moto.command(super::FRONT).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let made = bake(&["image", "--rpm", rpm.to_str().unwrap(), "--base-ami", &image, "--asg", group]);
    let (made, _) = made.split_once(' ').unwrap();
    let named = |version: &str| {
        let line = format!(
            "ec2 describe-launch-template-versions --launch-template-id {template} --versions {version}"
        );
        moto.aws(&line).unwrap()["LaunchTemplateVersions"][0]["LaunchTemplateData"]["ImageId"].clone()
    };
    assert_eq!(named("$Default"), made);
    let left = moto.aws("ec2 describe-instances --filters Name=tag-key,Values=ami-bake:run").unwrap();
    let instances =
        left["Reservations"].as_array().unwrap().iter().flat_map(|r| r["Instances"].as_array().unwrap());
    let states: Vec<_> = instances.map(|instance| &instance["State"]["Name"]).collect();
    assert!(states.len() == 2 && states.iter().all(|state| **state == "terminated"), "{states:?}");
    let groups = moto.aws("ec2 describe-security-groups --filters Name=tag-key,Values=ami-bake:run").unwrap();
    assert_eq!(groups["SecurityGroups"], Value::Array(vec![]));
    bake(&["rollback", "--asg", group]);
    assert_eq!(named("$Default"), image);
}

#[test]
fn cfn_lint_finds_nothing() {
    let Some(tools) = tools() else { return };
    let files = ["autoscaling.yaml", "bake.yaml", "drills.yaml"].map(document);
    let output = Command::new(tools.join("cfn-lint")).args(&files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // It would have said so.
    let place = Place::new().unwrap();
    let wrong = std::fs::read_to_string(&files[0])
        .unwrap()
        .replace("HealthCheckTimeoutSeconds: 2", "HealthCheckTimeOut: 2");
    std::fs::write(place.join("wrong.yaml"), wrong).unwrap();
    let output = Command::new(tools.join("cfn-lint")).arg(place.join("wrong.yaml")).output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The command and the parameters (name, default, pattern) of each document in drills.yaml.
fn documents() -> Vec<(String, Vec<[String; 3]>)> {
    let text = std::fs::read_to_string(document("drills.yaml")).unwrap();
    let value =
        |line: &str| line.split_once(": ").map(|(_, v)| v.trim_matches('\'').to_owned()).unwrap_or_default();
    let mut found = Vec::new();
    for part in text.split("Type: AWS::SSM::Document").skip(1) {
        let (parameters, steps) = part.split_once("mainSteps:").unwrap();
        let (_, parameters) = parameters.split_once("parameters:").unwrap();
        // The automation runs these, and no program itself.
        if !steps.contains("runShellScript") {
            continue;
        }
        let command =
            steps.lines().find_map(|line| line.trim().strip_prefix("- exec /usr/bin/agent ")).unwrap();
        let mut all: Vec<[String; 3]> = Vec::new();
        for line in parameters.lines() {
            match line.trim() {
                trimmed if line.starts_with("          ") && !line.starts_with("           ") => {
                    all.push([trimmed.trim_end_matches(':').to_owned(), String::new(), String::new()]);
                }
                trimmed if trimmed.starts_with("default:") => all.last_mut().unwrap()[1] = value(trimmed),
                trimmed if trimmed.starts_with("allowedPattern:") => {
                    all.last_mut().unwrap()[2] = value(trimmed)
                }
                _ => {}
            }
        }
        found.push((command.to_owned(), all));
    }
    found
}

#[test]
fn what_the_documents_run_is_a_command_line_of_the_agent_and_nothing_else_can_be() {
    let documents = documents();
    assert_eq!(documents.len(), 3);
    let matches = |pattern: &str, text: &str| {
        // bash's own matcher; the patterns use nothing that RE2, which Systems Manager has, reads otherwise.
        let mut bash = Command::new("bash");
        bash.args(["-c", "[[ $1 =~ $2 ]]", "bash", text, pattern]).status().unwrap().success()
    };
    for (command, parameters) in documents {
        assert!(!parameters.is_empty(), "{command}");
        let mut line = command.clone();
        for [name, default, pattern] in &parameters {
            assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{name}: {pattern}");
            assert!(matches(pattern, default), "{name}: {default} against {pattern}");
            for hostile in [
                "",
                "1; reboot",
                "$(id)",
                "`id`",
                "1 --force",
                "1\nid",
                "-1",
                "0",
                "all all",
                "1|id",
                "1&",
                "3601h",
            ] {
                assert!(!matches(pattern, hostile), "{name} would take {hostile:?}");
            }
            line = line.replace(&format!("{{{{ {name} }}}}"), default);
        }
        assert!(!line.contains("{{"), "{line}");
        // Understood by the agent: 2 is wrong usage. Without an end at once it would burn or wait.
        let place = Place::new().unwrap();
        let mut words: Vec<_> = line.split(' ').collect();
        match words[0] {
            "fail" => words.push("--dry-run"),
            "stress" => words = vec!["stress", "--json", "--cpu", "1", "--secs", "1s", "--load", "1"],
            _ => words.push("--log=/dev/null"),
        }
        if words[0] == "probes" {
            let end = words.iter().position(|word| *word == "--for").unwrap();
            words[end + 1] = "1s";
        }
        let output = agent::run(&place, &words).unwrap();
        assert_ne!(output.status.code(), Some(2), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
