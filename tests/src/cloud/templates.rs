//! Launch templates and their versions.

use serde_json::{Value, json};

use super::{Answer, Call, table};

pub(super) fn dispatch(state: &mut Value, call: &Call) -> Answer {
    if call.name == "describe-launch-templates" {
        let (ids, names) = (call.values("launch-template-ids"), call.values("launch-template-names"));
        let all = table(state, "templates").iter().filter(|(id, template)| {
            (ids.is_empty() || ids.contains(id))
                && (names.is_empty() || names.iter().any(|n| template["name"] == *n))
        });
        let all: Vec<_> = all
            .map(|(id, template)| {
                json!({"LaunchTemplateId": id, "LaunchTemplateName": template["name"],
                    "DefaultVersionNumber": template["default"], "LatestVersionNumber": newest(template)})
            })
            .collect();
        return match all.as_slice() {
            [] if !names.is_empty() => Err(("InvalidLaunchTemplateName.NotFoundException", names.join(" "))),
            _ => Ok(json!({"LaunchTemplates": all})),
        };
    }
    let id = call.value("launch-template-id");
    let template = &mut state["templates"][&id];
    let default = template["default"].clone();
    let Some(versions) = template["versions"].as_array_mut() else {
        return Err(("InvalidLaunchTemplateId.NotFound", id));
    };
    let version = call.value("versions").parse::<u64>().ok();
    match call.name.as_str() {
        "create-launch-template-version" => {
            call.knows(&[
                "launch-template-id",
                "source-version",
                "client-token",
                "version-description",
                "launch-template-data",
            ])?;
            let data: Value = serde_json::from_str(&call.value("launch-template-data")).unwrap_or_default();
            let n = versions.iter().filter_map(|v| v["n"].as_u64()).max().unwrap_or(0) + 1;
            versions.push(
                json!({"n": n, "image": data["ImageId"], "description": call.value("version-description")}),
            );
            Ok(json!({"LaunchTemplateVersion": {"VersionNumber": n}}))
        }
        "modify-launch-template" => {
            let to = call.value("default-version").parse::<u64>().unwrap_or(0);
            if !versions.iter().any(|v| v["n"] == to) {
                return Err(("InvalidLaunchTemplateId.VersionNotFound", to.to_string()));
            }
            template["default"] = to.into();
            Ok(json!({}))
        }
        "delete-launch-template-versions" => {
            if version.is_some_and(|version| default == version) {
                return Err(("OperationNotPermitted", "the default version can't be deleted".to_owned()));
            }
            versions.retain(|v| v["n"].as_u64() != version);
            Ok(json!({}))
        }
        "describe-launch-template-versions" => {
            let least = call.value("min-version").parse::<u64>().unwrap_or(0);
            let all = versions.iter().filter(|v| {
                v["n"].as_u64() >= Some(least) && (version.is_none() || v["n"].as_u64() == version)
            });
            let all: Vec<_> = all
                .map(|v| {
                    json!({"LaunchTemplateId": id, "VersionNumber": v["n"], "VersionDescription": v["description"],
                        "DefaultVersion": v["n"] == default, "LaunchTemplateData": {"ImageId": v["image"]}})
                })
                .collect();
            Ok(json!({"LaunchTemplateVersions": all}))
        }
        _ => call.unknown(),
    }
}

/// The number of its newest version.
fn newest(template: &Value) -> u64 {
    let all = template["versions"].as_array().into_iter().flatten();
    all.filter_map(|version| version["n"].as_u64()).max().unwrap_or(0)
}
