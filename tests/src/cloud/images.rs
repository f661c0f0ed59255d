//! Images and their snapshots.

use serde_json::{Value, json};

use super::{Answer, Call, id, table, tag_list};

pub(super) fn dispatch(state: &mut Value, call: &Call) -> Answer {
    match call.name.as_str() {
        "create-image" => create(state, call),
        "describe-images" => Ok(describe(state, call)),
        "modify-image-attribute" => {
            call.knows(&["image-id", "imds-support"])?;
            state["images"][call.value("image-id")]["imds"] = call.value("imds-support").into();
            Ok(json!({}))
        }
        "deregister-image" => {
            let image = call.value("image-id");
            table(state, "images")
                .remove(&image)
                .map(|_| json!({}))
                .ok_or(("InvalidAMIID.Unavailable", image))
        }
        "describe-snapshots" => {
            let all =
                table(state, "snapshots").iter().filter(|(_, snapshot)| call.tag_matches(&snapshot["tags"]));
            let all: Vec<_> = all
                .map(|(id, snapshot)| json!({"SnapshotId": id, "Tags": tag_list(&snapshot["tags"])}))
                .collect();
            Ok(json!({"Snapshots": all}))
        }
        "delete-snapshot" => {
            let snapshot = call.value("snapshot-id");
            if state["locked_snapshots"] == true {
                return Err(("OperationNotPermitted", format!("{snapshot} is locked")));
            }
            if table(state, "images").values().any(|image| image["snapshot"] == *snapshot) {
                return Err(("InvalidSnapshot.InUse", format!("{snapshot} is in use by an image")));
            }
            table(state, "snapshots")
                .remove(&snapshot)
                .map(|_| json!({}))
                .ok_or(("InvalidSnapshot.NotFound", snapshot))
        }
        _ => call.unknown(),
    }
}

fn create(state: &mut Value, call: &Call) -> Answer {
    call.knows(&["instance-id", "name", "description", "tag-specifications"])?; // never --no-reboot
    let name = call.value("name");
    if table(state, "images").values().any(|image| image["name"] == *name) {
        return Err(("InvalidAMIName.Duplicate", name));
    }
    let (image, snapshot) = (id(state, "ami"), id(state, "snap"));
    let made = json!({"name": name, "state": "pending", "arch": "x86_64", "snapshot": snapshot,
        "tags": call.tags("image"), "created": state["next"], "from": state["instances"][call.value("instance-id")]["state"]});
    table(state, "images").insert(image.clone(), made);
    table(state, "snapshots").insert(snapshot, json!({"tags": call.tags("snapshot")}));
    Ok(json!({"ImageId": image}))
}

fn describe(state: &mut Value, call: &Call) -> Value {
    let wanted = call.values("image-ids").to_vec();
    let name = call.values("filters").iter().find_map(|filter| filter.strip_prefix("Name=name,Values="));
    let mut found = Vec::new();
    for (id, image) in table(state, "images").iter_mut() {
        let named = name.is_none_or(|name| image["name"] == *name);
        if !(wanted.is_empty() || wanted.contains(id)) || !named || !call.tag_matches(&image["tags"]) {
            continue;
        }
        found.push(json!({"ImageId": id, "State": image["state"], "Architecture": image["arch"], "Name": image["name"],
            "RootDeviceType": "ebs", "RootDeviceName": "/dev/xvda", "Tags": tag_list(&image["tags"]),
            "CreationDate": format!("{:08}", image["created"].as_u64().unwrap_or(0)),
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda",
                "Ebs": {"SnapshotId": image["snapshot"], "VolumeSize": 8}}]}));
        if !wanted.is_empty() {
            image["state"] = "available".into(); // at the second look
        }
    }
    json!({"Images": found})
}
