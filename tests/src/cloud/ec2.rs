//! Instances, security groups, subnets, and Systems Manager on the instances.

use serde_json::{Value, json};

use super::{Answer, Call, id, list, table, tag_list};

pub(super) fn dispatch(state: &mut Value, call: &Call) -> Answer {
    match call.name.as_str() {
        "describe-subnets" => Ok(
            json!({"Subnets": [{"SubnetId": "subnet-a", "VpcId": "vpc-a", "AvailabilityZone": "eu-west-1a",
                "AvailabilityZoneId": "euw1-az2", "MapPublicIpOnLaunch": true}]}),
        ),
        "describe-fleets" => Ok(json!({"Fleets": state["fleets"]})),
        "describe-spot-fleet-requests" => Ok(json!({"SpotFleetRequestConfigs": []})),
        "describe-volumes" => {
            let attached = call.values("filters").iter().any(|f| f.starts_with("Name=attachment."));
            let all = table(state, "volumes")
                .iter()
                .filter(|(_, volume)| !attached && call.tag_matches(&volume["tags"]));
            let all: Vec<_> = all.map(|(id, _)| json!({"VolumeId": id, "Size": 8})).collect();
            Ok(json!({"Volumes": all}))
        }
        "delete-volume" => {
            let volume = call.value("volume-id");
            let holder = state["volumes"][&volume]["of"].as_str().unwrap_or_default().to_owned();
            if state["instances"][&holder]["state"].as_str().is_some_and(|state| state != "terminated") {
                return Err(("VolumeInUse", format!("{volume} is attached to {holder}")));
            }
            table(state, "volumes")
                .remove(&volume)
                .map(|_| json!({}))
                .ok_or(("InvalidVolume.NotFound", volume))
        }
        "create-security-group" => {
            call.knows(&["group-name", "description", "vpc-id", "tag-specifications"])?;
            let group = id(state, "sg");
            table(state, "groups").insert(group.clone(), json!({"tags": call.tags("security-group")}));
            Ok(json!({"GroupId": group}))
        }
        "describe-security-groups" => {
            let all = table(state, "groups").iter().filter(|(_, group)| call.tag_matches(&group["tags"]));
            let all: Vec<_> = all.map(|(id, _)| json!({"GroupId": id})).collect();
            Ok(json!({"SecurityGroups": all}))
        }
        "delete-security-group" => {
            let group = call.value("group-id");
            let used = table(state, "instances")
                .values()
                .any(|i| i["group"] == *group && i["state"] != "terminated");
            if used {
                return Err(("DependencyViolation", format!("{group} has a dependent object")));
            }
            table(state, "groups").remove(&group).map(|_| json!({})).ok_or(("InvalidGroup.NotFound", group))
        }
        "create-tags" => {
            let (image, tag) = (call.value("resources"), call.value("tags"));
            let pair = tag.strip_prefix("Key=").and_then(|pair| pair.split_once(",Value="));
            let (key, value) = pair.ok_or(("InvalidParameterValue", tag.clone()))?;
            state["images"][&image]["tags"][key] = value.into();
            Ok(json!({}))
        }
        "run-instances" => run(state, call),
        "describe-instances" => Ok(describe(state, call)),
        "stop-instances" | "terminate-instances" => {
            let to = if call.name.starts_with("stop") { "stopping" } else { "shutting-down" };
            for id in call.values("instance-ids") {
                let Some(instance) = table(state, "instances").get_mut(id) else {
                    return Err(("InvalidInstanceID.NotFound", id.clone()));
                };
                instance["state"] = to.into();
                instance["looks"] = 0.into();
            }
            Ok(json!({}))
        }
        _ => call.unknown(),
    }
}

