use super::*;
use crate::nginx::conf::Held;

fn probe(node: &str, second: i64) -> String {
    let at = jiff::Timestamp::from_second(1_700_000_000 + second).unwrap();
    let at = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
    format!("{node} - - [{at}] \"GET /h HTTP/1.1\" 200 5 \"-\" \"ELB-HealthChecker/2.0\"\n")
}

#[test]
fn probes_of_several_logs_come_in_the_order_of_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let log = |name: &str, lines: [String; 2]| {
        let path = dir.path().join(name);
        std::fs::write(&path, lines.concat()).unwrap();
        LogFile { path, formats: vec![Format::compile("combined").unwrap()], held: Held::No }
    };
    let located = Located {
        logs: vec![
            log("a.log", [probe("10.0.0.1", 0), probe("10.0.0.1", 10)]),
            log("b.log", [probe("10.0.0.2", 5), probe("10.0.0.2", 15)]),
            LogFile { path: dir.path().join("none.log"), formats: vec![], held: Held::No },
        ],
        notes: vec![],
        sources: vec![],
    };
    let mut logs = Logs::new(&located, From::Beginning, &[], &[]);
    let mut found = Vec::new();
    logs.look(News::None, None, &mut |seen| {
        let Seen::Probe(probe) = seen else { panic!("{seen:?}") };
        found.push((probe.stamp.at_ms / 1000 - 1_700_000_000, probe.line.path.to_vec()));
    })
    .unwrap();
    let expected = [0, 5, 10, 15].map(|at| (at, b"/h".to_vec()));
    assert_eq!(found, expected);
    assert_eq!((logs.traffic().lines, logs.traffic().probes, logs.is_there()), (4, 4, true));
}

#[test]
fn a_log_that_cannot_be_read_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let formats = vec![Format::compile("combined").unwrap()];
    let path = dir.path().join("a.log");
    std::fs::write(&path, probe("10.0.0.1", 0)).unwrap();
    let folder = LogFile { path: dir.path().to_owned(), formats: formats.clone(), held: Held::No };
    let file = LogFile { path, formats, held: Held::No };
    let logs = |logs: Vec<LogFile>| {
        let located = Located { logs, ..Located::default() };
        let mut logs = Logs::new(&located, From::Beginning, &[], &[]);
        (logs.look(News::None, None, &mut |_| {}).is_ok(), logs.traffic().probes, logs.troubles().count())
    };
    assert_eq!(logs(vec![folder.clone(), file]), (true, 1, 1));
    assert_eq!(logs(vec![folder]), (false, 0, 1));
}
fn log(path: std::path::PathBuf, format: &str) -> LogFile {
    LogFile { path, formats: vec![Format::compile(format).unwrap()], held: Held::No }
}

fn located(logs: Vec<LogFile>) -> Located {
    Located { logs, ..Located::default() }
}

/// The seconds of the probes that a look finds.
fn look(logs: &mut Logs) -> Vec<i64> {
    let mut found = Vec::new();
    let mut take = |seen: Seen<'_>| {
        if let Seen::Probe(probe) = seen {
            found.push(probe.stamp.at_ms / 1000 - 1_700_000_000);
        }
    };
    logs.look(News::None, None, &mut take).unwrap();
    found
}

#[test]
fn another_configuration_loses_no_line_and_reads_none_again() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.log"), dir.path().join("two.log"));
    let append = |path: &Path, line: &str| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
    };
    append(&one, &probe("10.0.0.1", 0));
    append(&two, &probe("10.0.0.1", 1)); // of another time
    let mut logs = Logs::new(&located(vec![log(one.clone(), "combined")]), From::Beginning, &[], &[]);
    assert_eq!(look(&mut logs), [0]);
    append(&two, &probe("10.0.0.1", 20));
    let other = "$remote_addr [$time_local] $http_user_agent";
    let new = vec![log(one.clone(), other), log(two.clone(), "combined")];
    logs.relocate(&located(new), 1_700_000_010_000);
    assert_eq!(look(&mut logs), [20]);
    append(&one, &probe("10.0.0.1", 25)); // not reloaded yet
    assert_eq!(look(&mut logs), [25]);
    append(&one, "10.0.0.1 [14/Nov/2023:22:13:50 +0000] ELB-HealthChecker/2.0\n");
    append(&one, &probe("10.0.0.1", 35));
    assert_eq!(look(&mut logs), [30, 35], "a worker that goes on with the old format");
    append(&one, "14/Nov/2023:22:13:57 +0000|10.0.0.1|ELB-HealthChecker/2.0\n");
    assert_eq!((look(&mut logs), logs.traffic().unparsed), (vec![], 1), "reloaded before it was noticed");
    let bars = "$time_local|$remote_addr|$http_user_agent";
    logs.relocate(&located(vec![log(one.clone(), bars), log(two.clone(), "combined")]), 1_700_000_036_000);
    assert_eq!((look(&mut logs), logs.traffic().unparsed), (vec![37], 0));
    logs.relocate(&located(vec![log(two, "combined")]), 1_700_000_040_000);
    logs.let_go(Duration::from_secs(3600));
    append(&one, &probe("10.0.0.1", 40));
    assert_eq!(look(&mut logs), [40], "it is still written to");
    logs.let_go(Duration::ZERO);
    append(&one, &probe("10.0.0.1", 45));
    assert_eq!((look(&mut logs), logs.tails().len()), (vec![], 1));
    assert_eq!(logs.traffic().probes, 8, "what was read stays counted");
}
