//! nginx under a real systemd: its unit, an init script, `Restart=`, the timer of PID 1, a reboot.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use world::machine::Machine;
use world::place::wait_until;

use super::skipped;

const LONG: Duration = Duration::from_secs(40);

pub(super) fn machine(prepare: impl FnOnce(&Path) -> anyhow::Result<()>) -> Option<Machine> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines");
    let machine = Machine::boot(&cache, prepare).unwrap();
    if machine.is_none() {
        skipped("mmdebstrap, systemd-nspawn or root is missing");
    }
    machine
}

/// How an nginx of one's own is started.
struct Script {
    /// The script's, and so the unit's.
    name: &'static str,
    /// A line that tells systemd where the pid is (systemd-sysv-generator(8)); without it the unit stays "active
    /// (exited)" whatever becomes of nginx.
    header: &'static str,
    /// Whether it is started at boot.
    enabled: bool,
}

/// /opt/nginx as one that was built from source, with an init script as people write it.
fn with_init_script(root: &Path, script: &Script) -> anyhow::Result<()> {
    for folder in ["opt/nginx/logs", "opt/nginx/sbin"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    world::program::copy(root.join("usr/sbin/nginx"), root.join("opt/nginx/sbin/nginx"))?;
    std::fs::write(
        root.join("opt/nginx/nginx.conf"),
        "pid /opt/nginx/logs/nginx.pid; error_log /opt/nginx/logs/error.log; events {}\n\
         http { access_log off; server { listen 80; location / { return 200; } } }",
    )?;
    let path = root.join("etc/init.d").join(script.name);
    std::fs::write(
        &path,
        format!(
            "#!/bin/sh\n{}### BEGIN INIT INFO\n# Provides: {}\n# Required-Start: $remote_fs\n\
             # Required-Stop: $remote_fs\n# Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n\
             # Short-Description: nginx in /opt\n### END INIT INFO\n\
             N='/opt/nginx/sbin/nginx -c /opt/nginx/nginx.conf'\ncase $1 in\n  start) $N ;;\n  stop) $N -s stop ;;\n\
             \x20 restart) $N -s stop; sleep 1; $N ;;\nesac\n",
            script.header, script.name
        ),
    )?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    for level in ["rc2.d", "rc3.d", "rc4.d", "rc5.d"] {
        let link = root.join("etc").join(level).join(format!("S01{}", script.name));
        let _ = std::fs::remove_file(&link);
        if script.enabled {
            std::os::unix::fs::symlink(format!("../init.d/{}", script.name), link)?;
        }
    }
    // The package's own unit is another nginx, or would hide the script of its name.
    let unit = ["usr/lib/systemd/system/nginx.service", "lib/systemd/system/nginx.service"];
    unit.iter().for_each(|unit| drop(std::fs::remove_file(root.join(unit))));
    let wants = "etc/systemd/system/multi-user.target.wants/nginx.service";
    let _ = std::fs::remove_file(root.join(wants));
    Ok(())
}

pub(super) fn serves(machine: &Machine) -> bool {
    machine.says("curl -s -o /dev/null -m 2 -w '%{http_code}' http://127.0.0.1/").is_ok_and(|s| s == "200")
}

/// nginx answers, in its unit, and nothing is on record.
fn is_well(machine: &Machine, unit: &str) {
    let tidy = || {
        serves(machine)
            && machine.sh("test -e /var/lib/asg-agent/fault.json").is_ok_and(|o| !o.status.success())
            && machine.says(&format!("systemctl is-active {unit}")).is_ok_and(|s| s == "active")
            && machine.says("pgrep -x agent").is_ok_and(|s| s.is_empty())
            && machine.says("systemctl list-timers --all | grep asg-agent").is_ok_and(|s| s.is_empty())
    };
    assert!(wait_until(LONG, tidy), "{}", machine.says("systemctl status --no-pager; ps ax").unwrap());
    let group = machine.says("cat /proc/$(pgrep -o -x nginx)/cgroup | grep ^0::").unwrap();
    assert!(group.ends_with(&format!("/{unit}")), "{group}");
}

pub(super) fn run(machine: &Machine, line: &str) -> (Option<i32>, String) {
    let output = machine.sh(line).unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_unit_is_stopped_and_comes_back_as_a_unit_and_a_timer_outlives_us() {
    let Some(machine) = machine(|_| Ok(())) else { return };
    assert!(wait_until(LONG, || serves(&machine)));
    for mode in ["stop", "crash", "hang"] {
        let (code, said) = run(&machine, &format!("agent fail --mode {mode} --secs 2"));
        assert_eq!(code, Some(0), "{mode}: {said}");
        is_well(&machine, "nginx.service");
    }
    for mode in ["stop", "crash", "hang"] {
        let (code, said) = run(&machine, &format!("agent fail --mode {mode} --secs 3 --detach"));
        assert_eq!(code, Some(0), "{mode}: {said}");
        let timers = machine.says("systemctl list-timers --all | grep -c asg-agent").unwrap();
        assert_eq!(timers, "1", "{mode}");
        machine.sh("pkill -KILL -x agent").unwrap();
        is_well(&machine, "nginx.service");
    }
    let (code, said) = run(&machine, "agent recover");
    assert!(code == Some(0) && said.contains("no fault is active"), "{said}");
}

#[test]
fn a_unit_that_systemd_would_restart_is_not_crashed_without_force() {
    let Some(machine) = machine(|root| {
        let folder = root.join("etc/systemd/system/nginx.service.d");
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join("restart.conf"), "[Service]\nRestart=on-failure\n")?)
    }) else {
        return;
    };
    assert!(wait_until(LONG, || serves(&machine)));
    let (code, said) = run(&machine, "agent fail --mode crash --secs 2");
    assert!(code == Some(4) && said.contains("nginx.service has Restart=on-failure"), "{code:?} {said}");
    let (code, said) = run(&machine, "agent fail --mode stop --secs 2");
    assert_eq!(code, Some(0), "a stop is not undone: {said}");
    is_well(&machine, "nginx.service");
    // With --force it is seen to be undone, and nobody claims that the fault goes on.
    let (code, said) = run(&machine, "agent fail --mode crash --secs 250 --force");
    assert!(said.contains("systemd undoes this crash at once"), "{said}");
    assert!(code == Some(1) && (said.contains("lost") || said.contains("no effect")), "{code:?} {said}");
    is_well(&machine, "nginx.service");
}

