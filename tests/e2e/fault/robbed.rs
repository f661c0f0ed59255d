//! What somebody removes, replaces or breaks while a fault lasts: it ends all the same, and nobody says more than was seen.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::agent::{self, Running};
use world::place::wait_until;

use super::{LONG, World, exists, finish, names};

#[test]
fn a_record_that_is_removed_is_put_back_and_nginx_comes_back() {
    let world = World::new();
    let mut running = Running::spawn(&world.place, world.fail("--mode stop --secs 4")).unwrap();
    running.event("effective", LONG).unwrap();
    std::fs::remove_file(world.record()).unwrap();
    assert!(wait_until(LONG, || world.record().exists()), "the next verb shall find it");
    assert_eq!(running.event("recovering", LONG).unwrap()["why"], "deadline");
    assert_eq!(running.wait(LONG).unwrap().code(), Some(0));
    world.is_well();
}

#[test]
fn without_a_record_a_run_folder_and_a_command_the_keeper_ends_the_fault() {
    for removed in [&["run"][..], &["state"], &["run", "state", "log"]] {
        let world = World::new();
        assert_eq!(finish(world.fail("--mode crash --secs 3 --detach")).0, 0);
        for folder in removed {
            std::fs::remove_dir_all(world.place.join(folder)).unwrap();
        }
        assert!(!world.nginx.answers());
        assert!(wait_until(LONG, || world.nginx.answers()), "{removed:?}");
        world.is_well();
    }
}

#[test]
fn recover_ends_a_fault_whose_record_was_removed() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode stop --secs 250 --detach")).0, 0);
    std::fs::remove_file(world.record()).unwrap();
    let (code, _, stderr) = world.run(&["recover"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(world.nginx.answers());
    world.is_well();
}

#[test]
fn recover_waits_for_a_keeper_that_is_just_ending() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode crash --secs 1")).0, 0);
    // So it holds its lock: without its name, which it gives back first.
    let lock = std::fs::File::create(world.place.join("run/keeper.lock")).unwrap();
    let mut lock = Some(Flock::lock(lock, FlockArg::LockExclusive).unwrap());
    let mut recover = agent::command(&world.place, &["recover"]);
    let mut recover = recover.stdout(Stdio::null()).spawn().unwrap();
    let ended = wait_until(Duration::from_millis(300), || recover.try_wait().unwrap().is_some());
    assert!(!ended, "a keeper was there");
    lock.take();
    assert_eq!(recover.wait().unwrap().code(), Some(0));
    world.is_well();
}

#[test]
fn recover_needs_paths_alone() {
    let wrong =
        [("AGENT_SERVE_DRAIN", "soon"), ("AGENT_NGINX_UNKNOWN", "1"), ("AGENT_CONFIG", "/nowhere.toml")];
    for (name, value) in wrong {
        let world = World::new();
        assert_eq!(finish(world.fail("--mode stop --secs 250 --detach")).0, 0);
        let mut recover = agent::command(&world.place, &["recover", "--json"]);
        let (code, _, stderr) = finish({
            recover.env(name, value);
            recover
        });
        assert_eq!(code, 0, "{name}: {stderr}");
        assert!(stderr.contains("agent: ") && world.nginx.answers(), "{name}: {stderr}");
        world.is_well();
    }
}

#[test]
fn a_binary_that_was_replaced_lets_go_of_nginx() {
    let world = World::new();
    let original = agent::command(&world.place, &[]).get_program().to_owned();
    let copy = world.place.join("agent-copy");
    world::program::copy(&original, &copy).unwrap();
    let template = world.fail("--mode hang --secs 250");
    let mut fail = Command::new(&copy);
    fail.args(template.get_args());
    for (name, value) in template.get_envs() {
        if let Some(value) = value {
            fail.env(name, value);
        }
    }
    let mut running = Running::spawn(&world.place, fail).unwrap();
    running.event("effective", LONG).unwrap();
    let new = world.place.join("new");
    world::program::copy(&original, &new).unwrap();
    std::fs::rename(&new, &copy).unwrap();
    running.signal(Signal::SIGTERM).unwrap();
    assert_eq!(running.wait(LONG).unwrap().code(), Some(143));
    assert!(world.nginx.answers());
    // And removed, with nobody but a keeper left to end it.
    let mut fail = Command::new(&copy);
    let template = world.fail("--mode stop --secs 3 --detach");
    fail.args(template.get_args());
    for (name, value) in template.get_envs() {
        if let Some(value) = value {
            fail.env(name, value);
        }
    }
    assert_eq!(finish(fail).0, 0);
    std::fs::remove_file(&copy).unwrap();
    assert!(wait_until(LONG, || world.nginx.answers()));
    world.is_well();
}

