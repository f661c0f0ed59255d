//! A fault across an upgrade of the package: its record was written by an older version, and a newer one ends it.

use serde_json::Value;
use world::place::wait_until;

use super::{LONG, World, exists, finish};

/// What older versions wrote of an nginx; the rest came later.
const OLDER: [&str; 12] = [
    "master",
    "exe",
    "args",
    "cwd",
    "conf",
    "pid_file",
    "credentials",
    "foreground",
    "endpoint",
    "unit",
    "listens",
    "sockets",
];

#[test]
fn a_record_of_an_older_version_is_understood_and_its_fault_ended() {
    for mode in ["stop", "crash", "hang"] {
        let world = World::new();
        assert_eq!(finish(world.fail(&format!("--mode {mode} --secs 250 --detach"))).0, 0);
        let mut record: Value = serde_json::from_slice(&std::fs::read(world.record()).unwrap()).unwrap();
        record.as_object_mut().unwrap().retain(|key, _| key != "keeper" && key != "agent");
        let target = record["target"].as_object_mut().unwrap();
        target.retain(|key, _| OLDER.contains(&key.as_str()));
        record["health"] = "127.0.0.1:8080".into();
        std::fs::write(world.record(), record.to_string()).unwrap();
        let keeper = world.keeper().unwrap();
        let (code, events, stderr) = world.run(&["recover", "--json"]);
        assert_eq!((code, &events.last().unwrap()["recovered"]), (0, &true.into()), "{mode}: {stderr}");
        assert!(wait_until(LONG, || !exists(keeper)));
        world.is_well();
    }
}
