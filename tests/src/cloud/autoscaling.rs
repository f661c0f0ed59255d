//! The group and its instance refreshes.

use serde_json::{Value, json};

use super::{Answer, Call, id, list};

pub(super) fn dispatch(state: &mut Value, call: &Call) -> Answer {
    match call.name.as_str() {
        "describe-launch-configurations" => Ok(json!({"LaunchConfigurations": []})),
        "describe-auto-scaling-groups" => {
            let wanted = call.values("auto-scaling-group-names");
            let all = groups(state);
            let all: Vec<_> = all
                .into_iter()
                .filter(|group| {
                    wanted.is_empty() || wanted.iter().any(|name| group["AutoScalingGroupName"] == **name)
                })
                .collect();
            Ok(json!({"AutoScalingGroups": all}))
        }
        "update-auto-scaling-group" => {
            call.knows(&["auto-scaling-group-name", "launch-template", "mixed-instances-policy"])?;
            let mixed = call.value("mixed-instances-policy");
            if mixed.is_empty() {
                let spec = call.value("launch-template");
                let version = spec.split_once(",Version=").map_or("", |(_, version)| version);
                state["asg"]["version"] = version.into();
            } else {
                let policy: Value =
                    serde_json::from_str(&mixed).map_err(|e| ("ParamValidation", e.to_string()))?;
                if !one_name_each(&policy) {
                    return Err(("ValidationError", "either the ID or the name".to_owned()));
                }
                state["asg"]["mixed"] = policy;
            }
            Ok(Value::String(String::new()))
        }
        "describe-instance-refreshes" => {
            let ids = call.values("instance-refresh-ids").to_vec();
            if !ids.is_empty() {
                advance(state, &ids[0]);
            }
            let all = list(state, "refreshes").iter().rev();
            let all: Vec<_> = all
                .filter(|refresh| ids.is_empty() || ids.iter().any(|id| refresh["InstanceRefreshId"] == **id))
                .collect();
            Ok(json!({"InstanceRefreshes": all}))
        }
        "start-instance-refresh" => {
            call.knows(&["auto-scaling-group-name", "strategy", "preferences", "desired-configuration"])?;
            for flag in ["preferences", "desired-configuration"] {
                let text = call.value(flag);
                if !text.is_empty() && serde_json::from_str::<Value>(&text).is_err() {
                    return Err(("ParamValidation", format!("--{flag} {text}")));
                }
            }
            if list(state, "refreshes").iter().any(|refresh| refresh["Status"] == "InProgress") {
                return Err((
                    "InstanceRefreshInProgress",
                    "An Instance Refresh is already in progress".to_owned(),
                ));
            }
            let desired = call.value("desired-configuration");
            let rolls_back = call.value("preferences").contains("\"AutoRollback\":true");
            if rolls_back && (desired.is_empty() || desired.contains('$')) {
                return Err(("ValidationError", "AutoRollback needs a desired configuration".to_owned()));
            }
            let refresh = id(state, "refresh");
            list(state, "refreshes").push(json!({"InstanceRefreshId": refresh, "Status": "InProgress",
                "desired": desired, "PercentageComplete": 0}));
            Ok(json!({"InstanceRefreshId": refresh}))
        }
        "cancel-instance-refresh" => {
            let active =
                list(state, "refreshes").iter_mut().find(|refresh| refresh["Status"] == "InProgress");
            let Some(active) = active else { return Err(("ActiveInstanceRefreshNotFound", String::new())) };
            active["Status"] = "Cancelled".into();
            Ok(json!({}))
        }
        "suspend-processes" => {
            state["suspended"] = true.into();
            Ok(Value::String(String::new()))
        }
        "resume-processes" => {
            state["suspended"] = Value::Null;
            Ok(Value::String(String::new()))
        }
        "rollback-instance-refresh" => {
            let active =
                list(state, "refreshes").iter_mut().find(|refresh| refresh["Status"] == "InProgress");
            let Some(active) = active else { return Err(("ActiveInstanceRefreshNotFound", String::new())) };
            if active["desired"] == "" {
                return Err(("IrreversibleInstanceRefresh", "it can't be rolled back".to_owned()));
            }
            active["Status"] = "RollbackInProgress".into();
            Ok(json!({"InstanceRefreshId": active["InstanceRefreshId"]}))
        }
        _ => call.unknown(),
    }
}

/// All groups: the one named `web`, and what a test has added.
fn groups(state: &Value) -> Vec<Value> {
    let group = &state["asg"];
    let mut web = json!({"AutoScalingGroupName": group["name"], "Instances": group["instances"],
        "DesiredCapacity": if state["stressed"] == true { 3 } else { 2 }});
    if group["mixed"].is_null() {
        web["LaunchTemplate"] = json!({"LaunchTemplateId": group["template"], "LaunchTemplateName": "web",
            "Version": group["version"]});
    } else {
        web["MixedInstancesPolicy"] = group["mixed"].clone();
    }
    let more = state["more_groups"].as_array().cloned().unwrap_or_default();
    std::iter::once(web).chain(more).collect()
}

/// A specification may hold the template's id or its name, not both (`LaunchTemplateSpecification`, EC2 Auto Scaling
/// API).
fn one_name_each(policy: &Value) -> bool {
    let ok = |spec: &Value| {
        spec.is_null() || spec["LaunchTemplateId"].is_null() != spec["LaunchTemplateName"].is_null()
    };
    let template = &policy["LaunchTemplate"];
    let overrides = template["Overrides"].as_array().into_iter().flatten();
    ok(&template["LaunchTemplateSpecification"])
        && overrides.into_iter().all(|one| ok(&one["LaunchTemplateSpecification"]))
}

/// A look at a refresh brings it on: half of it at the first, its end at the second. What `refresh_ends` says is how;
/// `refresh.hold` in the test's own folder is not looked at here: a test that measures drives the state itself.
fn advance(state: &mut Value, refresh: &str) {
    let end = state["refresh_ends"].as_str().unwrap_or("Successful").to_owned();
    let version = {
        let Some(one) = list(state, "refreshes").iter_mut().find(|one| one["InstanceRefreshId"] == *refresh)
        else {
            return;
        };
        match one["Status"].as_str() {
            Some("RollbackInProgress") => one["Status"] = "RollbackSuccessful".into(),
            Some("InProgress") if end == "hold" => {}
            Some("InProgress") if one["PercentageComplete"] == 0 => one["PercentageComplete"] = 50.into(),
            Some("InProgress") => {
                one["Status"] = end.clone().into();
                one["PercentageComplete"] = 100.into();
            }
            _ => {}
        }
        if one["Status"] != "Successful" {
            return;
        }
        let desired: Value =
            serde_json::from_str(one["desired"].as_str().unwrap_or_default()).unwrap_or_default();
        desired
    };
    if !version["LaunchTemplate"]["Version"].is_null() {
        state["asg"]["version"] = version["LaunchTemplate"]["Version"].clone();
    }
    if !version["MixedInstancesPolicy"].is_null() {
        state["asg"]["mixed"] = version["MixedInstancesPolicy"].clone();
    }
}
