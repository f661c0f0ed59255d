//! What is left when every process of ours was killed, and who clears it up.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::agent::{self, Running};
use world::daemon::Daemon;
use world::place::wait_until;

use super::killed::{STEPS, overdue};
use super::{LONG, World, exists, finish};

fn kill_all(world: &World) {
    for pid in world.agents() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    assert!(wait_until(LONG, || world.agents().is_empty()));
}

#[test]
fn a_daemon_that_starts_ends_what_is_overdue() {
    for mode in ["stop", "crash"] {
        let world = World::new();
        let daemon = world.daemon();
        assert_eq!(finish(world.fail(&format!("--mode {mode} --secs 1 --detach"))).0, 0);
        kill_all(&world);
        drop(daemon);
        world.wait_for_deadline();
        assert!(!world.nginx.answers() && world.record().exists(), "{mode}: nobody was left to end it");
        let daemon = Daemon::start(&world.place, &["--no-nginx"]).unwrap();
        assert!(world.nginx.answers() && !world.record().exists(), "{mode}: {}", daemon.process.stderr());
        assert!(daemon.process.stderr().contains("a fault is overdue"), "{mode}");
        drop(daemon);
        world.is_well();
    }
}

#[test]
fn a_daemon_that_starts_before_the_deadline_arms_the_lease_anew() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode crash --secs 4 --detach")).0, 0);
    let keeper = world.keeper().unwrap();
    kill_all(&world);
    let daemon = Daemon::start(&world.place, &["--no-nginx"]).unwrap();
    assert!(wait_until(LONG, || world.keeper().is_some_and(|new| new != keeper && exists(new))));
    assert!(wait_until(LONG, || world.nginx.answers() && !world.record().exists()));
    drop(daemon);
    world.is_well();
}

#[test]
fn a_fault_of_health_alone_ends_by_itself_wherever_its_makers_are_killed() {
    let steps = STEPS.into_iter().filter(|step| !["inject.opened", "inject.signalled"].contains(step));
    for mode in ["unhealthy", "slow --delay 600ms"] {
        std::thread::scope(|scope| {
            for step in steps.clone() {
                scope.spawn(move || {
                    let world = World::new();
                    let daemon = world.daemon();
                    let all = format!("fail --mode {mode} --secs 2");
                    let mut fail = agent::command(&world.place, &all.split(' ').collect::<Vec<_>>());
                    fail.env("AGENT_SERVE_ADMIN", daemon.admin.to_string()).env("AGENT_FAILPOINT", step);
                    Running::spawn(&world.place, fail).unwrap().wait(LONG).unwrap();
                    let others = |pid: &i32| *pid != daemon.process.pid();
                    for pid in world.agents().into_iter().filter(others) {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                    world.wait_for_deadline();
                    let well = || {
                        let quick = std::time::Duration::from_millis(500);
                        daemon.health().is_ok_and(|a| a.status == 200 && a.took < quick)
                    };
                    assert!(wait_until(LONG, well), "{mode} {step}");
                    drop(daemon);
                    overdue(&world);
                    world.is_well();
                });
            }
        });
    }
}

#[test]
fn days_that_the_wall_clock_jumps_change_no_deadline() {
    let world = World::new();
    let shim = world.place.join("jump.c");
    // Each look at the wall clock is a day off, once ahead and once behind.
    std::fs::write(
        &shim,
        "#define _GNU_SOURCE\n#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         int clock_gettime(clockid_t id, struct timespec *t) {\n\
         static int n; int r = syscall(SYS_clock_gettime, id, t);\n\
         if (id == CLOCK_REALTIME) t->tv_sec += n++ % 2 ? 86400 : -86400;\n return r; }\n",
    )
    .unwrap();
    let library = world.place.join("jump.so");
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&shim).status();
    assert!(made.unwrap().success(), "the linker's driver builds it, as it builds us");
    let mut fail = world.fail("--mode stop --secs 2");
    fail.env("LD_PRELOAD", &library);
    let start = std::time::Instant::now();
    let (code, events, stderr) = finish(fail);
    assert_eq!(code, 0, "{stderr}");
    let at = |n: usize| events[n]["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!((at(1) - at(0)).get_seconds().abs() > 80_000, "the clock does jump: {events:?}");
    let held = events.last().unwrap()["held_ms"].as_u64().unwrap();
    assert!((1000..=start.elapsed().as_millis() as u64).contains(&held), "{held}");
    world.is_well();
    // And without the command: the keeper's deadline.
    let mut fail = world.fail("--mode crash --secs 2 --detach");
    fail.env("LD_PRELOAD", &library);
    let start = std::time::Instant::now();
    assert_eq!(finish(fail).0, 0);
    assert!(wait_until(LONG, || world.nginx.answers()));
    assert!(start.elapsed() >= std::time::Duration::from_millis(1900), "{:?}", start.elapsed());
    world.is_well();
}
