//! `drop`, `reject` and `error`, as a client on another machine sees them: two network namespaces and a cable.

use std::io;
use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use world::agent::{self, Running};
use world::cable::Cable;
use world::http;
use world::place::wait_until;

use super::killed::STEPS;
use super::{LONG, finish, names};

pub(crate) fn cable() -> Option<Cable> {
    let cable = Cable::new().unwrap();
    if cable.is_none() {
        super::skipped("ip(8), nft(8) or the permission to make network namespaces is missing");
    }
    cable
}

fn sees_soon(cable: &Cable, what: &str) {
    assert!(wait_until(LONG, || cable.sees() == what), "{what}, but: {}", cable.sees());
}

#[test]
fn each_mode_looks_like_itself_from_another_machine_and_ends() {
    for (mode, seen) in
        [("drop", "silence"), ("reject", "reset"), ("error", "503"), ("error --status 418", "418")]
    {
        let Some(cable) = cable() else { return };
        let mut running =
            Running::spawn(&cable.place, cable.fail(&format!("--mode {mode} --secs 5"))).unwrap();
        running.event("effective", LONG).unwrap();
        assert_eq!(cable.sees(), seen, "{mode}");
        let result = running.event("result", LONG).unwrap();
        assert_eq!((&result["effective"], &result["recovered"]), (&true.into(), &true.into()), "{mode}");
        assert_eq!(running.wait(LONG).unwrap().code(), Some(0));
        assert_eq!(cable.sees(), "200", "{mode}");
        assert!(cable.has_no_rules() && !cable.record().exists(), "{mode}");
    }
}

#[test]
fn other_ports_and_loopback_are_left_alone() {
    let Some(cable) = cable() else { return };
    let ssh = cable.server.within(|| TcpListener::bind("0.0.0.0:22")).unwrap();
    let running = Running::spawn(&cable.place, cable.fail("--mode drop --secs 60")).unwrap();
    running.event("effective", LONG).unwrap();
    let to_ssh = || http::connect("10.77.0.1:22".parse().unwrap(), None, LONG);
    assert!(cable.client.within(to_ssh).is_ok(), "ssh gets through");
    drop(ssh);
    let local = || http::get("127.0.0.1:80".parse().unwrap(), "/", LONG);
    assert_eq!(cable.server.within(local).unwrap().status, 200);
    assert_eq!(running.end(Signal::SIGINT).unwrap().code(), Some(130));
    sees_soon(&cable, "200");
}

#[test]
fn an_open_connection_is_reset_so_that_it_hides_nothing() {
    use std::io::{Read, Write};
    let Some(cable) = cable() else { return };
    let open = || http::connect("10.77.0.1:80".parse().unwrap(), None, LONG);
    let mut stream = cable.client.within(open).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut ask = move || {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        stream.read(&mut [0; 4096])
    };
    assert!(ask().unwrap() > 0);
    let running = Running::spawn(&cable.place, cable.fail("--mode error --secs 60")).unwrap();
    running.event("effective", LONG).unwrap();
    assert_eq!(ask().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(cable.sees(), "503");
    running.end(Signal::SIGTERM).unwrap();
    sees_soon(&cable, "200");
}

#[test]
fn the_kernel_alone_ends_what_all_agents_left_when_they_were_killed() {
    for mode in ["drop", "reject", "error"] {
        std::thread::scope(|scope| {
            let steps = STEPS.into_iter().chain(["recover.removed_rules"]);
            steps.for_each(|step| drop(scope.spawn(move || killed_with_its_keeper(mode, step))));
        });
    }
}

fn killed_with_its_keeper(mode: &str, step: &str) {
    let Some(cable) = cable() else { return };
    let mut command = cable.fail(&format!("--mode {mode} --secs 2"));
    command.env("AGENT_FAILPOINT", step);
    Running::spawn(&cable.place, command).unwrap().wait(LONG).unwrap();
    for pid in agent::processes(&cable.place) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    assert!(wait_until(LONG, || agent::processes(&cable.place).is_empty()), "{mode} {step}");
    assert_eq!(cable.record().exists(), step != "recover.removed", "{mode} {step}");
    sees_soon(&cable, "200");
    assert!(cable.recover().output().unwrap().status.success());
    assert!(cable.has_no_rules() && !cable.record().exists(), "{mode} {step}");
}

#[test]
fn an_nginx_on_loopback_only_has_no_packets_to_lose() {
    let world = super::World::new();
    let (code, _, stderr) = finish(world.fail("--mode drop --secs 2"));
    assert!(code == 3 && stderr.contains("loopback only"), "{code} {stderr}");
    world.is_untouched(world.nginx.master().unwrap());
}

#[test]
fn the_plan_names_the_ports() {
    let Some(cable) = cable() else { return };
    let (code, events, _) = finish(cable.fail("--mode reject --dry-run"));
    assert_eq!((code, names(&events)), (0, vec!["plan"]));
    assert_eq!(events[0]["ports"], Value::from(vec!["0.0.0.0:80"]));
    assert!(cable.has_no_rules());
}

#[test]
fn the_hosts_own_firewall_and_redirections_keep_nobody_from_the_error() {
    let Some(cable) = cable() else { return };
    let rules = cable.place.join("rules");
    let text = "table inet host {\nchain incoming { type filter hook input priority 0; policy drop;\niif lo accept\n\
                tcp dport 80 accept\nct state established accept\n}\n\
                chain mapped { type nat hook prerouting priority -100; policy accept;\ntcp dport 8080 redirect to :80\n}\n}\n";
    std::fs::write(&rules, text).unwrap();
    let mut nft = std::process::Command::new("nft");
    nft.arg("-f").arg(&rules);
    assert!(cable.in_server(&nft).status().unwrap().success());
    let mapped = || {
        let get = || http::get("10.77.0.1:8080".parse().unwrap(), "/", LONG);
        cable.client.within(get).map(|answer| answer.status)
    };
    assert_eq!((cable.sees().as_str(), mapped().unwrap()), ("200", 200));
    let running = Running::spawn(&cable.place, cable.fail("--mode error --secs 60")).unwrap();
    running.event("effective", LONG).unwrap();
    assert_eq!((cable.sees().as_str(), mapped().unwrap()), ("503", 503));
    running.end(Signal::SIGTERM).unwrap();
    sees_soon(&cable, "200");
    assert_eq!(mapped().unwrap(), 200);
}

#[test]
fn a_dry_run_of_packets_leaves_the_rules_of_an_active_fault_alone() {
    let Some(cable) = cable() else { return };
    let running = Running::spawn(&cable.place, cable.fail("--mode drop --secs 60")).unwrap();
    running.event("effective", LONG).unwrap();
    for mode in ["drop", "reject", "error", "stop"] {
        let (code, events, stderr) = finish(cable.fail(&format!("--mode {mode} --dry-run")));
        assert!(
            code == 4 && events[0]["active"].as_str().unwrap().starts_with("drop on"),
            "{mode}: {stderr}"
        );
        assert_eq!(cable.sees(), "silence", "{mode}");
    }
    running.end(Signal::SIGTERM).unwrap();
    sees_soon(&cable, "200");
}
