//! A graceful stop that takes long: what was begun is still answered, and a signal ends it at once.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::agent::Running;
use world::nginx::Nginx;
use world::place::{Place, wait_until};

use super::{LONG, World, exists};

/// An nginx that sends a file for hours.
fn with_a_download() -> World {
    let place = Place::new().unwrap();
    let file = std::fs::File::create(place.join("long")).unwrap();
    file.set_len(1 << 30).unwrap();
    let root = place.path().display().to_string();
    let server = format!("location / {{ return 200; }} location = /long {{ root {root}; limit_rate 4k; }}");
    let nginx = Nginx::start(&place, "", &server).unwrap();
    World { nginx, place }
}

fn download(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.nginx.addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    stream
}

#[test]
fn a_signal_ends_a_graceful_stop_that_still_answers_a_long_download() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = with_a_download();
        let master = world.nginx.master().unwrap();
        let mut stream = download(&world);
        let mut running = Running::spawn(&world.place, world.fail("--mode stop --secs 250")).unwrap();
        running.event("effective", LONG).unwrap();
        assert!(exists(master) && stream.read(&mut [0; 1]).unwrap() == 1, "what was begun goes on");
        running.signal(signal).unwrap();
        assert_eq!(running.event("recovering", LONG).unwrap()["why"], "signal");
        assert_eq!(running.event("result", LONG).unwrap()["recovered"], true);
        assert_eq!(running.wait(LONG).unwrap().code(), Some(128 + signal as i32));
        assert!(!exists(master), "nobody waits hours for the old one");
        world.is_well();
        // It is cut: nobody sends the rest of it.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 1 << 29);
    }
}

#[test]
fn a_signal_ends_a_graceful_stop_that_does_not_even_stop_listening() {
    let world = World::new();
    let (master, workers) = (world.nginx.master().unwrap(), world.nginx.workers());
    // A worker that is stopped holds its listener, and the other one answers.
    kill(Pid::from_raw(workers[0]), Signal::SIGSTOP).unwrap();
    let mut running = Running::spawn(&world.place, world.fail("--mode stop --secs 250")).unwrap();
    running.event("armed", LONG).unwrap();
    assert!(wait_until(LONG, || !exists(workers[1])), "it was told to end");
    assert!(exists(master) && exists(workers[0]));
    running.signal(Signal::SIGTERM).unwrap();
    let result = running.event("result", LONG).unwrap();
    assert_eq!((&result["effective"], &result["recovered"]), (&false.into(), &true.into()), "{result}");
    assert_eq!(running.wait(LONG).unwrap().code(), Some(143));
    assert!(!exists(master) && !exists(workers[0]));
    world.is_well();
}
