//! The unit: what a systemd knows of it, the oldest and today's.

use std::fs;
use std::process::Command;

use super::{comes, machine, package, run, skipped, source, there};

/// What the unit may say, and since which systemd that is known; later than 252 nothing is used. Where the values of
/// one key differ, the beginning of the value stands with it. From systemd's NEWS.
const KNOWN: &[(&str, &str, u16)] = &[
    ("Description", "", 1),
    ("Documentation", "", 1),
    ("After", "", 1),
    ("WantedBy", "", 1),
    ("Type", "notify", 1),
    ("ExecStart", "", 1),
    ("User", "", 1),
    ("Group", "", 1),
    ("UMask", "", 1),
    ("Restart", "always", 1),
    ("RestartSec", "", 1),
    // In [Service]; since 230 StartLimitIntervalSec= of [Unit], with this as its other name.
    ("StartLimitInterval", "", 1),
    ("SuccessExitStatus", "", 189),
    ("WatchdogSec", "", 183),
    ("TimeoutStopSec", "", 189),
    ("OOMScoreAdjust", "", 1),
    ("LimitNOFILE", "", 1),
    ("LimitCORE", "", 1),
    ("LimitRTPRIO", "", 1),
    ("CapabilityBoundingSet", "", 1),
    ("AmbientCapabilities", "", 229),
    ("NoNewPrivileges", "", 187),
    ("ProtectSystem", "full", 214),
    ("ProtectSystem", "strict", 232),
    ("ReadWritePaths", "", 231),
    ("ProtectHome", "yes", 214),
    ("PrivateTmp", "", 1),
    ("PrivateDevices", "", 209),
    ("PrivateMounts", "", 239),
    ("DevicePolicy", "", 208),
    ("PrivateIPC", "", 248),
    ("RemoveIPC", "", 232),
    ("ProtectKernelTunables", "", 232),
    ("ProtectKernelModules", "", 232),
    ("ProtectKernelLogs", "", 244),
    ("ProtectControlGroups", "", 232),
    ("ProtectClock", "", 245),
    ("ProtectHostname", "", 242),
    ("ProtectProc", "", 247),
    ("KeyringMode", "", 235),
    ("LockPersonality", "", 235),
    ("MemoryDenyWriteExecute", "", 231),
    ("RestrictNamespaces", "", 233),
    ("RestrictSUIDSGID", "", 242),
    ("RestrictAddressFamilies", "", 211),
    ("SystemCallArchitectures", "", 209),
    ("SystemCallErrorNumber", "", 209),
    ("SystemCallFilter", "@", 231),
    ("SystemCallFilter", "~@", 231),
    ("SystemCallFilter", "", 187),
];
/// Amazon Linux 2's.
const OLDEST: u16 = 219;

fn unit() -> String {
    fs::read_to_string(source("packaging/systemd/asg-agent.service")).unwrap()
}

/// The directives: key, value, and the systemd that knows them.
fn directives(unit: &str) -> Vec<(&str, &str, u16)> {
    let lines = unit.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty());
    lines
        .map(|line| {
            let (key, value) = line.split_once('=').unwrap();
            let known = KNOWN.iter().find(|(k, v, _)| *k == key && value.starts_with(v));
            (key, value, known.unwrap_or_else(|| panic!("{line}: not on the list of what 219 to 252 know")).2)
        })
        .collect()
}

/// The unit without what a systemd of that version ignores, with a word in the journal.
fn as_read_by(version: u16, unit: &str) -> String {
    let is_known = |line: &&str| match line.split_once('=') {
        Some((key, value)) if !line.starts_with('#') => {
            let known = KNOWN.iter().find(|(k, v, _)| *k == key && value.starts_with(v));
            known.is_some_and(|(_, _, since)| *since <= version)
        }
        _ => true,
    };
    unit.lines().filter(is_known).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_fallbacks_stand_in_the_order_in_which_an_old_systemd_ignores_them() {
    let text = unit();
    let all = directives(&text);
    for (key, value, since) in &all {
        assert!(*since <= 252, "{key}={value}");
        let of_key: Vec<u16> = all.iter().filter(|(k, ..)| k == key).map(|(.., since)| *since).collect();
        // The names of a system call filter add up; of everything else the last value that is known counts.
        if *key != "SystemCallFilter" {
            assert!(of_key.is_sorted(), "{key}: a later spelling stands before an older one");
        }
        assert!(
            of_key.len() == 1 || of_key.iter().any(|since| *since <= OLDEST),
            "{key}: nothing for {OLDEST}"
        );
    }
    // As values: 219 would take an unknown one of these for an empty list, and kill the program at its first call.
    let by_name =
        all.iter().any(|(k, v, since)| *k == "SystemCallFilter" && *since <= OLDEST && v.contains("execve"));
    assert!(by_name, "219 needs the system calls by their names");
}

#[test]
fn systemd_finds_nothing_wrong_and_little_exposed() {
    if !there("systemd-analyze") {
        return skipped("systemd-analyze is missing");
    }
    let root = tempfile::tempdir().unwrap();
    for folder in ["usr/bin", "usr/libexec/asg-agent", "etc/systemd/system", "usr/lib/systemd/system"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    fs::copy(world::agent::binary(), root.path().join("usr/bin/agent")).unwrap();
    let setup = source("packaging/nginx/nginx-setup.sh");
    fs::copy(setup, root.path().join("usr/libexec/asg-agent/nginx-setup")).unwrap();
    for target in ["sysinit", "basic", "shutdown", "network", "multi-user"] {
        fs::write(root.path().join(format!("usr/lib/systemd/system/{target}.target")), "[Unit]\n").unwrap();
    }
    for name in ["asg-agent.service", "asg-agent-recover.service", "asg-agent-nginx.service"] {
        let to = root.path().join("usr/lib/systemd/system").join(name);
        fs::copy(source("packaging/systemd").join(name), &to).unwrap();
        let mut verify = Command::new("systemd-analyze");
        let output = verify
            .arg("verify")
            .arg("--man=no")
            .arg(format!("--root={}", root.path().display()))
            .arg(name)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("asg-agent")).collect();
        assert!(ours.is_empty(), "{name}: {said}");
    }
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--threshold=20"]);
    let output = security.arg(source("packaging/systemd/asg-agent.service")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_systemd_219_reads_of_the_unit_serves_too() {
    let Some(package) = package("1") else { return };
    let Some(machine) = machine(&[package]) else { return };
    run(&machine, "rpm -i --nodeps /*-1.*.rpm");
    let old = as_read_by(OLDEST, &unit());
    assert!(!old.contains("AmbientCapabilities=") && !old.contains("@system-service"));
    fs::write(machine.root().join("etc/systemd/system/asg-agent.service"), old).unwrap();
    run(&machine, "systemctl daemon-reload; systemctl start asg-agent");
    comes(&machine, "200");
    let status = run(&machine, "cat /proc/$(pgrep -x agent)/status");
    assert!(status.contains("CapEff:\t0000000000000000") && status.contains("Seccomp:\t2"), "{status}");
    // Without CAP_SYS_NICE the limit of the unit allows it, where the machine that this one runs in lets it have that.
    let told = run(&machine, "agent status; grep -i realtime /proc/$(pgrep -x agent)/limits");
    let allowed = told.lines().any(|line| line.starts_with("Max realtime priority") && line.contains(" 1 "));
    assert!(!allowed || told.contains("real-time priority on"), "{told}\n{}", super::journal(&machine));
    run(&machine, "service nginx stop");
    comes(&machine, "503");
    run(&machine, "systemctl stop asg-agent");
    assert_eq!(super::property(&machine, "Result"), "success");
}
