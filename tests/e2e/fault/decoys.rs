//! What looks like the nginx that is meant and isn't: none of it ever gets a signal.

use world::bench::decoys::{KINDS, Scene};
use world::decoys::{Contained, Decoys, Impostor};
use world::place::wait_until;

use super::{LONG, World, exists, finish};

#[test]
fn decoys_live_through_every_fault() {
    let world = World::new();
    let decoys = Decoys::around(&world.place, &world.nginx).unwrap();
    for mode in ["stop", "crash", "hang"] {
        let (code, _, stderr) = finish(world.fail(&format!("--mode {mode} --secs 1")));
        assert_eq!(code, 0, "{mode}: {stderr}");
        decoys.are_untouched().unwrap();
        world.is_well();
    }
    for pid in decoys.pids() {
        let pid = pid.to_string();
        let (code, _, stderr) = world.run(&["fail", "--mode", "crash", "--secs", "1", "--pid", &pid]);
        assert_eq!(code, 3, "{stderr}");
    }
    decoys.are_untouched().unwrap();
}

#[test]
fn nothing_that_may_go_wrong_sends_a_decoy_a_signal() {
    let scene = Scene::new().unwrap();
    for n in 0..6 {
        for kind in 0..KINDS.len() {
            scene.attempt(kind, n).unwrap();
        }
    }
}

#[test]
fn a_pid_file_that_names_an_innocent_kills_nobody() {
    let world = World::new();
    let master = world.nginx.master().unwrap();
    let innocent = Impostor::new("innocent", std::path::Path::new("/bin/sleep"), &["infinity"]).unwrap();
    let pid_file = world.nginx.prefix().join("nginx.pid");
    for (text, told) in [(innocent.pid().to_string(), "names"), ("nonsense".into(), "cannot be read")] {
        std::fs::write(&pid_file, text).unwrap();
        let (code, _, stderr) = finish(world.fail("--mode crash --secs 1"));
        assert!(code == 3 && stderr.contains(told), "{code} {stderr}");
        assert!(innocent.is_untouched() && exists(master) && world.nginx.answers());
    }
    std::fs::write(&pid_file, master.to_string()).unwrap();
    world.is_well();
}

#[test]
fn the_nginx_of_a_container_is_the_containers() {
    let world = World::new();
    let Some(contained) = Contained::start(&world.place) else {
        return super::skipped("no pid and network namespaces may be made here");
    };
    let pid = contained.pid;
    let (code, _, stderr) = world.run(&["fail", "--mode", "crash", "--secs", "1", "--pid", &pid.to_string()]);
    assert!(code == 3 && stderr.contains("it runs in a container"), "{code} {stderr}");
    let (code, _, stderr) = finish(world.fail("--mode crash --secs 1"));
    assert!(code == 0 && exists(pid), "{code} {stderr}");
    drop(contained);
    assert!(wait_until(LONG, || !exists(pid)));
}
