use world::agent::configure;
use world::alb::{Alb, Check, Settings};
use world::nginx::Nginx;

use super::*;

const A: &str = "172.31.5.17";
const B: &str = "172.31.20.4";

fn every(node: &str, interval: i64, shift: i64, slots: std::ops::Range<i64>) -> Vec<(i64, String)> {
    slots.map(|n| START + shift + n * interval).map(|at| (at, probe(node, at, "/health"))).collect()
}

fn log(place: &Place, lines: Vec<Vec<(i64, String)>>) -> PathBuf {
    let mut lines = lines.concat();
    lines.sort();
    write_log(place, lines.into_iter().map(|(_, line)| line))
}

#[test]
fn two_nodes_on_time_are_confirmed_with_the_contracts_keys() {
    let place = Place::new().unwrap();
    let path = log(&place, vec![every(A, 5, 0, 0..12), every(B, 5, 2, 0..12)]);
    let (code, probes, verdict) = judge(&place, &path, &["--once", "--expect", "5s"]);
    assert_eq!((code, probes, verdict["confirmed"].as_bool()), (0, 24, Some(true)), "{verdict}");
    assert_eq!(
        (&verdict["expected_ms"], &verdict["tolerance_ms"], &verdict["lines"]),
        (&5000.into(), &1000.into(), &24.into())
    );
    assert_eq!(verdict["bytes"], fs::metadata(&path).unwrap().len());
    for node in verdict["nodes"].as_array().unwrap() {
        assert_eq!(
            (&node["probes"], &node["missed"], &node["on_time"]),
            (&12.into(), &0.into(), &true.into())
        );
        for key in ["interval_min_ms", "interval_p50_ms", "interval_max_ms"] {
            assert_eq!(node[key], 5000);
        }
    }
    assert_eq!(verdict["verifiable"], false, "combined has no X-Forwarded-For");
}

#[test]
fn what_is_missing_late_or_another_interval_is_not_confirmed() {
    let place = Place::new().unwrap();
    let path = log(&place, vec![every(A, 5, 0, 0..6), every(A, 5, 0, 8..14), every(B, 5, 1, 0..14)]);
    let (code, _, verdict) = judge(&place, &path, &["--once"]);
    assert_eq!((code, verdict["reason"].as_str()), (1, Some("off_rhythm")));
    assert_eq!(
        (&verdict["nodes"][1]["missed"], &verdict["nodes"][0]["missed"]),
        (&0.into(), &2.into()),
        "{verdict}"
    );
    for (interval, expect) in [(5, "10s"), (10, "5s"), (6, "5s"), (30, "5s"), (5, "30s")] {
        let path = log(&place, vec![every(A, interval, 0, 0..30)]);
        let (code, _, verdict) = judge(&place, &path, &["--once", "--expect", expect]);
        assert_eq!(code, 1, "{interval} for {expect}: {verdict}");
    }
    let path = log(&place, vec![every(A, 10, 0, 0..10)]);
    let (code, _, verdict) = judge(&place, &path, &["--once", "--expect", "auto"]);
    assert_eq!((code, &verdict["expected_ms"]), (0, &10_000.into()));
}

