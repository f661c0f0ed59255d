//! What others than root run and own is never waited for, and never taken for the nginx that is meant.

use std::os::unix::fs::symlink;
use std::process::Command;

use world::agent::Running;
use world::decoys::{Stranger, fifo, has_no_end, includes_itself};
use world::place::wait_until;

use super::{LONG, World, finish};

#[test]
fn whatever_strangers_call_their_configuration_delays_nothing_and_costs_no_memory() {
    let world = World::new();
    let strangers = [
        Stranger::new(fifo).unwrap(),
        Stranger::new(|path| symlink("/dev/zero", path)).unwrap(),
        Stranger::new(|path| symlink("/dev/tty", path)).unwrap(),
        Stranger::new(includes_itself).unwrap(),
        Stranger::new(has_no_end).unwrap(),
        Stranger::new(|path| std::fs::create_dir(path)).unwrap(),
        Stranger::new(|path| std::fs::write(path, [0xff; 5000])).unwrap(),
    ];
    for (named, mode) in [(false, "stop"), (true, "stop"), (true, "crash"), (true, "hang")] {
        let dry = if named { "" } else { "--dry-run" };
        let fail = world.fail(&format!("--mode {mode} --secs 1 {dry}"));
        let mut bounded = Command::new("prlimit");
        bounded.arg("--as=700000000").arg(fail.get_program());
        // Where nobody says which one is meant, every one is looked at; nginx of other tests as well.
        let kept = |arg: &&std::ffi::OsStr| named || *arg != "--conf" && *arg != world.nginx.conf.as_os_str();
        bounded.args(fail.get_args().filter(kept)).current_dir("/").env_clear();
        bounded.envs(fail.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let running = Running::spawn(&world.place, bounded).unwrap();
        if named {
            let result = running.event("result", LONG).unwrap();
            assert_eq!(result["recovered"], true, "{mode}: {result}");
            world.is_well();
        } else {
            let plan = running.line(LONG).unwrap().unwrap();
            assert!(plan.contains(&world.nginx.master().unwrap().to_string()), "{plan}");
            for stranger in &strangers {
                assert!(!plan.contains(stranger.place.path().to_str().unwrap()), "{plan}");
            }
        }
    }
    drop(strangers);
}

#[test]
fn a_strangers_nginx_on_the_same_port_is_no_recovery() {
    let world = World::new();
    world.nginx.stop().unwrap();
    // The old one removes its pid file last, whoever's that is by then.
    assert!(wait_until(LONG, || world.nginx.master().is_err()));
    // A port that anybody may have.
    let conf = std::fs::read_to_string(&world.nginx.conf).unwrap();
    let at = format!("{}:8080", world.place.ip);
    let conf = conf.replace(&world.nginx.addr.to_string(), &at);
    std::fs::write(&world.nginx.conf, &conf).unwrap();
    world.nginx.nginx(&[]).unwrap();
    let at = at.parse().unwrap();
    let answers = || world::http::get(at, "/", LONG).is_ok();
    assert!(wait_until(LONG, answers));
    let (code, _, stderr) = finish(world.fail("--mode crash --secs 250 --detach"));
    assert_eq!(code, 0, "{stderr}");
    let theirs = world.place.join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let file = theirs.join("nginx.conf");
    let own = conf
        .replace("user root;", "")
        .replace(&world.nginx.prefix().display().to_string(), &theirs.display().to_string());
    std::fs::write(&file, own).unwrap();
    std::fs::create_dir(theirs.join("logs")).unwrap();
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(&theirs).status().unwrap().success());
    let mut nginx = Command::new("setpriv");
    nginx
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "nginx", "-c"])
        .arg(&file)
        .arg("-p")
        .arg(&theirs);
    assert!(nginx.current_dir("/").status().unwrap().success());
    assert!(wait_until(LONG, answers));
    let (code, _, stderr) = world.run(&["recover"]);
    assert!(code == 1 && stderr.contains("Address already in use"), "{code} {stderr}");
    assert!(world.record().exists());
    let pid = std::fs::read_to_string(theirs.join("nginx.pid")).unwrap();
    assert!(super::exists(pid.trim().parse().unwrap()), "and it was not ended");
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let recovered = || !world.record().exists() && world.nginx.master().is_ok_and(super::exists) && answers();
    assert!(wait_until(LONG, || world.run(&["recover"]).0 == 0));
    assert!(wait_until(LONG, recovered));
}
