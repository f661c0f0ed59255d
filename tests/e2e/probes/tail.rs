use nix::sys::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use world::http;
use world::nginx::Nginx;
use world::place::wait_until;

use super::*;

fn all(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("/{n}")).collect()
}

/// Freezes the reader, lets `change` happen to the log, and thaws it.
fn frozen(agent: &Running, change: impl FnOnce()) {
    agent.signal(Signal::SIGSTOP).unwrap();
    let stopped = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    assert!(wait_until(LIMIT, stopped));
    change();
    agent.signal(Signal::SIGCONT).unwrap();
}

#[test]
fn rotated_twice_while_nobody_looked_no_line_is_lost_or_doubled() {
    let place = Place::new().unwrap();
    let log = place.join("access.log");
    let mut file = append(&log);
    numbered(&mut file, 0);
    let agent = follow(&place, &log);
    assert_eq!(paths(&agent, "/0"), all(1));
    frozen(&agent, || {
        numbered(&mut file, 1);
        fs::rename(&log, place.join("access.log.1")).unwrap();
        numbered(&mut file, 2); // a worker that wasn't told yet
        let mut middle = append(&log);
        numbered(&mut middle, 3);
        fs::rename(place.join("access.log.1"), place.join("access.log.2")).unwrap();
        fs::rename(&log, place.join("access.log.1")).unwrap();
        numbered(&mut append(&log), 4);
    });
    assert_eq!(paths(&agent, "/4"), all(5)[1..]);
    numbered(&mut file, 5); // late, into a file that was renamed twice
    assert_eq!(paths(&agent, "/5"), ["/5"]);
    assert_eq!(agent.end(Signal::SIGINT).unwrap().code(), Some(130));
}

#[test]
fn copied_and_truncated_the_copy_is_read_and_the_gap_reported() {
    let place = Place::new().unwrap();
    let log = place.join("access.log");
    let mut file = append(&log);
    numbered(&mut file, 0);
    let agent = follow(&place, &log);
    assert_eq!(paths(&agent, "/0"), all(1));
    frozen(&agent, || {
        numbered(&mut file, 1);
        fs::copy(&log, place.join("access.log.1")).unwrap();
        file.set_len(0).unwrap();
        (2..9).for_each(|n| numbered(&mut file, n)); // beyond the old size
    });
    assert_eq!(paths(&agent, "/8"), all(9)[1..]);
    agent.signal(Signal::SIGTERM).unwrap();
    let verdict = agent.event("verdict", LIMIT).unwrap();
    assert_eq!((verdict["gaps"].as_u64(), verdict["last_gap"].as_str()), (Some(1), Some("copied")));
}

#[test]
fn what_is_not_there_yet_is_waited_for_folder_and_all() {
    let place = Place::new().unwrap();
    let folder = place.join("logs");
    let log = folder.join("access.log");
    let agent = follow(&place, &log);
    fs::create_dir(&folder).unwrap();
    let mut file = append(&log);
    let line = probe("10.0.0.1", START, "/ü");
    let (first, rest) = line.as_bytes().split_at(line.find('ü').unwrap() + 1); // within the character
    file.write_all(first).unwrap();
    file.write_all(rest).unwrap();
    assert_eq!(paths(&agent, "/ü").len(), 1);
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    numbered(&mut append(&log), 7);
    assert_eq!(paths(&agent, "/7").len(), 1);
}

#[test]
fn an_endless_line_and_a_hole_cost_no_memory_and_stop_nothing() {
    let place = Place::new().unwrap();
    let log = place.join("access.log");
    let mut file = append(&log);
    let endless = vec![b'x'; 1 << 20];
    (0..64).for_each(|_| file.write_all(&endless).unwrap());
    file.write_all(b"\n").unwrap();
    let hole = 4 << 30;
    file.set_len(file.metadata().unwrap().len() + hole).unwrap();
    numbered(&mut file, 1);
    let agent = follow(&place, &log);
    assert_eq!(paths(&agent, "/1"), ["/1"]);
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    // Pages of the binary itself count too, and more of them where it was built for debugging.
    assert!(peak.parse::<u64>().unwrap() < 48 << 10, "{peak} kB");
    agent.signal(Signal::SIGINT).unwrap();
    assert_eq!(agent.event("verdict", LIMIT).unwrap()["overlong"], 1);
}

#[test]
fn what_is_no_file_is_refused_with_what_it_is() {
    let place = Place::new().unwrap();
    let pipe = place.join("pipe.log");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/dev/null", place.join("null.log")).unwrap();
    for (path, what) in
        [(&pipe, "a pipe"), (&place.join("null.log"), "terminal"), (&place.join(""), "a folder")]
    {
        for mode in ["--once", "--follow"] {
            let (code, _, error) = judge(&place, path, &[mode]);
            assert_eq!(code, 3);
            let message = error["message"].as_str().unwrap();
            assert!(
                message.contains(what) && message.contains(path.to_str().unwrap().trim_end_matches('/')),
                "{message}"
            );
        }
    }
    let (code, _, error) = judge(&place, &place.join("none.log"), &["--once"]);
    assert!(code == 3 && error["message"].as_str().unwrap().contains("none.log"), "{error}");
}

#[test]
fn a_real_nginx_under_load_rotated_for_real_loses_nothing() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
    let log = nginx.access_log();
    let agent = follow(&place, &log);
    let first = "GET /first HTTP/1.0\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n";
    http::exchange(nginx.addr, None, first.as_bytes(), LIMIT).unwrap();
    assert_eq!(paths(&agent, "/first"), ["/first"], "from here on it follows");
    let (over, addr) = (Arc::new(AtomicBool::new(false)), nginx.addr);
    let clients: Vec<_> = (0..2)
        .map(|client| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) {
                    let request = format!(
                        "GET /c{client}-{sent} HTTP/1.0\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n"
                    );
                    http::exchange(addr, None, request.as_bytes(), LIMIT).unwrap();
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let master = nix::unistd::Pid::from_raw(nginx.master().unwrap());
    let lines = |path: &Path| fs::read_to_string(path).map_or(0, |text| text.lines().count());
    for round in 0..6 {
        assert!(wait_until(LIMIT, || lines(&log) > 50));
        let old = nginx.prefix().join(format!("logs/access.log.{round}"));
        fs::rename(&log, &old).unwrap();
        let before = lines(&old);
        assert!(wait_until(LIMIT, || lines(&old) > before + 20), "workers go on writing to the renamed file");
        nix::sys::signal::kill(master, Signal::SIGUSR1).unwrap();
        assert!(wait_until(LIMIT, || log.exists()));
    }
    over.store(true, Ordering::Relaxed);
    let mut expected: Vec<String> = (0_u32..)
        .zip(clients)
        .flat_map(|(client, thread)| (0..thread.join().unwrap()).map(move |n| format!("/c{client}-{n}")))
        .collect();
    // In order within a file, not over files: a line in an older one may come after one in a newer.
    let probe = |_| agent.event("probe", LIMIT).unwrap()["path"].as_str().unwrap().to_owned();
    let mut found: Vec<String> = expected.iter().map(probe).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    agent.signal(Signal::SIGINT).unwrap();
    let verdict = agent.event("verdict", LIMIT).unwrap();
    assert_eq!((&verdict["gaps"], &verdict["probes"]), (&0.into(), &(expected.len() + 1).into()));
}