fn run(state: &mut Value, call: &Call) -> Answer {
    call.knows(&[
        "image-id",
        "instance-type",
        "count",
        "client-token",
        "subnet-id",
        "security-group-ids",
        "iam-instance-profile",
        "metadata-options",
        "instance-initiated-shutdown-behavior",
        "user-data",
        "tag-specifications",
        "block-device-mappings",
    ])?;
    let image = call.value("image-id");
    if state["images"][&image]["state"] != "available" {
        return Err(("InvalidAMIID.NotFound", image));
    }
    let instance = id(state, "i");
    let made = json!({"state": "running", "image": image, "tags": call.tags("instance"), "looks": 0,
        "group": call.value("security-group-ids"), "token": call.value("client-token")});
    table(state, "instances").insert(instance.clone(), made);
    // A base image with a data volume that isn't deleted with its instance.
    if state["data_volume"] == true {
        let volume = id(state, "vol");
        let made = json!({"tags": call.tags("volume"), "of": instance});
        table(state, "volumes").insert(volume, made);
    }
    Ok(json!({"Instances": [{"InstanceId": instance}]}))
}

fn describe(state: &mut Value, call: &Call) -> Value {
    let wanted = call.values("instance-ids").to_vec();
    let mut found = Vec::new();
    for (id, instance) in table(state, "instances").iter_mut() {
        if !(wanted.is_empty() || wanted.contains(id)) || !call.tag_matches(&instance["tags"]) {
            continue;
        }
        let looks = instance["looks"].as_u64().unwrap_or(0) + 1;
        instance["looks"] = looks.into();
        let next = match instance["state"].as_str() {
            Some("stopping") => "stopped",
            Some("shutting-down") => "terminated",
            _ => "",
        };
        if !next.is_empty() && looks > 1 {
            instance["state"] = next.into();
        }
        found.push(
            json!({"InstanceId": id, "State": {"Name": instance["state"]}, "ImageId": instance["image"],
            "RootDeviceName": "/dev/xvda", "Architecture": "x86_64", "Tags": tag_list(&instance["tags"])}),
        );
    }
    json!({"Reservations": [{"Instances": found}]})
}

pub(super) fn ssm(state: &mut Value, call: &Call) -> Answer {
    match call.name.as_str() {
        "get-parameter" => Ok(json!({"Parameter": {"Value": "ami-base"}})),
        "send-command" => {
            call.knows(&["instance-ids", "document-name", "comment", "timeout-seconds", "parameters"])?;
            let file = call.value("parameters");
            let text = std::fs::read_to_string(file.trim_start_matches("file://")).unwrap_or_default();
            if text.contains("agent stress") {
                state["stressed"] = true.into();
            }
            let wanted = call.value("instance-ids");
            let of_a_stack = !state["stack_instances"][&wanted].is_null();
            let instance = &mut state[if of_a_stack { "stack_instances" } else { "instances" }][wanted];
            // Registered on the second look.
            let looks = instance["looks"].as_u64().unwrap_or(0) + 1;
            instance["looks"] = looks.into();
            if looks < 2 || instance["state"] != "running" {
                return Err(("InvalidInstanceId", "Instances not in a valid state for account".to_owned()));
            }
            let words = text.split("instance.sh ").last().unwrap_or_default().to_owned();
            list(state, "steps").push(words.split('"').next().unwrap_or_default().into());
            let command = id(state, "command");
            table(state, "commands").insert(command.clone(), 0.into());
            Ok(json!({"Command": {"CommandId": command}}))
        }
        "get-command-invocation" => {
            // Only the first of all is asked about too early.
            let first = table(state, "commands").len() == 1;
            let looks = &mut state["commands"][call.value("command-id")];
            *looks = (looks.as_u64().unwrap_or(0) + 1).into();
            match looks.as_u64() {
                Some(1) if first => Err(("InvocationDoesNotExist", String::new())),
                _ => Ok(json!({"Status": state.get("step_status").unwrap_or(&"Success".into()),
                    "StandardOutputContent": "ok    all of it\n", "StandardErrorContent": "said why"})),
            }
        }
        _ => call.unknown(),
    }
}
