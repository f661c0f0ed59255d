//! Whether nginx could be brought back is tried before anything is touched, and `--dry-run` says so.

use std::process::Command;

use world::agent::Running;
use world::place::wait_until;

use super::{LONG, World, finish, names};

fn edit(world: &World, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(&world.nginx.conf).unwrap();
    std::fs::write(&world.nginx.conf, change(text)).unwrap();
}

/// Refused with exit 4 and these words, by `fail` and by `--dry-run`, and nginx is what it was.
fn is_refused(world: &World, mode: &str, told: &str) {
    let master = world.nginx.master().unwrap();
    let (code, _, stderr) = finish(world.fail(&format!("--mode {mode} --secs 2")));
    assert!(code == 4 && stderr.contains(told), "{mode}: {code} {stderr}");
    let (code, events, _) = finish(world.fail(&format!("--mode {mode} --secs 2 --dry-run")));
    let rehearsal = &events.last().unwrap()["rehearsal"];
    assert_eq!((code, &rehearsal["can_be_brought_back"]), (4, &false.into()), "{mode}: {events:?}");
    assert!(rehearsal["because"].as_str().unwrap().contains(told), "{mode}: {rehearsal}");
    world.is_untouched(master);
}

#[test]
fn a_configuration_that_no_longer_loads_refuses_what_would_need_it() {
    for (garbage, told) in [
        ("garbage {\n", "garbage"),
        ("http { include /nonexistent.conf; }\n", "\"http\" directive is duplicate"),
        ("load_module modules/ngx_nonexistent.so;\n", "load_module"),
    ] {
        let world = World::new();
        edit(&world, |text| text + garbage);
        for mode in ["stop", "crash"] {
            is_refused(&world, mode, told);
        }
        let (code, _, stderr) = finish(world.fail("--mode hang --secs 1"));
        assert_eq!(code, 0, "a hang needs no restart: {stderr}");
        world.is_well();
    }
}

#[test]
fn a_listener_that_would_be_lost_is_a_reason_and_one_that_would_be_new_is_told() {
    let world = World::new();
    let (at, other) = (world.nginx.addr, format!("{}:8080", world.place.ip));
    edit(&world, |text| text.replace(&format!("listen {at};"), &format!("listen {other};")));
    is_refused(&world, "crash", &format!("no longer listens on {at}"));
    edit(&world, |text| text.replace(&format!("listen {other};"), &format!("listen {at}; listen {other};")));
    let (code, events, _) = finish(world.fail("--mode crash --dry-run"));
    let findings = events[0]["rehearsal"]["findings"].to_string();
    assert!(code == 0 && findings.contains(&format!("listens on {other} too")), "{code} {findings}");
}

#[test]
fn a_dry_run_says_that_a_fault_is_active_and_touches_nothing() {
    let world = World::new();
    let running = Running::spawn(&world.place, world.fail("--mode hang --secs 250")).unwrap();
    running.event("effective", LONG).unwrap();
    let record = std::fs::read(world.record()).unwrap();
    let (code, events, stderr) = finish(world.fail("--mode stop --dry-run"));
    assert_eq!((code, names(&events)[0]), (4, "plan"), "{stderr}");
    assert!(events[0]["active"].as_str().unwrap().starts_with("hang on nginx"), "{events:?}");
    assert_eq!(std::fs::read(world.record()).unwrap(), record);
    running.end(nix::sys::signal::Signal::SIGTERM).unwrap();
    world.is_well();
}

#[test]
fn a_binary_that_is_being_replaced_is_refused_whichever_of_the_two_masters_is_meant() {
    for replaced in [false, true] {
        let world = World::new();
        world.nginx.stop().unwrap();
        let binary = world.place.join("nginx-binary");
        world::program::copy("/usr/sbin/nginx", &binary).unwrap();
        let mut start = Command::new(&binary);
        start.arg("-c").arg(&world.nginx.conf).arg("-p").arg(world.nginx.prefix());
        assert!(start.current_dir("/").status().unwrap().success());
        assert!(wait_until(LONG, || world.nginx.answers() && world.nginx.workers().len() == 2));
        let old = world.nginx.master().unwrap();
        if replaced {
            world::program::copy(&binary, world.place.join("new")).unwrap();
            std::fs::rename(world.place.join("new"), &binary).unwrap();
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(old), nix::sys::signal::Signal::SIGUSR2).unwrap();
        let new = || world.nginx.master().is_ok_and(|new| new != old) && world.nginx.workers().len() == 2;
        assert!(wait_until(LONG, new));
        let new = world.nginx.master().unwrap();
        for args in
            [vec!["--pid".to_owned(), old.to_string()], vec!["--pid".to_owned(), new.to_string()], vec![]]
        {
            let conf = world.nginx.conf.to_string_lossy().into_owned();
            let which = if args.is_empty() { vec!["--conf".to_owned(), conf] } else { args };
            let mut all = vec!["fail", "--mode", "crash", "--secs", "1"];
            all.extend(which.iter().map(String::as_str));
            let (code, _, stderr) = world.run(&all);
            assert!(code == 4 && stderr.contains("an upgrade of its binary is under way"), "{code} {stderr}");
        }
        assert!(super::exists(old) && super::exists(new) && world.nginx.answers());
    }
}

#[test]
fn a_title_without_room_for_it_is_not_guessed() {
    let world = World::new();
    world.nginx.stop().unwrap();
    let mut bare = Command::new("env");
    let real = std::path::Path::new("/usr/sbin/nginx").canonicalize().unwrap();
    bare.arg("-i").arg(real).arg("-c").arg(&world.nginx.conf).arg("-p").arg(world.nginx.prefix());
    assert!(bare.current_dir("/").status().unwrap().success());
    assert!(wait_until(LONG, || world.nginx.answers()));
    let master = world.nginx.master().unwrap().to_string();
    let (code, _, stderr) = world.run(&["fail", "--mode", "crash", "--pid", &master]);
    assert!(code == 4 && stderr.contains("is cut off"), "{code} {stderr}");
}

#[test]
fn who_is_named_wrongly_is_told_the_right_name() {
    let world = World::new();
    let (master, worker) = (world.nginx.master().unwrap(), world.nginx.workers()[0]);
    let (code, _, stderr) = world.run(&["fail", "--mode", "crash", "--pid", &worker.to_string()]);
    assert!(
        code == 3 && stderr.contains(&format!("a worker of nginx {master}: use --pid {master}")),
        "{code} {stderr}"
    );
    let (code, _, stderr) = world.run(&["fail", "--mode", "crash", "--conf", "/nonexistent/nginx.conf"]);
    let here = format!("--pid {master} (--conf {})", world.nginx.conf.display());
    assert!(
        code == 3 && stderr.contains("there is no such file") && stderr.contains(&here),
        "{code} {stderr}"
    );
    world.is_untouched(master);
}
