use super::*;
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

/// Clocks that only the test moves.
#[derive(Clone)]
struct Hands(Arc<std::sync::Mutex<crate::probes::timeline::Times>>);

impl Hands {
    fn new() -> Self {
        let times = crate::probes::timeline::Times { wall_ms: now_ms(), boot_ms: 1_000_000 };
        Self(Arc::new(std::sync::Mutex::new(times)))
    }

    fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::new(move || *hands.0.lock().unwrap())
    }

    fn pass(&self, ms: i64) {
        let mut times = self.0.lock().unwrap();
        times.wall_ms += ms;
        times.boot_ms += ms;
    }

    /// Sets the wall clock; the other one goes on as if nothing had happened.
    fn set(&self, by_ms: i64) {
        self.0.lock().unwrap().wall_ms += by_ms;
    }

    fn line(&self) -> String {
        let at = jiff::Timestamp::from_millisecond(self.0.lock().unwrap().wall_ms).unwrap();
        let at = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
        format!("10.0.0.1 - - [{at}] \"GET /health HTTP/1.1\" 200 5 \"-\" \"ELB-HealthChecker/2.0\"\n")
    }
}

/// The wall clock is set so before some probes.
const STEPS: [(i64, i64); 3] = [(6, 3_600_000), (12, -7_200_000), (18, 90_000)];
const PROBES: i64 = 24;

#[test]
fn a_clock_that_is_set_while_the_daemon_follows_loses_no_probe() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let hands = Hands::new();
    append(&log, b"");
    let watcher = start_by(hands.clock(), settings(&log), None, dir.path()).unwrap();
    wait_for(&watcher, |s| s.reading);
    for n in 0..PROBES {
        hands.pass(5000);
        for (_, by_ms) in STEPS.iter().filter(|(at, _)| *at == n) {
            hands.set(*by_ms);
        }
        append(&log, hands.line().as_bytes());
        wait_for(&watcher, |s| s.probes == u64::try_from(n + 1).unwrap());
    }
    let seen = wait_for(&watcher, |s| s.reason != Reason::TooFew);
    let node = &seen.nodes[0];
    assert_eq!(
        (seen.reason, node.probes, node.missed, node.off_rhythm, seen.gaps),
        (Reason::OnTime, 24, 0, 0, 0),
        "{seen:?}"
    );
}

#[test]
fn a_clock_that_is_set_while_a_log_is_followed_loses_no_probe() {
    use crate::access_log::logs::From;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let hands = Hands::new();
    let settings = settings(&log);
    append(&log, b"");
    let located = settings.locate(None).unwrap();
    let mut follow = Follow::by(hands.clock(), &located, From::Now, &settings, &[]);
    let look = |follow: &mut Follow| {
        let torn = |ms: i64| !(4000..=6000).contains(&ms);
        follow
            .look(News::Something, &mut |_, interval| assert!(!interval.is_some_and(torn), "{interval:?}"))
            .unwrap();
    };
    look(&mut follow);
    for n in 0..PROBES {
        hands.pass(5000);
        for (_, by_ms) in STEPS.iter().filter(|(at, _)| *at == n) {
            hands.set(*by_ms);
            look(&mut follow); // as it does every second
        }
        append(&log, hands.line().as_bytes());
        look(&mut follow);
    }
    let verdict = follow.verdict(None);
    let node = &verdict.nodes[0];
    assert_eq!(
        (verdict.reason, node.probes, node.missed, node.off_rhythm),
        (Reason::OnTime, 24, 0, 0),
        "{verdict:?}"
    );
    // And where probes end, the time is told by the clock that nobody sets.
    hands.pass(60_000);
    look(&mut follow);
    assert_eq!(follow.verdict(None).reason, Reason::NoTraffic);
}
