//! What clients notice of a fault: a hundred requests a second over a connection each, and as many over connections
//! that are kept. Errors come between injection and recovery only, and they are those of the mode.

use serde_json::Value;
use world::agent::{self, Running};
use world::cable::Network;
use world::client::{Client, Request, Seen, now_ms};
use world::place::Place;

use super::{LONG, World};

/// Timers of the kernel, milliseconds in the events, requests under way.
const MARGIN_MS: u64 = 100;

/// Whether a request looks like the mode.
type Class = fn(&Request) -> bool;

/// When things happened, in milliseconds since boot.
struct Times {
    armed: u64,
    effective: u64,
    deadline: u64,
    recovered: u64,
}

/// An event's `at`, on the clock of deadlines.
fn at(event: &Value) -> u64 {
    let at: jiff::Timestamp = event["at"].as_str().unwrap().parse().unwrap();
    now_ms().saturating_add_signed(at.as_millisecond() - jiff::Timestamp::now().as_millisecond())
}

/// Makes a fault between two seconds of calm, and gives what each of the clients saw.
fn through(place: &Place, fail: std::process::Command, clients: Vec<Client>) -> (Times, Vec<Vec<Request>>) {
    let calm = || std::thread::sleep(std::time::Duration::from_millis(500)); // traffic is the point
    calm();
    let mut running = Running::spawn(place, fail).unwrap();
    let armed = at(&running.event("armed", LONG).unwrap());
    let record: Value =
        serde_json::from_slice(&std::fs::read(place.join("state/fault.json")).unwrap()).unwrap();
    let deadline = record["deadline_boottime_ms"].as_u64().unwrap();
    let effective = at(&running.event("effective", LONG).unwrap());
    let recovered = at(&running.event("recovered", LONG).unwrap());
    assert_eq!(running.wait(LONG).unwrap().code(), Some(0));
    calm();
    let seen = clients.into_iter().map(|client| client.end().unwrap()).collect();
    (Times { armed, effective, deadline, recovered }, seen)
}

/// Judges one client's requests by the class of errors that the mode makes.
fn judge(what: &str, times: &Times, requests: &[Request], class: Class) {
    let well = |r: &&Request| r.seen == Seen::Status(200);
    let calm = |r: &&Request| r.until_ms < times.armed || r.from_ms > times.recovered + MARGIN_MS;
    let wrong: Vec<_> = requests.iter().filter(calm).filter(|r| !well(r)).collect();
    assert!(wrong.is_empty(), "{what}: errors outside of the fault: {wrong:?}");
    let before = requests.iter().filter(|r| r.until_ms < times.armed).count();
    let after = requests.iter().filter(|r| r.from_ms > times.recovered + MARGIN_MS).count();
    assert!(before > 10 && after > 10, "{what}: {before} before, {after} after");
    let during = |r: &&Request| r.from_ms > times.effective && r.until_ms + MARGIN_MS < times.deadline;
    let wrong: Vec<_> = requests.iter().filter(during).filter(|r| !class(r)).collect();
    // A new connection from a port that the kernel still tracks is reset where others are redirected.
    let few = requests.iter().filter(during).count() / 100;
    assert!(wrong.len() <= few, "{what}: not what the mode makes: {wrong:?}");
    assert!(requests.iter().filter(during).count() > 20, "{what}: too few requests");
}

/// Does something for each mode, all at the same time.
fn at_once<const N: usize>(modes: [(&str, Class); N], test: fn(&str, Class)) {
    std::thread::scope(|scope| {
        for (mode, class) in modes {
            scope.spawn(move || test(mode, class));
        }
    });
}

fn clients(addr: std::net::SocketAddr, path: &str, network: Option<&Network>) -> Vec<Client> {
    [false, true].map(|keep_alive| Client::start(addr, path, keep_alive, network.cloned())).into()
}

#[test]
fn a_stopped_a_crashed_and_a_hung_nginx_as_clients_see_them() {
    // A connection that was kept is cut once, by nginx's end.
    let gone: Class = |r| r.seen == Seen::Refused || r.reused && r.seen == Seen::Cut;
    let hung: Class = |r| r.seen == Seen::Silence;
    at_once([("stop --secs 3", gone), ("crash --secs 3", gone), ("hang --secs 5", hung)], |mode, class| {
        let world = World::new();
        let fail = world.fail(&format!("--mode {mode}"));
        let (times, seen) = through(&world.place, fail, clients(world.nginx.addr, "/", None));
        seen.iter().for_each(|requests| judge(mode, &times, requests, class));
        world.is_well();
    });
}

#[test]
fn dropped_rejected_and_failing_requests_as_clients_on_another_machine_see_them() {
    let lost: Class = |r| r.seen == Seen::Silence;
    let reset: Class = |r| r.seen == Seen::Refused || r.reused && r.seen == Seen::Cut;
    let failed: Class = |r| r.seen == Seen::Status(503) || r.reused && r.seen == Seen::Cut;
    at_once(
        [("drop --secs 5", lost), ("reject --secs 3", reset), ("error --secs 3", failed)],
        |mode, class| {
            let Some(cable) = super::net::cable() else { return };
            let fail = cable.fail(&format!("--mode {mode}"));
            let (times, seen) = through(&cable.place, fail, clients(cable.addr, "/", Some(&cable.client)));
            seen.iter().for_each(|requests| judge(mode, &times, requests, class));
            assert!(cable.has_no_rules(), "{mode}");
        },
    );
}

#[test]
fn an_unhealthy_and_a_slow_target_serve_their_clients_all_the_same() {
    let unhealthy: Class = |r| r.seen == Seen::Status(503);
    let slow: Class = |r| r.seen == Seen::Silence;
    at_once([("unhealthy --secs 4", unhealthy), ("slow --secs 6 --delay 2s", slow)], |mode, class| {
        let world = World::new();
        let daemon = world.daemon();
        let all = format!("fail --json --mode {mode}");
        let mut fail = agent::command(&world.place, &all.split(' ').collect::<Vec<_>>());
        fail.env("AGENT_SERVE_ADMIN", daemon.admin.to_string());
        let mut both = clients(daemon.public, "/health", None);
        both.extend(clients(world.nginx.addr, "/", None));
        let (times, seen) = through(&world.place, fail, both);
        seen[..2].iter().for_each(|requests| judge(mode, &times, requests, class));
        for request in seen[2..].iter().flatten() {
            assert_eq!(request.seen, Seen::Status(200), "{mode}: nginx itself is not touched");
        }
        drop(daemon);
        world.is_well();
    });
}
