//! SIGKILL at every step: the fault ends at its deadline all the same.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};
use world::agent::Running;
use world::place::wait_until;

use super::{LONG, World, exists, finish};

/// Where the command dies, in the order of a fault. At those of the recovery the keeper dies as well.
pub(super) const STEPS: [&str; 11] = [
    "recorded",
    "leased",
    "inject.opened",
    "inject.signalled",
    "inject.done",
    "injected",
    "effective",
    "recover.begun",
    "recover.restored",
    "recover.noted",
    "recover.removed",
];

/// Kills the command at `step` and waits for its death.
fn killed_at(world: &World, mode: &str, step: &str) {
    let mut command = world.fail(&format!("--mode {mode} --secs 2"));
    command.env("AGENT_FAILPOINT", step);
    let mut running = Running::spawn(&world.place, command).unwrap();
    let status = running.wait(LONG).unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9),
        "{step}: {}",
        running.stderr()
    );
}

fn each_step(test: fn(&str, &str)) {
    for mode in ["stop", "crash", "hang"] {
        let reached = |step: &&str| mode != "hang" || !["inject.opened", "inject.signalled"].contains(step);
        std::thread::scope(|scope| {
            for step in STEPS.into_iter().filter(reached) {
                scope.spawn(move || test(mode, step));
            }
        });
    }
}

#[test]
fn the_keeper_ends_what_a_killed_command_left_behind() {
    each_step(|mode, step| {
        let world = World::new();
        killed_at(&world, mode, step);
        // Without a keeper (not started yet, or killed by the same failpoint) the next command is it.
        if step == "recorded" || step.starts_with("recover.") {
            assert!(wait_until(LONG, || world.agents().is_empty()), "{step}: the keeper dies at it as well");
            overdue(&world);
        }
        world.is_well();
    });
}

#[test]
fn any_command_ends_what_a_killed_command_and_a_killed_keeper_left_behind() {
    each_step(|mode, step| {
        let world = World::new();
        killed_at(&world, mode, step);
        for pid in world.agents() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        assert!(wait_until(LONG, || world.agents().is_empty()));
        overdue(&world);
        world.is_well();
    });
}

/// Waits for the deadline and runs a command that has nothing to do with faults: a dry run.
pub(super) fn overdue(world: &World) {
    world.wait_for_deadline();
    let (code, _, stderr) = finish(world.fail("--mode stop --dry-run"));
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn before_the_deadline_the_next_command_arms_the_lease_anew() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode stop --secs 4 --detach")).0, 0);
    let keeper = world.keeper().unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    assert!(wait_until(LONG, || !exists(keeper)));
    let (code, _, stderr) = finish(world.fail("--mode stop"));
    assert!(code == 4 || code == 0, "refused while the fault lasts: {code} {stderr}");
    world.is_well();
}

#[test]
fn a_keeper_that_is_killed_while_the_command_lives_is_replaced() {
    let world = World::new();
    let running = Running::spawn(&world.place, world.fail("--mode crash --secs 250")).unwrap();
    running.event("effective", LONG).unwrap();
    let keeper = world.keeper().unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    assert!(wait_until(LONG, || world.keeper().is_some_and(|new| new != keeper && exists(new))));
    running.end(Signal::SIGINT).unwrap();
    world.is_well();
}

#[test]
fn a_command_that_is_stopped_at_the_wrong_moment_does_not_keep_the_fault_alive() {
    let world = World::new();
    let running = Running::spawn(&world.place, world.fail("--mode stop --secs 2")).unwrap();
    running.event("injected", LONG).unwrap();
    running.signal(Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    assert!(wait_until(LONG, || !world.record().exists()), "{:?} {}", start.elapsed(), world.history());
    assert!(world.nginx.answers());
    drop(running);
    world.is_well();
}

#[test]
fn a_recovery_that_fails_stays_on_record_and_is_tried_again() {
    let world = World::new();
    let conf = std::fs::read_to_string(&world.nginx.conf).unwrap();
    let running = Running::spawn(&world.place, world.fail("--mode stop --secs 2")).unwrap();
    running.event("effective", LONG).unwrap();
    std::fs::write(&world.nginx.conf, conf.replace("listen", "lissen")).unwrap();
    let mut running = running;
    assert_eq!(running.wait(LONG).unwrap().code(), Some(1), "{}", running.stderr());
    assert!(running.stderr().contains("not recovered") && running.stderr().contains("lissen"));
    let (code, _, stderr) = world.run(&["recover"]);
    assert!(code == 1 && stderr.contains("stays on record"), "{code} {stderr}");
    assert!(world.record().exists());
    std::fs::write(&world.nginx.conf, conf).unwrap();
    world.is_well();
}

#[test]
fn a_command_killed_at_any_instant_leaves_no_fault_past_the_deadline() {
    for mode in ["stop", "crash", "hang"] {
        std::thread::scope(|scope| {
            for instant in 0..10 {
                scope.spawn(move || {
                    let world = World::new();
                    let running =
                        Running::spawn(&world.place, world.fail(&format!("--mode {mode} --secs 2"))).unwrap();
                    // What is tested is death at an arbitrary instant, so a sleep is the point.
                    std::thread::sleep(Duration::from_millis(7 * instant));
                    for pid in world.agents().into_iter().chain([running.pid()]) {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                    drop(running);
                    assert!(wait_until(LONG, || world.agents().is_empty()));
                    overdue(&world);
                    world.is_well();
                });
            }
        });
    }
}

#[test]
fn a_fault_of_another_boot_is_over() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode crash --secs 250 --detach")).0, 0);
    kill(Pid::from_raw(world.keeper().unwrap()), Signal::SIGKILL).unwrap();
    assert!(wait_until(LONG, || world.agents().is_empty()));
    let mut record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.record()).unwrap()).unwrap();
    record["boot_id"] = "00000000-0000-0000-0000-000000000000".into();
    std::fs::write(world.record(), record.to_string()).unwrap();
    assert_eq!(finish(world.fail("--mode stop --dry-run")).0, 0);
    assert!(world.history().contains(r#""detail":"reboot""#));
    world.is_well();
}
