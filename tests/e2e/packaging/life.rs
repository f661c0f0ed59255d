//! The life of an installed package: installed, killed, rebooted, removed.

use std::collections::BTreeSet;

use world::machine::Machine;
use world::place::wait_until;

use super::{LONG, comes, health, journal, machine, package, property, run};

#[test]
fn an_installed_package_serves_comes_back_and_leaves_nothing() {
    let Some(first) = package("1") else { return };
    let Some(mut machine) = machine(&[first]) else { return };
    let before = files(&machine);
    run(&machine, "rpm -i --nodeps /*-1.*.rpm");
    assert_eq!(
        run(&machine, "systemctl is-enabled asg-agent asg-agent-recover asg-agent-nginx"),
        "enabled\nenabled\nenabled"
    );
    run(&machine, "systemctl start asg-agent");
    comes(&machine, "200");
    is_confined(&machine);
    follows_the_log(&machine);

    run(&machine, "service nginx stop");
    comes(&machine, "503");
    run(&machine, "service nginx start");
    comes(&machine, "200");

    let pid = property(&machine, "MainPID");
    run(&machine, "systemctl kill -s KILL asg-agent");
    let back = || health(&machine) == "200" && property(&machine, "MainPID") != pid;
    assert!(wait_until(LONG, back), "{}", journal(&machine));

    machine.reboot().unwrap();
    comes(&machine, "200");
    // Its place in the log, written down when it ended.
    assert_eq!(run(&machine, "stat -c '%U %a' /var/lib/asg-agent/serve/probes.json"), "asg-agent 600");
    assert_eq!(run(&machine, "systemctl is-active asg-agent"), "active");

    // It may be called as the program that it stands in for, as long as it is there.
    run(&machine, "update-alternatives --install /usr/bin/stress stress /usr/bin/agent 10");
    assert!(run(&machine, "stress --version").contains("agent"));
    assert!(run(&machine, "stress --cpu 1 --timeout 1s -q; echo $?").ends_with('0'));

    // What was made to fail here outlives the package: it is said, and nothing else of it stays.
    run(&machine, "agent fail --mode stop --secs 5 >/dev/null; test -s /var/log/asg-agent/faults.jsonl");
    comes(&machine, "200");
    assert!(run(&machine, "rpm -e asg-agent").contains("history of faults stays in /var/log/asg-agent"));
    run(&machine, "test -s /var/log/asg-agent/faults.jsonl && rm -r /var/log/asg-agent");
    let left: Vec<String> = files(&machine).difference(&before).cloned().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(run(&machine, "pgrep -x agent || echo none"), "none");
    assert_eq!(run(&machine, "systemctl list-units --all --no-legend 'asg-agent*'"), "");
}

/// Its own user, two capabilities, real-time priority for one thread.
fn is_confined(machine: &Machine) {
    let status = run(machine, "cat /proc/$(pgrep -x agent)/status");
    // CAP_SYS_NICE is bit 23, CAP_DAC_READ_SEARCH bit 2 (linux/capability.h).
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000800004")), "{set}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(run(machine, "stat -c %U /proc/$(pgrep -x agent)"), "asg-agent");
    let threads = run(machine, "ps -L -o cls=,comm= -p $(pgrep -x agent)");
    let realtime: Vec<&str> = threads.lines().filter(|line| line.trim_start().starts_with("RR")).collect();
    assert_eq!(realtime.len(), 1, "{threads}");
    assert!(run(machine, "agent status").contains("real-time priority on"));
}

/// nginx's log may be read by root alone here, and the daemon isn't root.
fn follows_the_log(machine: &Machine) {
    run(machine, "chown root:root /var/log/nginx; chmod 700 /var/log/nginx");
    run(machine, "curl -s -A ELB-HealthChecker/2.0 http://127.0.0.1/ >/dev/null; chmod 600 /var/log/nginx/*");
    let counted = || {
        machine
            .sh("curl -s http://127.0.0.1:8081/status | grep -q '\"reading\":true'")
            .is_ok_and(|o| o.status.success())
            && machine.sh("test -s /var/lib/asg-agent/serve/probes.json").is_ok_and(|o| o.status.success())
    };
    assert!(wait_until(LONG, counted), "{}", run(machine, "curl -s http://127.0.0.1:8081/status"));
}

/// Every path of the machine that a package could leave something in, its user and its group.
fn files(machine: &Machine) -> BTreeSet<String> {
    let find = "find /etc /usr /opt /var/lib /var/log/asg-agent /run/asg-agent 2>/dev/null";
    // The machine's own: keys and caches of systemd, rpm's database, the files before the last edit.
    let theirs =
        "grep -v -e ^/var/lib/systemd -e ^/var/lib/rpm -e ^/var/lib/nginx -e '-$' -e ^/etc/machine-id";
    let lines = run(machine, &format!("({find} | {theirs}; getent passwd; getent group) | sort"));
    lines.lines().map(str::to_owned).collect()
}
