//! Upgrades and what they must leave as it is; and that neither an upgrade nor a removal happens under a fault.

use world::machine::Machine;
use world::place::wait_until;

use super::{LONG, comes, health, journal, machine, package, property, run, status, try_run};

fn upgrade(machine: &Machine) {
    // By force, as the second upgrade is from the same release to itself: rpm does the same steps.
    run(machine, "rpm -U --nodeps --force /*-2.*.rpm");
}

/// One machine for all of it: nothing costs as much as a machine.
#[test]
fn an_upgrade_keeps_what_was_decided_and_never_happens_under_a_fault() {
    let (Some(first), Some(second)) = (package("1"), package("2")) else { return };
    let Some(machine) = machine(&[first, second]) else { return };
    keeps_what_was_decided(&machine);
    ends_a_fault_first(&machine);
}

fn keeps_what_was_decided(machine: &Machine) {
    run(machine, "rpm -i --nodeps /*-1.*.rpm");
    run(machine, "systemctl start asg-agent");
    run(machine, "sed -i 's/^expect = \"5s\"/expect = \"10s\"/' /etc/asg-agent/agent.toml");
    comes(machine, "200");

    let pid = property(machine, "MainPID");
    upgrade(machine);
    let restarted = || health(machine) == "200" && property(machine, "MainPID") != pid;
    assert!(wait_until(LONG, restarted), "{}", journal(machine));
    assert_eq!(run(machine, "rpm -q --qf '%{RELEASE}' asg-agent"), "2");
    run(machine, "grep -q 'expect = \"10s\"' /etc/asg-agent/agent.toml");
    let said = journal(machine);
    assert!(!said.contains("/health says 503 for"), "an upgrade drains nothing: {said}");
    assert!(!said.contains("Failed with result"), "{said}");

    run(machine, "systemctl disable --now asg-agent");
    upgrade(machine);
    assert_eq!(try_run(machine, "systemctl is-enabled asg-agent").1, "disabled");
    assert_eq!(try_run(machine, "systemctl is-active asg-agent").1, "inactive");

    run(machine, "rpm -e asg-agent");
    assert_eq!(run(machine, "ls /etc/asg-agent"), "agent.toml.rpmsave", "what was edited isn't thrown away");
    run(machine, "rm -r /etc/asg-agent");
}

fn ends_a_fault_first(machine: &Machine) {
    run(machine, "rpm -i --nodeps /*-1.*.rpm");
    assert!(wait_until(LONG, || status(machine, "http://127.0.0.1/") == "200"));
    for change in ["rpm -U --nodeps /*-2.*.rpm", "rpm -e asg-agent"] {
        run(machine, "agent fail --mode stop --secs 250 --detach");
        assert_eq!(status(machine, "http://127.0.0.1/"), "000");
        run(machine, change);
        assert_eq!(status(machine, "http://127.0.0.1/"), "200", "{change}");
        assert_eq!(run(machine, "pgrep -x agent || echo none"), "none");
        assert_eq!(run(machine, "systemctl list-timers --all | grep -c asg-agent || true"), "0");
    }
    // One that can't be ended keeps the package, which alone knows how to.
    run(machine, "rpm -i --nodeps /*-2.*.rpm");
    run(machine, "agent fail --mode stop --secs 250 --detach");
    run(machine, "echo nonsense >/etc/nginx/nginx.conf");
    let (code, said) = try_run(machine, "rpm -e asg-agent");
    assert!(code != Some(0) && said.contains("could not be ended"), "{said}");
    assert_eq!(run(machine, "rpm -q --qf '%{RELEASE}' asg-agent"), "2");
}
