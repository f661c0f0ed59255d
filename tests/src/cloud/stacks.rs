//! Stacks, targets and tags: what an acceptance run has beside the bake.

use serde_json::{Value, json};

use super::{Answer, Call, table};

pub(super) fn dispatch(state: &mut Value, call: &Call) -> Answer {
    let name = call.value("stack-name");
    match call.name.as_str() {
        "create-stack" => {
            call.knows(&["stack-name", "capabilities", "template-body", "tags", "parameters"])?;
            let mut tags = serde_json::Map::new();
            if let Some((key, value)) =
                call.value("tags").strip_prefix("Key=").and_then(|tag| tag.split_once(",Value="))
            {
                tags.insert(key.to_owned(), value.into());
            }
            table(state, "stacks")
                .insert(name, json!({"status": "CREATE_IN_PROGRESS", "looks": 0, "tags": tags}));
            Ok(json!({"StackId": "stack"}))
        }
        "delete-stack" => {
            if let Some(stack) = table(state, "stacks").get_mut(&name) {
                stack["status"] = "DELETE_IN_PROGRESS".into();
                stack["looks"] = 0.into();
            }
            Ok(Value::String(String::new()))
        }
        "describe-stacks" => {
            let Some(stack) = table(state, "stacks").get_mut(&name) else {
                return Err(("ValidationError", format!("Stack with id {name} does not exist")));
            };
            let looks = stack["looks"].as_u64().unwrap_or(0) + 1;
            stack["looks"] = looks.into();
            if looks > 1 && stack["status"] == "CREATE_IN_PROGRESS" {
                stack["status"] = "CREATE_COMPLETE".into();
            }
            let status = stack["status"].clone();
            if looks > 1 && status == "DELETE_IN_PROGRESS" {
                let tags = table(state, "stacks").remove(&name).unwrap_or_default()["tags"].clone();
                // An instance of its group is listed by its tags for an hour after its end.
                let gone = json!({"state": "terminated", "image": "ami-base", "tags": tags, "looks": 5, "group": "",
                    "token": ""});
                table(state, "instances").insert(format!("i-{:08}", name.len()), gone);
                // Its template and its group go with it: here they are again as they were.
                if let Some(versions) = state["templates"]["lt-web"]["versions"].as_array_mut() {
                    versions.truncate(1);
                }
                state["templates"]["lt-web"]["default"] = 1.into();
                state["asg"]["version"] = "1".into();
            }
            let outputs = [("Url", "http://web.invalid/"), ("GroupName", "web")]
                .map(|(key, value)| json!({"OutputKey": key, "OutputValue": value}));
            Ok(json!({"Stacks": [{"StackStatus": status, "Outputs": outputs}]}))
        }
        "describe-stack-resources" => Ok(json!({"StackResources": [
            {"LogicalResourceId": "TargetGroup", "PhysicalResourceId": "arn:targets"}]})),
        "describe-target-health" => {
            let targets =
                ["i-a", "i-b"].map(|id| json!({"Target": {"Id": id}, "TargetHealth": {"State": "healthy"}}));
            for id in ["i-a", "i-b"] {
                let fresh = json!({"state": "running", "image": "", "tags": {}, "looks": 5, "group": "", "token": ""});
                // Of the stack: not counted as something that a run leaves.
                table(state, "stack_instances").insert(id.to_owned(), fresh);
            }
            Ok(json!({"TargetHealthDescriptions": targets}))
        }
        // What carries the tag, of all kinds.
        "get-resources" => {
            let filter = call.value("tag-filters");
            let (key, value) =
                filter.strip_prefix("Key=").and_then(|f| f.split_once(",Values=")).unwrap_or_default();
            let mut found = Vec::new();
            for kind in ["stacks", "images", "snapshots", "groups", "volumes", "instances"] {
                for (id, one) in table(state, kind).iter() {
                    if one["tags"][key] == value {
                        found.push(json!({"ResourceARN": format!("arn:{kind}/{id}")}));
                    }
                }
            }
            Ok(json!({"ResourceTagMappingList": found}))
        }
        _ => call.unknown(),
    }
}
