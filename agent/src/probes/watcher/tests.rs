use super::*;
use crate::probes::follow::now_ms;
use std::fs::OpenOptions;
use std::io::Write;

fn settings(log: &Path) -> Settings {
    Settings { log: Some(log.to_owned()), ..Settings::default() }
}

fn probe(seconds_ago: i64) -> String {
    let at = jiff::Timestamp::from_second(now_ms() / 1000 - seconds_ago).unwrap();
    let at = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
    format!("10.0.0.1 - - [{at}] \"GET /health HTTP/1.1\" 200 5 \"-\" \"ELB-HealthChecker/2.0\"\n")
}

fn append(log: &Path, bytes: &[u8]) {
    OpenOptions::new().create(true).append(true).open(log).unwrap().write_all(bytes).unwrap();
}

/// The first snapshot of which `yes` is true.
fn wait_for(watcher: &Watcher, yes: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let snapshots = watcher.snapshots();
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let now = Arc::clone(&snapshots.borrow());
        if yes(&now) {
            return now;
        }
        assert!(Instant::now() < end, "{now:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_log_that_appears_is_read_and_the_rhythm_published() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let watcher = start(settings(&log), None, dir.path()).unwrap();
    let before = wait_for(&watcher, |s| s.log.is_some());
    assert_eq!((before.reading, before.reason), (false, Reason::NoLog));
    append(&log, (0..6).rev().map(|n| probe(n * 5)).collect::<String>().as_bytes());
    let seen = wait_for(&watcher, |s| s.probes == 6);
    assert!(seen.reading && seen.trouble.is_none());
    assert_eq!((seen.nodes[0].probes, seen.nodes[0].missed, seen.confirmed), (6, 0, true), "{seen:?}");
    assert!(serde_json::to_string(&*seen).unwrap().contains("\"last_seen\":\"20"));
}

#[test]
fn a_restart_neither_loses_nor_doubles() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    append(&log, probe(20).repeat(3).as_bytes());
    let first = start(settings(&log), None, dir.path()).unwrap();
    wait_for(&first, |s| s.probes == 3);
    append(&log, b"10.0.0.1 - - [half of ");
    drop(first);
    append(&log, b"a line\n");
    append(&log, probe(10).as_bytes());
    std::fs::rename(&log, dir.path().join("access.log.1")).unwrap();
    append(&log, probe(0).as_bytes());
    let second = start(settings(&log), None, dir.path()).unwrap();
    let seen = wait_for(&second, |s| s.lines >= 3);
    assert_eq!((seen.lines, seen.probes, seen.gaps), (3, 2, 0));
}

#[test]
fn probes_at_our_own_listener_are_counted_and_never_block() {
    let dir = tempfile::tempdir().unwrap();
    let watcher = start(settings(&dir.path().join("none.log")), None, dir.path()).unwrap();
    let direct = watcher.direct();
    direct.seen("127.0.0.1".parse().unwrap(), "/health", 200); // nginx, proxying
    direct.seen("::ffff:10.0.0.5".parse().unwrap(), &"/long".repeat(100), 503);
    let seen = wait_for(&watcher, |s| s.direct_probes == 1);
    assert_eq!((seen.nodes[0].node.to_string().as_str(), seen.nodes[0].not_ok), ("10.0.0.5", 1));
    let start = Instant::now();
    (0..100_000).for_each(|_| direct.seen("10.0.0.6".parse().unwrap(), "/health", 200));
    assert!(start.elapsed() < Duration::from_secs(5));
    wait_for(&watcher, |s| s.direct_probes + s.direct_dropped == 100_001);
}

#[test]
fn hostile_bytes_and_a_folder_for_a_log_change_nothing_but_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let watcher = start(settings(&log), None, dir.path()).unwrap();
    let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    append(&log, &noise);
    append(&log, b"\n\"\"\"ELB-HealthChecker/2.0\xff\"\n");
    append(&log, probe(0).as_bytes());
    let seen = wait_for(&watcher, |s| s.probes == 1);
    assert!(seen.unparsed >= 1);
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    let seen = wait_for(&watcher, |s| s.trouble.is_some());
    assert!(!seen.reading && seen.trouble.as_ref().unwrap().contains("folder"));
    std::fs::remove_dir(&log).unwrap();
    append(&log, probe(0).as_bytes());
    wait_for(&watcher, |s| s.probes == 2 && s.trouble.is_none());
}
