//! Every listener that was there answers again, or is named: Unix sockets, UDP, and the one that the settings name.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use world::agent::{self, Running};
use world::nginx::Nginx;
use world::place::{Place, wait_until};

use super::net::cable;
use super::{LONG, World, finish};

fn on_a_socket_too() -> (World, String) {
    let place = Place::new().unwrap();
    let socket = place.join("web.sock").display().to_string();
    let server = format!("listen unix:{socket}; location / {{ return 200; }}");
    let nginx = Nginx::start(&place, "", &server).unwrap();
    (World { nginx, place }, socket)
}

#[test]
fn a_unix_socket_is_asked_too_and_what_it_no_longer_is_is_told() {
    let (world, socket) = on_a_socket_too();
    for mode in ["stop", "crash"] {
        let (code, events, stderr) = finish(world.fail(&format!("--mode {mode} --secs 1")));
        assert_eq!(code, 0, "{mode}: {stderr} {events:?}");
        world.is_well();
    }
    let kept = std::fs::read_to_string(&world.nginx.conf).unwrap();
    let speaks = format!("listen unix:{socket}; ");
    for (now, told) in [
        // It listens, and answers nobody who speaks as before.
        (format!("listen unix:{socket} proxy_protocol; "), format!("unix:{socket} ")),
        (String::new(), format!("no longer listens on unix:{socket}")),
    ] {
        assert_eq!(finish(world.fail("--mode crash --secs 250 --detach")).0, 0);
        std::fs::write(&world.nginx.conf, kept.replace(&speaks, &now)).unwrap();
        let (code, events, stderr) = world.run(&["recover", "--json"]);
        let result = events.last().unwrap();
        assert_eq!((code, &result["recovered"]), (1, &true.into()), "{stderr}");
        assert!(result["differences"].to_string().contains(&told), "{result}");
        world.is_well();
        std::fs::write(&world.nginx.conf, &kept).unwrap();
        world.nginx.stop().unwrap();
        assert!(wait_until(LONG, || world.nginx.master().is_err()));
        world.nginx.boot().unwrap();
        assert!(wait_until(LONG, || world.nginx.workers().len() == 2));
    }
}

#[test]
fn the_url_of_the_settings_is_what_is_asked() {
    let place = Place::new().unwrap();
    let server = "location / { return 500; } location = /up { return 204; }";
    let world = World { nginx: Nginx::start(&place, "", server).unwrap(), place };
    let (code, _, stderr) = finish(world.fail("--mode crash --secs 1"));
    assert!(code == 4 && stderr.contains("answers 500"), "{code} {stderr}");
    let url = format!("http://{}/up", world.nginx.addr);
    agent::configure(&world.place, &format!("[nginx]\nurl = \"{url}\"\n")).unwrap();
    let (code, events, stderr) = finish(world.fail("--mode crash --secs 1"));
    assert_eq!((code, &events.last().unwrap()["recovered"]), (0, &true.into()), "{stderr}");
    world.is_well();
    agent::configure(&world.place, "[nginx]\nurl = \"http://127.0.0.1:9/up\"\n").unwrap();
    let (code, _, stderr) = finish(world.fail("--mode crash --secs 1"));
    assert!(code == 3 && stderr.contains("`[nginx] url` is http://127.0.0.1:9/up"), "{code} {stderr}");
}

/// A UDP socket of nginx's master, as `listen … quic` makes one; this nginx may know no HTTP/3, so it inherits it.
#[test]
fn packets_of_udp_are_lost_with_those_of_tcp() {
    for mode in ["drop", "reject", "error"] {
        let Some(cable) = cable() else { return };
        let mut quit = Command::new("nginx");
        quit.args(["-s", "stop", "-c"]).arg(&cable.conf).arg("-p").arg(cable.place.path());
        assert!(cable.in_server(&quit).status().unwrap().success());
        assert!(wait_until(LONG, || !cable.place.join("net.pid").exists()));
        let socket = cable.server.within(|| UdpSocket::bind("0.0.0.0:443")).unwrap();
        let mut holds = Command::new("sh");
        holds.args(["-c", "exec 9<&0; exec \"$@\"", "sh", "nginx", "-c"]).arg(&cable.conf);
        holds.arg("-p").arg(cable.place.path());
        let mut nginx = cable.in_server(&holds);
        nginx.stdin(std::os::fd::OwnedFd::from(socket.try_clone().unwrap()));
        assert!(nginx.status().unwrap().success());
        assert!(wait_until(LONG, || cable.get().is_ok()));
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let from = cable.client.within(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
        let arrives = || {
            let _ = from.send_to(b"hello", "10.77.0.1:443");
            socket.recv_from(&mut [0; 16]).is_ok()
        };
        assert!(wait_until(LONG, arrives));
        let running = Running::spawn(&cable.place, cable.fail(&format!("--mode {mode} --secs 250"))).unwrap();
        running.event("effective", LONG).unwrap();
        assert!(!arrives(), "{mode}");
        assert_ne!(cable.sees(), "200", "{mode}");
        assert_eq!(running.end(Signal::SIGTERM).unwrap().code(), Some(143));
        assert!(wait_until(LONG, arrives), "{mode}");
    }
}
