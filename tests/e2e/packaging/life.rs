//! The life of an installed package: installed, upgraded, rebooted, removed.

use std::time::Duration;

use world::machine::Machine;
use world::place::wait_until;

use super::{machine, package};

const LONG: Duration = Duration::from_secs(40);

/// Runs a command line that must succeed.
fn run(machine: &Machine, line: &str) -> String {
    let output = machine.sh(line).unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    assert!(output.status.success(), "`{line}`: {said}\n{}", journal(machine));
    said
}

fn journal(machine: &Machine) -> String {
    machine
        .says("journalctl --no-pager -n 60 -u 'asg-agent*' -u nginx; systemctl --no-pager --failed")
        .unwrap()
}

fn health(machine: &Machine) -> String {
    machine.says("curl -s -o /dev/null -m 2 -w '%{http_code}' http://127.0.0.1:8080/health").unwrap()
}

fn comes(machine: &Machine, code: &str) {
    assert!(wait_until(LONG, || health(machine) == code), "no {code}: {}", journal(machine));
}

fn main_pid(machine: &Machine) -> String {
    machine.says("systemctl show -p MainPID asg-agent").unwrap()
}

#[test]
fn a_package_is_installed_serves_and_leaves_nothing() {
    let Some(first) = package("1") else { return };
    let Some(mut machine) = machine(&[first]) else { return };
    let before = files(&machine);
    println!("{}", run(&machine, "rpm -i --nodeps /*-1.x86_64.rpm"));
    assert_eq!(run(&machine, "systemctl is-enabled asg-agent asg-agent-recover"), "enabled\nenabled");
    run(&machine, "systemctl start asg-agent");
    comes(&machine, "200");
    println!("{}", run(&machine, "agent status; grep -E 'Cap|NoNew|Secc' /proc/$(pgrep -x agent)/status"));
    println!("{}", journal(&machine));
    run(&machine, "systemctl stop nginx");
    comes(&machine, "503");
    run(&machine, "systemctl start nginx");
    comes(&machine, "200");
    let pid = main_pid(&machine);
    run(&machine, "systemctl kill -s KILL asg-agent");
    assert!(wait_until(LONG, || health(&machine) == "200" && main_pid(&machine) != pid));
    machine.reboot().unwrap();
    comes(&machine, "200");
    run(&machine, "rpm -e asg-agent");
    assert_eq!(files(&machine), before);
}

/// Every path of the machine that a package could leave something in.
fn files(machine: &Machine) -> String {
    machine
        .says("find /etc /usr /opt /var/lib/asg-agent /var/log/asg-agent /run/asg-agent 2>/dev/null | sort; id asg-agent 2>&1")
        .unwrap()
}