#[test]
fn the_timer_ends_a_fault_whose_binary_was_removed_or_replaced_by_another_program() {
    let Some(machine) = machine(|_| Ok(())) else { return };
    assert!(wait_until(LONG, || serves(&machine)));
    let other =
        "printf '#!/bin/sh\nexit 1\n' >/usr/bin/new; chmod 755 /usr/bin/new; mv /usr/bin/new /usr/bin/agent";
    for (mode, what) in [("stop", "rm /usr/bin/agent"), ("crash", other)] {
        machine.sh("cp /usr/bin/agent /root/kept").unwrap();
        let (code, said) = run(&machine, &format!("agent fail --mode {mode} --secs 4 --detach"));
        assert_eq!(code, Some(0), "{mode}: {said}");
        machine.sh(&format!("{what}; pkill -KILL -x agent")).unwrap();
        assert!(!serves(&machine), "{mode}: nobody is left but the timer");
        is_well(&machine, "nginx.service");
        machine.sh("mv /root/kept /usr/bin/agent").unwrap();
        let left = machine.says("ls /var/lib/asg-agent").unwrap();
        assert!(!left.contains("agent") && !left.contains("fault"), "{mode}: {left}");
    }
}

#[test]
fn a_session_that_is_closed_ends_its_fault() {
    let Some(machine) = machine(|_| Ok(())) else { return };
    assert!(wait_until(LONG, || serves(&machine)));
    // As logind does it with KillUserProcesses=yes: everything in the session's scope, the keeper too.
    for (end, mode) in [("systemctl stop", "stop"), ("systemctl kill -s KILL", "crash")] {
        let session =
            format!("systemd-run --quiet --scope --unit=session-{mode} agent fail --mode {mode} --secs 8");
        let mut fault =
            machine.shell(&session).unwrap().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let effective = || {
            machine
                .says("tail -n 1 /var/log/asg-agent/faults.jsonl")
                .is_ok_and(|l| l.contains("\"effective\""))
        };
        assert!(wait_until(LONG, effective), "{mode}");
        assert!(!serves(&machine), "{mode}");
        let (code, said) = run(&machine, &format!("{end} session-{mode}.scope"));
        assert_eq!(code, Some(0), "{said}");
        fault.wait().unwrap();
        is_well(&machine, "nginx.service");
    }
}

#[test]
fn a_keeper_that_is_killed_is_replaced_though_its_timer_is_armed() {
    let Some(machine) = machine(|_| Ok(())) else { return };
    assert!(wait_until(LONG, || serves(&machine)));
    let mut fault = machine.shell("agent fail --mode stop --secs 6").unwrap();
    let mut fault = fault.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let keepers = || machine.says("pgrep -f 'agent __keep'").unwrap_or_default();
    assert!(wait_until(LONG, || !keepers().is_empty() && !serves(&machine)));
    let first = keepers();
    machine.sh("pkill -KILL -f 'agent __keep'").unwrap();
    assert!(wait_until(LONG, || !keepers().is_empty() && keepers() != first), "no new keeper");
    assert_eq!(fault.wait().unwrap().code(), Some(0));
    is_well(&machine, "nginx.service");
}

