//! Which unit nginx belongs to is a fact of systemd's, not the name of a control group; and what is stopped with it is
//! started with it.

use std::path::Path;
use std::time::Duration;

use world::machine::Machine;
use world::place::wait_until;

use super::systemd::{machine, run, serves};

const LONG: Duration = Duration::from_secs(40);

fn unit(root: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    Ok(std::fs::write(root.join("etc/systemd/system").join(name), text)?)
}

/// A service that is somebody else's, from within which somebody starts nginx by hand.
fn with_a_stranger(root: &Path) -> anyhow::Result<()> {
    std::fs::write(
        root.join("etc/hand.conf"),
        "pid /run/hand.pid; error_log /var/log/hand.log; events {}\n\
         http { access_log off; server { listen 80; location / { return 200; } } }",
    )?;
    unit(
        root,
        "deploy-agent.service",
        "[Service]\nExecStart=/bin/sh -c 'nice -n 3 /usr/sbin/nginx -c /etc/hand.conf; exec sleep infinity'\n\
         [Install]\nWantedBy=multi-user.target\n",
    )?;
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    let _ = std::fs::remove_file(wants.join("nginx.service"));
    std::os::unix::fs::symlink(
        "/etc/systemd/system/deploy-agent.service",
        wants.join("deploy-agent.service"),
    )?;
    Ok(())
}

fn is_back(machine: &Machine, others: &str) {
    let tidy = || {
        serves(machine)
            && machine.sh("test -e /var/lib/asg-agent/fault.json").is_ok_and(|o| !o.status.success())
            && machine.says("pgrep -x agent").is_ok_and(|s| s.is_empty())
    };
    assert!(wait_until(LONG, tidy), "{}", machine.says("systemctl status --no-pager; ps ax").unwrap());
    let main = machine.says("systemctl show -P MainPID deploy-agent.service").unwrap();
    assert_eq!(main, others, "the other service was touched");
    let at = machine.says("cat /proc/$(cat /run/hand.pid)/cgroup | grep ^0::").unwrap();
    assert!(at.ends_with(".scope"), "{at}");
    assert_eq!(machine.says("ps -o ni= -p $(cat /run/hand.pid)").unwrap().trim(), "3");
}

#[test]
fn an_nginx_that_was_started_by_hand_within_a_service_never_leads_to_that_service() {
    let Some(machine) = machine(with_a_stranger) else { return };
    assert!(wait_until(LONG, || serves(&machine)));
    let others = machine.says("systemctl show -P MainPID deploy-agent.service").unwrap();
    let (code, said) = run(&machine, "agent fail --mode stop --dry-run");
    assert!(code == Some(0) && said.contains("a scope of its own") && !said.contains("systemctl"), "{said}");
    // Twice: what was restored is as much started by hand as what was there at first.
    for mode in ["stop", "crash", "stop"] {
        let (code, said) = run(&machine, &format!("agent fail --mode {mode} --secs 1"));
        assert_eq!(code, Some(0), "{mode}: {said}");
        is_back(&machine, &others);
    }
    // The timer's service ends, and nginx doesn't end with it.
    let (code, said) = run(&machine, "agent fail --mode crash --secs 2 --detach");
    assert_eq!(code, Some(0), "{said}");
    machine.sh("pkill -KILL -x agent").unwrap();
    is_back(&machine, &others);
    let (code, said) = run(&machine, "systemctl restart deploy-agent.service");
    assert!(code == Some(0) && serves(&machine), "{said}");
}

#[test]
fn what_systemd_stops_with_nginx_is_told_and_started_again() {
    let Some(machine) = machine(|root| {
        let sleeps = "[Service]\nExecStart=/bin/sleep infinity\n";
        unit(
            root,
            "bound.service",
            &format!("[Unit]\nBindsTo=nginx.service\nAfter=nginx.service\n{sleeps}"),
        )?;
        unit(root, "part.service", &format!("[Unit]\nPartOf=nginx.service\n{sleeps}"))?;
        unit(
            root,
            "next.service",
            &format!("[Unit]\nRequires=bound.service\nAfter=bound.service\n{sleeps}"),
        )?;
        unit(root, "idle.service", &format!("[Unit]\nRequires=nginx.service\n{sleeps}"))
    }) else {
        return;
    };
    assert!(wait_until(LONG, || serves(&machine)));
    let (code, said) = run(&machine, "systemctl start bound part next");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&machine, "agent fail --mode stop --dry-run");
    assert!(code == Some(0) && said.contains("bound.service, next.service, part.service"), "{said}");
    for mode in ["stop", "crash"] {
        let (code, said) = run(&machine, &format!("agent fail --mode {mode} --secs 2"));
        assert_eq!(code, Some(0), "{mode}: {said}");
        let active = machine.says("systemctl is-active bound part next idle").unwrap();
        assert_eq!(active.split_whitespace().collect::<Vec<_>>(), ["active", "active", "active", "inactive"]);
    }
}
