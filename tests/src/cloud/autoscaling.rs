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
            if list(state, "refreshes").iter().any(runs) {
                return Err((
                    "InstanceRefreshInProgress",
                    "An Instance Refresh is already in progress".to_owned(),
                ));
            }
            let desired = call.value("desired-configuration");
            let preferences: Value = serde_json::from_str(&call.value("preferences")).unwrap_or_default();
            let rolls_back = preferences["AutoRollback"] == true;
            if rolls_back && !can_roll_back(state, &desired) {
                return Err(("ValidationError", "the refresh can't be rolled back".to_owned()));
            }
            let rollback_works = can_roll_back(state, &desired);
            let refresh = id(state, "refresh");
            list(state, "refreshes").push(json!({"InstanceRefreshId": refresh, "Status": "InProgress",
                "desired": desired, "PercentageComplete": 0, "Preferences": preferences,
                "rollback_works": rollback_works}));
            Ok(json!({"InstanceRefreshId": refresh}))
        }
        "cancel-instance-refresh" => {
            let active = list(state, "refreshes").iter_mut().find(|refresh| runs(refresh));
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
            let active = list(state, "refreshes").iter_mut().find(|refresh| runs(refresh));
            let Some(active) = active else { return Err(("ActiveInstanceRefreshNotFound", String::new())) };
            if !active["rollback_works"].as_bool().unwrap_or_default() {
                return Err(("IrreversibleInstanceRefresh", "it can't be rolled back".to_owned()));
            }
            active["Status"] = "RollbackInProgress".into();
            Ok(json!({"InstanceRefreshId": active["InstanceRefreshId"]}))
        }
        _ => call.unknown(),
    }
}

/// Whether a refresh is under way, and not going back.
fn runs(refresh: &Value) -> bool {
    refresh["Status"] == "InProgress" || refresh["Status"] == "Baking"
}

/// A refresh goes back only with a desired configuration, from a group that uses neither `$Default` nor `$Latest`, and
/// not to an image that a parameter names ("Undo changes with a rollback", EC2 Auto Scaling guide).
fn can_roll_back(state: &Value, desired: &str) -> bool {
    let version = state["asg"]["version"].as_str().unwrap_or_default();
    let all = state["templates"]["lt-web"]["versions"].as_array().into_iter().flatten();
    let by_parameter = all
        .filter(|one| one["n"].as_u64().is_some() && one["n"].as_u64() == version.parse().ok())
        .any(|one| one["image"].as_str().unwrap_or_default().starts_with("resolve:ssm:"));
    !desired.is_empty() && !desired.contains('$') && !by_parameter
}

/// The alarms that are there, of those asked for.
pub(super) fn alarms(state: &Value, call: &Call) -> Answer {
    call.knows(&["alarm-names", "alarm-types"])?;
    let names = call.values("alarm-names").iter();
    let all: Vec<_> = names
        .filter(|name| !state["alarms"][name.as_str()].is_null())
        .map(|name| json!({"AlarmName": name, "StateValue": state["alarms"][name.as_str()]}))
        .collect();
    Ok(json!({"MetricAlarms": all, "CompositeAlarms": []}))
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

/// A look at a refresh brings it on: half of it at the first, its end at the second, or its bake time before that. What
/// `refresh_ends` says is how; an alarm of its own that rings fails it, or takes it back.
fn advance(state: &mut Value, refresh: &str) {
    let end = state["refresh_ends"].as_str().unwrap_or("Successful").to_owned();
    let alarms = state["alarms"].clone();
    let version = {
        let Some(one) = list(state, "refreshes").iter_mut().find(|one| one["InstanceRefreshId"] == *refresh)
        else {
            return;
        };
        let watched = one["Preferences"]["AlarmSpecification"]["Alarms"].as_array().into_iter().flatten();
        let rings = watched.filter_map(Value::as_str).any(|name| alarms[name] == "ALARM");
        match one["Status"].as_str() {
            Some("RollbackInProgress") => one["Status"] = "RollbackSuccessful".into(),
            Some("InProgress" | "Baking") if rings => {
                let back = one["Preferences"]["AutoRollback"] == true;
                one["Status"] = if back { "RollbackInProgress" } else { "Failed" }.into();
            }
            Some("InProgress") if end == "hold" => {}
            Some("InProgress") if one["PercentageComplete"] == 0 => one["PercentageComplete"] = 50.into(),
            Some("InProgress") if one["Preferences"]["BakeTime"].as_u64() > Some(0) => {
                one["Status"] = "Baking".into();
                one["PercentageComplete"] = 100.into();
            }
            Some("InProgress" | "Baking") => {
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