#[test]
fn a_reader_that_stopped_reading_delays_nothing() {
    let world = World::new();
    let mut fail = world.fail("--mode stop --secs 2");
    let (mut read, write) = std::io::pipe().unwrap();
    // Full before it begins: the first write would wait for ever.
    nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    while nix::unistd::write(&write, &[b'x'; 4096]).is_ok() {}
    nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    let mut child =
        fail.stdout(write.try_clone().unwrap()).stderr(write).stdin(Stdio::null()).spawn().unwrap();
    assert!(wait_until(LONG, || !world.nginx.answers()));
    assert!(wait_until(LONG, || world.nginx.answers() && !world.record().exists()));
    assert_eq!(child.wait().unwrap().code(), Some(0), "nor does it stay for its reader");
    drop(fail);
    let mut some = [0; 1];
    read.read_exact(&mut some).unwrap();
    world.is_well();
}

#[test]
fn an_effect_that_goes_is_told_and_is_a_failure() {
    let world = World::new();
    let mut running = Running::spawn(&world.place, world.fail("--mode hang --secs 250")).unwrap();
    running.event("effective", LONG).unwrap();
    // Somebody ends nginx and starts it again.
    kill(Pid::from_raw(world.nginx.master().unwrap()), Signal::SIGKILL).unwrap();
    let lost = running.event("lost", LONG).unwrap();
    assert!(lost["effective_ms"].as_u64().is_some(), "{lost}");
    assert_eq!(running.wait(LONG).unwrap().code(), Some(1));
    let result = running.event("result", LONG).unwrap();
    assert_eq!(result["recovered"], true, "{result}");
    assert!(result["effective_ms"].as_u64().unwrap() < 250_000 && result["lost"].is_string(), "{result}");
    world.is_well();
}

#[test]
fn a_signal_while_the_lock_is_waited_for_means_that_nothing_is_injected() {
    let world = World::new();
    let master = world.nginx.master().unwrap();
    std::fs::create_dir_all(world.place.join("run")).unwrap();
    let file = std::fs::File::create(world.place.join("run/fault.lock")).unwrap();
    file.lock().unwrap();
    let mut running = Running::spawn(&world.place, world.fail("--mode stop --secs 250")).unwrap();
    // It blocks the signals that end it first, and asks for the lock then (`SigBlk`, proc_pid_status(5)). Where others are
    // blocked too, a process is just being started (posix_spawn(3)).
    let waits = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or("0");
        let blocks = |mask: u64, signal: Signal| mask >> (signal as i32 - 1) & 1 == 1;
        u64::from_str_radix(blocked.trim(), 16)
            .is_ok_and(|mask| blocks(mask, Signal::SIGTERM) && !blocks(mask, Signal::SIGUSR2))
    };
    assert!(wait_until(LONG, waits));
    running.signal(Signal::SIGTERM).unwrap();
    drop(file);
    assert_eq!(running.wait(LONG).unwrap().code(), Some(143));
    world.is_untouched(master);
    assert!(!world.record().exists());
}

#[test]
fn what_a_killed_write_left_is_removed_by_the_next_verb() {
    let world = World::new();
    assert_eq!(finish(world.fail("--mode stop --secs 1")).0, 0);
    let left = world.place.join("state/.fault.json.4194303.new");
    std::fs::write(&left, "{").unwrap();
    assert!(!exists(4_194_303));
    let (_, events, _) = world.run(&["recover", "--json"]);
    assert_eq!(names(&events), ["result"]);
    assert!(!left.exists());
}
