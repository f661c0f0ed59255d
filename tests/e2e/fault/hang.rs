//! `hang`: connections open, nothing answers, and the kernel lets go when the keeper dies.

use std::net::TcpStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::agent::Running;
use world::place::wait_until;

use super::{LONG, World, exists, finish};

/// The states of the master and its workers: `t` where a tracer holds them.
fn states(world: &World) -> Vec<char> {
    let family = world.nginx.workers().into_iter().chain([world.nginx.master().unwrap()]);
    family
        .map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().chars().next().unwrap()
        })
        .collect()
}

#[test]
fn a_hung_nginx_accepts_answers_nothing_and_runs_on_as_it_was() {
    let world = World::new();
    let (master, workers) = (world.nginx.master().unwrap(), world.nginx.workers());
    let mut running = Running::spawn(&world.place, world.fail("--mode hang --secs 4")).unwrap();
    assert_eq!(running.event("effective", LONG).unwrap()["observed"], "does not answer");
    assert_eq!(states(&world), ['t', 't', 't']);
    assert!(TcpStream::connect_timeout(&world.nginx.addr, LONG).is_ok(), "the kernel still accepts");
    let result = running.event("result", LONG).unwrap();
    assert_eq!((&result["effective"], &result["recovered"]), (&true.into(), &true.into()));
    assert_eq!(running.wait(LONG).unwrap().code(), Some(0));
    world.is_well();
    assert_eq!((world.nginx.master().unwrap(), world.nginx.workers()), (master, workers));
}

#[test]
fn the_kernel_lets_go_when_the_keeper_is_killed() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode hang --secs 250 --detach")).0, 0);
    let keeper = world.keeper().unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    assert!(wait_until(LONG, || world.nginx.answers()));
    // The record outlives it, until the next command of root's finds that the fault is over.
    assert!(world.record().exists());
    let (code, _, stderr) = finish(world.fail("--mode stop --dry-run"));
    assert_eq!(code, 0, "{stderr}");
    world.is_well();
}

#[test]
fn the_kernel_lets_go_even_when_the_keeper_is_stopped() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode hang --secs 3 --detach")).0, 0);
    kill(Pid::from_raw(world.keeper().unwrap()), Signal::SIGSTOP).unwrap();
    assert!(!world.nginx.answers());
    assert!(wait_until(LONG, || world.nginx.answers()));
    finish(world.fail("--mode stop --dry-run"));
    world.is_well();
}

#[test]
fn a_command_whose_keeper_is_killed_ends_the_fault() {
    let world = World::new();
    let mut running = Running::spawn(&world.place, world.fail("--mode hang --secs 250")).unwrap();
    running.event("effective", LONG).unwrap();
    kill(Pid::from_raw(world.keeper().unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(running.event("recovering", LONG).unwrap()["why"], "released");
    assert_eq!(running.wait(LONG).unwrap().code(), Some(0));
    world.is_well();
}

#[test]
fn recover_ends_a_hang_at_once() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode hang --secs 250 --detach")).0, 0);
    let keeper = world.keeper().unwrap();
    assert_eq!(world.run(&["recover"]).0, 0);
    assert!(world.nginx.answers() && wait_until(LONG, || !exists(keeper)));
    world.is_well();
}

#[test]
fn an_nginx_that_is_being_debugged_is_left_alone() {
    let world = World::new();
    let master = world.nginx.master().unwrap();
    let thread = std::thread::spawn(move || {
        let pid = Pid::from_raw(master);
        nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).unwrap();
        let (code, _, stderr) = finish(world.fail("--mode hang --secs 2"));
        assert!(code == 4 && stderr.contains("is being traced by process"), "{code} {stderr}");
        nix::sys::ptrace::interrupt(pid).unwrap();
        nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap();
        nix::sys::ptrace::detach(pid, None).unwrap();
        world.is_well();
    });
    thread.join().unwrap();
}

#[test]
fn a_keeper_that_dies_while_it_is_seizing_leaves_nginx_running() {
    let world = World::new();
    let mut command = world.fail("--mode hang --secs 30");
    command.env("AGENT_FAILPOINT", "hold.master");
    let (code, events, stderr) = finish(command);
    assert!(code == 1 && stderr.contains("did not answer"), "{code} {stderr} {events:?}");
    assert!(world.nginx.answers());
    world.is_well();
}
