//! The group and its instance refreshes.

use serde_json::{Value, json};

use super::{Answer, Call, id, list};

pub(super) fn dispatch(state: &mut Value, call: &Call) -> Answer {
    match call.name.as_str() {
        "describe-launch-configurations" => Ok(json!({"LaunchConfigurations": []})),
        "describe-auto-scaling-groups" => {
            let group = &state["asg"];
            let wanted = call.values("auto-scaling-group-names");
            if !wanted.is_empty() && wanted.iter().all(|name| group["name"] != *name) {
                return Ok(json!({"AutoScalingGroups": []}));
            }
            Ok(json!({"AutoScalingGroups": [{"AutoScalingGroupName": group["name"],
                "LaunchTemplate": {"LaunchTemplateId": group["template"], "Version": group["version"]}}]}))
        }
        "update-auto-scaling-group" => {
            call.knows(&["auto-scaling-group-name", "launch-template"])?;
            let spec = call.value("launch-template");
            let version = spec.split_once(",Version=").map_or("", |(_, version)| version);
            state["asg"]["version"] = version.into();
            Ok(Value::String(String::new()))
        }
        "describe-instance-refreshes" => Ok(json!({"InstanceRefreshes": state["refreshes"]})),
        "start-instance-refresh" => {
            call.knows(&["auto-scaling-group-name", "strategy", "preferences", "desired-configuration"])?;
            for flag in ["preferences", "desired-configuration"] {
                let text = call.value(flag);
                if !text.is_empty() && serde_json::from_str::<Value>(&text).is_err() {
                    return Err(("ParamValidation", format!("--{flag} {text}")));
                }
            }
            let refresh = id(state, "refresh");
            list(state, "refreshes").push(json!({"InstanceRefreshId": refresh, "Status": "InProgress"}));
            Ok(json!({"InstanceRefreshId": refresh}))
        }
        "cancel-instance-refresh" => {
            let active =
                list(state, "refreshes").iter_mut().find(|refresh| refresh["Status"] == "InProgress");
            let Some(active) = active else { return Err(("ActiveInstanceRefreshNotFound", String::new())) };
            active["Status"] = "Cancelled".into();
            Ok(json!({}))
        }
        _ => call.unknown(),
    }
}