#[test]
fn an_init_script_is_restarted_with_and_without_a_pid_file_header() {
    let scripts = [
        Script { name: "web", header: "", enabled: true },
        Script { name: "web", header: "# pidfile: /opt/nginx/logs/nginx.pid\n", enabled: true },
        Script { name: "nginx", header: "", enabled: false },
    ];
    for script in scripts {
        let Some(machine) = machine(|root| with_init_script(root, &script)) else { return };
        let unit = format!("{}.service", script.name);
        if !script.enabled {
            let (code, said) = run(&machine, &format!("service {} start", script.name));
            assert_eq!(code, Some(0), "{said}");
        }
        assert!(wait_until(LONG, || serves(&machine)), "{}", machine.says("systemctl status").unwrap());
        for mode in ["crash", "stop", "hang"] {
            let (code, said) = run(&machine, &format!("agent fail --mode {mode} --secs 2"));
            assert_eq!(code, Some(0), "{unit} {mode}: {said}");
            is_well(&machine, &unit);
        }
        // What makes `restart` necessary.
        let (code, said) = run(&machine, "agent fail --mode crash --secs 60 --detach");
        assert_eq!(code, Some(0), "{said}");
        let claims = machine.says(&format!("systemctl is-active {unit}")).unwrap() == "active";
        assert_eq!(claims, script.header.is_empty(), "{unit}");
        if claims {
            run(&machine, &format!("service {} start", script.name));
            assert!(!serves(&machine), "start does nothing");
        }
        let (code, said) = run(&machine, "agent recover");
        assert_eq!(code, Some(0), "{said}");
        is_well(&machine, &unit);
    }
}

/// The unit that ends at boot what a reboot left on record.
fn with_boot_unit(root: &Path) -> anyhow::Result<()> {
    let unit = include_str!("../../../packaging/systemd/asg-agent-recover.service");
    std::fs::write(root.join("etc/systemd/system/asg-agent-recover.service"), unit)?;
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    let unit = "/etc/systemd/system/asg-agent-recover.service";
    Ok(std::os::unix::fs::symlink(unit, wants.join("asg-agent-recover.service"))?)
}

#[test]
fn a_machine_that_is_shut_down_waits_for_no_fault_and_its_next_boot_ends_it() {
    let Some(mut machine) = machine(with_boot_unit) else { return };
    assert!(wait_until(LONG, || serves(&machine)));
    // A command and its keeper in a session; in a service; a keeper alone; both left to systemd-shutdown(8).
    for (around, fault) in [
        ("systemd-run --quiet --scope --unit=session-7", "--mode stop --secs 250"),
        ("systemd-run --quiet --property=KillMode=mixed", "--mode crash --secs 250"),
        ("systemd-run --quiet --scope", "--mode hang --secs 250 --detach"),
        ("systemd-run --quiet --property=KillMode=none", "--mode stop --secs 250"),
    ] {
        let line = format!("{around} agent fail {fault}");
        let mut command = machine.shell(&line).unwrap();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let last = |machine: &Machine| machine.says("tail -n 1 /var/log/asg-agent/faults.jsonl").unwrap();
        assert!(wait_until(LONG, || last(&machine).contains(r#""event":"effective""#)), "{line}");
        // Who goes on trying is killed after 90 s; `power_off` takes 60 at most.
        machine.power_off().unwrap();
        child.wait().unwrap();
        let history = std::fs::read_to_string(machine.root().join("var/log/asg-agent/faults.jsonl")).unwrap();
        let end = history.lines().next_back().unwrap_or_default();
        assert!(end.contains(r#""event":"left""#), "{line}: {history}");
        machine.power_on().unwrap();
        is_well(&machine, "nginx.service");
        assert!(last(&machine).contains(r#""event":"recovered""#), "{line}: {}", last(&machine));
        assert!(last(&machine).contains("reboot"), "{line}: {}", last(&machine));
    }
}

#[test]
fn a_reboot_ends_a_fault_and_the_history_says_so() {
    let Some(mut machine) = machine(with_boot_unit) else { return };
    assert!(wait_until(LONG, || serves(&machine)));
    for mode in ["stop", "crash"] {
        let (code, said) = run(&machine, &format!("agent fail --mode {mode} --secs 250 --detach"));
        assert_eq!(code, Some(0), "{said}");
        machine.sh("pkill -KILL -x agent").unwrap();
        assert!(!serves(&machine));
        machine.reboot().unwrap();
        is_well(&machine, "nginx.service");
        let history = machine.says("tail -n 1 /var/log/asg-agent/faults.jsonl").unwrap();
        assert!(history.contains(r#""event":"recovered""#) && history.contains("reboot"), "{history}");
    }
}