#[test]
fn silence_has_four_reasons() {
    let place = Place::new().unwrap();
    let browser = |seconds: std::ops::Range<i64>| {
        seconds.map(|s| (START + s, line("8.8.8.8", START + s, "/", "curl"))).collect::<Vec<_>>()
    };
    let reason = |lines: Vec<Vec<(i64, String)>>, flags: &[&str]| {
        let path = log(&place, lines);
        let (code, _, verdict) = judge(&place, &path, flags);
        (code, verdict["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(reason(vec![browser(0..60)], &["--once"]), (3, "not_logged".into()));
    assert_eq!(reason(vec![every(A, 5, 0, 0..6), browser(0..90)], &["--once"]), (1, "stopped".into()));
    assert_eq!(reason(vec![], &["--once"]), (3, "no_traffic".into()));
    assert_eq!(reason(vec![every(A, 5, 0, 0..1), browser(0..4)], &["--once"]), (3, "too_few".into()));
    assert_eq!(
        reason(vec![every(A, 5, 0, 0..6)], &["--from-start"]),
        (1, "no_traffic".into()),
        "by the clock"
    );
    assert_eq!(reason(vec![every(A, 5, 0, 0..6)], &["--once", "--expect", "1s"]).0, 3, "stamps of a second");
}

#[test]
fn liars_are_counted_apart_and_make_no_node() {
    let place = Place::new().unwrap();
    let path = log(
        &place,
        vec![every(A, 5, 0, 0..12), every("8.8.8.8", 1, 0, 0..60), every("10.9.9.9", 1, 0, 0..7)],
    );
    let (code, _, verdict) = judge(&place, &path, &["--once", "--nodes", "172.31.0.0/16,192.168.0.0/16"]);
    assert_eq!((code, &verdict["spoofed"], verdict["nodes"].as_array().unwrap().len()), (0, &67.into(), 1));
}

#[test]
fn a_format_of_ones_own_is_read_from_the_command_line() {
    let place = Place::new().unwrap();
    let lines = (0..9).map(|n| {
        format!("{{\"ts\":{}.250,\"ip\":\"::ffff:10.0.0.7\",\"q\":\"GET /h HTTP/1.1\",\"st\":200,\"ua\":\"ELB-HealthChecker/2.0\",\"xff\":\"\"}}\n", START + n * 5)
    });
    let path = write_log(&place, lines);
    let format = r#"escape=json '{"ts":$msec,"ip":"$remote_addr","q":"$request","st":$status,"ua":"$http_user_agent","xff":"$http_x_forwarded_for"}'"#;
    let (code, _, verdict) = judge(&place, &path, &["--once", "--format", format]);
    assert_eq!(
        (code, verdict["nodes"][0]["node"].as_str(), &verdict["verifiable"]),
        (0, Some("10.0.0.7"), &true.into())
    );
    let (code, _, verdict) = judge(&place, &path, &["--once"]);
    assert_eq!((code, verdict["reason"].as_str()), (3, Some("wrong_format")));
    let (code, _, error) = judge(&place, &path, &["--once", "--format", "$msec $remote_addr"]);
    assert!(code == 2 && error["message"].as_str().unwrap().contains("$http_user_agent"), "{error}");
}

#[test]
fn wrong_flags_are_wrong_usage() {
    let place = Place::new().unwrap();
    for (flags, word) in [
        (["--expect", "soon"], "--expect"),
        (["--nodes", "10.0.0.0/99"], "--nodes"),
        (["--expect", "1ms"], "probes.expect"),
    ] {
        let output = run(&place, &[&["probes", "--once"], &flags[..]].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(word));
    }
}

#[test]
fn a_simulated_load_balancer_in_front_of_a_real_nginx_is_confirmed_live() {
    let place = Place::new().unwrap();
    let format = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/nginx/log_format.conf");
    let log = place.join("probes.log");
    let server = format!("access_log {} probes; location / {{ return 200; }}", log.display());
    let nginx = Nginx::start(&place, &format!("include {format};"), &server).unwrap();
    let interval = Duration::from_millis(1000);
    let check = Check { path: "/health".into(), interval, timeout: interval / 2, ..Check::default() };
    let _alb = Alb::start(Settings::new(check), &[nginx.addr]).unwrap();
    let (code, probes, verdict) =
        judge(&place, &log, &["--expect", "1s", "--tolerance", "450ms", "--for", "6s"]);
    assert_eq!((code, verdict["confirmed"].as_bool()), (0, Some(true)), "{verdict}");
    assert_eq!((verdict["nodes"].as_array().unwrap().len(), &verdict["verifiable"]), (2, &true.into()));
    assert!(probes >= 6);
}

#[test]
fn what_nginx_holds_back_in_its_buffers_is_not_missed() {
    let interval = Duration::from_millis(1000);
    let check = Check { path: "/health".into(), interval, timeout: interval / 2, ..Check::default() };
    for (parameters, time, expected) in [
        ("buffer=64k flush=1500ms", "8s", (0, "on_time", 1500.into())),
        ("buffer=64k", "2s", (3, "buffered", Value::Null)),
    ] {
        let place = Place::new().unwrap();
        let format = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/nginx/log_format.conf");
        let log = place.join("probes.log");
        let server =
            format!("access_log {} probes {parameters}; location / {{ return 200; }}", log.display());
        let nginx = Nginx::start(&place, &format!("include {format};"), &server).unwrap();
        configure(&place, &format!("[nginx]\nconf = {:?}\n", nginx.prefix().join("nginx.conf"))).unwrap();
        let _alb = Alb::start(Settings::new(check.clone()), &[nginx.addr]).unwrap();
        let flags = ["--expect", "1s", "--tolerance", "450ms", "--for", time];
        let (code, _, verdict) = judge(&place, &log, &flags);
        let reason = verdict["reason"].as_str().unwrap();
        assert_eq!((code, reason, verdict["flush_ms"].clone()), expected, "{verdict}");
    }
}
