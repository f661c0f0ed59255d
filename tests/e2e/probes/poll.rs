use std::process::Command;

use super::*;

/// A follower of `log` in a user namespace that allows no inotify instance (namespaces(7), `/proc/sys/user`); `None`
/// where this machine lets nobody make such a namespace.
fn follow_without_inotify(place: &Place, log: &Path) -> Option<Running> {
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
        command
    };
    let forbid = "echo 0 > /proc/sys/user/max_inotify_instances";
    if !in_namespace(forbid).status().is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = in_namespace(&format!("{forbid} && exec \"$@\""));
    command
        .arg(world::agent::binary())
        .args(["probes", "--json", "--follow", "--from-start", "--log"])
        .arg(log);
    let plain = world::agent::command(place, &[]);
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(Running::spawn(place, command).unwrap())
}

fn has_inotify(agent: &Running) -> bool {
    let fds = fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap();
    fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new("anon_inode:inotify")))
}

#[test]
fn without_inotify_the_poll_alone_finds_every_line_once() {
    let place = Place::new().unwrap();
    let log = place.join("logs/access.log");
    let Some(agent) = follow_without_inotify(&place, &log) else { return };
    fs::create_dir(place.join("logs")).unwrap();
    let mut file = append(&log);
    numbered(&mut file, 0);
    assert_eq!(paths(&agent, "/0"), ["/0"]);
    assert!(!has_inotify(&agent), "the poll isn't alone");
    numbered(&mut file, 1);
    fs::rename(&log, place.join("logs/access.log.1")).unwrap();
    numbered(&mut file, 2);
    let mut new = append(&log);
    numbered(&mut new, 3);
    assert_eq!(paths(&agent, "/3"), ["/1", "/2", "/3"]);
    numbered(&mut file, 4);
    assert_eq!(paths(&agent, "/4"), ["/4"]);
    fs::copy(&log, place.join("logs/access.log.2")).unwrap();
    new.set_len(0).unwrap();
    (5..8).for_each(|n| numbered(&mut new, n)); // beyond the old size
    assert_eq!(paths(&agent, "/7"), ["/5", "/6", "/7"]);
    agent.signal(nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(agent.event("verdict", LIMIT).unwrap()["gaps"], 1);
}

#[test]
fn a_hard_link_switched_to_another_file_and_back_is_followed() {
    let place = Place::new().unwrap();
    let (log, one, other) = (place.join("access.log"), place.join("one"), place.join("other"));
    let switch_to = |target: &Path| {
        fs::hard_link(target, place.join("link")).unwrap();
        fs::rename(place.join("link"), &log).unwrap();
    };
    let (mut first, mut second) = (append(&one), append(&other));
    numbered(&mut first, 0);
    switch_to(&one);
    let agent = follow(&place, &log);
    assert_eq!(paths(&agent, "/0"), ["/0"]);
    numbered(&mut second, 1);
    switch_to(&other);
    assert_eq!(paths(&agent, "/1"), ["/1"]);
    numbered(&mut first, 2); // by its other name
    assert_eq!(paths(&agent, "/2"), ["/2"]);
    numbered(&mut second, 3);
    assert_eq!(paths(&agent, "/3"), ["/3"]);
    switch_to(&one);
    numbered(&mut first, 4);
    assert_eq!(paths(&agent, "/4"), ["/4"]);
}
