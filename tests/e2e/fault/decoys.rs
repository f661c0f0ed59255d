//! What looks like the nginx that is meant and isn't: none of it ever gets a signal.

use std::process::{Child, Command, Stdio};

use world::nginx::Nginx;
use world::place::{Place, wait_until};

use super::{LONG, World, exists, finish};

/// A process with a title of its choice. Dropped, it is killed.
struct Impostor(Child);

impl Impostor {
    fn new(title: &str, program: &std::path::Path) -> Self {
        let mut command = Command::new("bash");
        command.args(["-c", "exec -a \"$0\" \"$1\" 600", title]).arg(program).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn lives(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with(['S', 'R'])
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn title(world: &World) -> String {
    let (conf, prefix) = (world.nginx.conf.display(), world.nginx.prefix().display());
    format!("nginx: master process nginx -c {conf} -p {prefix}")
}

#[test]
fn decoys_live_through_every_fault() {
    let world = World::new();
    let sleep = std::path::Path::new("/bin/sleep").canonicalize().unwrap();
    let copy = world.place.join("nginx-copy");
    std::fs::copy(&sleep, &copy).unwrap();
    let same_title = Impostor::new(&title(&world), &sleep);
    let same_name = Impostor::new(&title(&world), &copy);
    let elsewhere = Place::new().unwrap();
    let other = Nginx::start(&elsewhere, "", "location / { return 200; }").unwrap();
    let (master, workers) = (other.master().unwrap(), other.workers());
    for mode in ["stop", "crash", "hang"] {
        let (code, _, stderr) = finish(world.fail(&format!("--mode {mode} --secs 1")));
        assert_eq!(code, 0, "{mode}: {stderr}");
        assert!(same_title.lives() && same_name.lives(), "{mode}");
        assert_eq!((other.master().unwrap(), other.workers()), (master, workers.clone()), "{mode}");
        world.is_well();
    }
    for impostor in [&same_title, &same_name] {
        let pid = impostor.pid().to_string();
        let (code, _, stderr) = world.run(&["fail", "--mode", "crash", "--secs", "1", "--pid", &pid]);
        assert_eq!(code, 3, "{stderr}");
        assert!(stderr.contains(&format!("({pid}: it")), "{stderr}");
    }
}

#[test]
fn a_pid_file_that_names_an_innocent_kills_nobody() {
    let world = World::new();
    let master = world.nginx.master().unwrap();
    let innocent = Impostor::new("innocent", std::path::Path::new("/bin/sleep"));
    let pid_file = world.nginx.prefix().join("nginx.pid");
    for (text, told) in [(innocent.pid().to_string(), "names"), ("nonsense".into(), "cannot be read")] {
        std::fs::write(&pid_file, text).unwrap();
        let (code, _, stderr) = finish(world.fail("--mode crash --secs 1"));
        assert!(code == 3 && stderr.contains(told), "{code} {stderr}");
        assert!(innocent.lives() && exists(master) && world.nginx.answers());
    }
    std::fs::write(&pid_file, master.to_string()).unwrap();
    world.is_well();
}

/// An nginx of a container: its own pids, its own network. It dies with the process that is its init.
fn contained(place: &Place) -> Option<(Child, i32)> {
    let conf = place.join("contained.conf");
    let folder = place.path().display();
    let text = format!(
        "user root; daemon off; pid {folder}/c.pid; error_log {folder}/c.log; events {{}}\n\
         http {{ access_log off; server {{ listen 127.0.0.1:80; }} }}"
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--net", "--fork", "--kill-child", "nginx", "-c"]).arg(&conf);
    let mut child = command.current_dir(place.path()).stdin(Stdio::null()).spawn().ok()?;
    let init = || {
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        std::fs::read_to_string(path).ok()?.trim().parse::<i32>().ok()
    };
    let titled = |pid: i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with(b"nginx: master"))
    };
    if wait_until(LONG, || init().is_some_and(titled)) {
        let init = init()?;
        return Some((child, init));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

#[test]
fn the_nginx_of_a_container_is_the_containers() {
    let world = World::new();
    let Some((mut child, pid)) = contained(&world.place) else {
        return super::skipped("no pid and network namespaces may be made here");
    };
    let (code, _, stderr) = world.run(&["fail", "--mode", "crash", "--secs", "1", "--pid", &pid.to_string()]);
    assert!(code == 3 && stderr.contains("it runs in a container"), "{code} {stderr}");
    let (code, _, stderr) = finish(world.fail("--mode crash --secs 1"));
    assert!(code == 0 && exists(pid), "{code} {stderr}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(wait_until(LONG, || !exists(pid)));
}
