//! What is said before a fault: that an Auto Scaling group will replace this instance.

use std::net::Ipv4Addr;

use world::agent;
use world::http;
use world::place::wait_until;

use super::{LONG, World, finish};

#[test]
fn who_outlasts_the_probes_is_warned_of_the_replacement() {
    let world = World::new();
    agent::configure(&world.place, "[probes]\nexpect = \"200ms\"\n").unwrap();
    let daemon = world.daemon();
    let warning = |args: &str| {
        let mut fail = world.fail(args);
        fail.env("AGENT_SERVE_ADMIN", daemon.admin.to_string());
        let (code, _, stderr) = finish(fail);
        assert_eq!(code, 0, "{stderr}");
        stderr
    };
    let silent = warning("--mode stop --secs 60 --dry-run");
    assert!(!silent.contains("Auto Scaling"), "no probes were seen: {silent}");
    let request =
        b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n";
    let probe = || http::exchange(daemon.public, Some(Ipv4Addr::new(127, 200, 9, 1)), request, LONG).unwrap();
    let interval = || daemon.status().unwrap()["probes"]["nodes"][0]["interval_p50_ms"].as_u64();
    let seen = || {
        probe();
        std::thread::sleep(std::time::Duration::from_millis(200)); // a rhythm is the point
        interval().is_some()
    };
    assert!(wait_until(LONG, seen));
    let told = warning("--mode stop --secs 60 --dry-run");
    assert!(told.contains("Auto Scaling group with ELB health checks then replaces this instance"), "{told}");
    let told = warning("--mode crash --secs 3");
    assert!(told.contains("the load balancer probes every 0."), "{told}");
    drop(daemon);
    world.is_well();
}
