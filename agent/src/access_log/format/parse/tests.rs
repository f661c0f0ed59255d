use super::super::{COMBINED, FormatError, RECOMMENDED};
use super::*;
use proptest::prelude::*;

const PROBE: &[u8] = br#"172.31.5.17 - - [14/Nov/2023:22:13:20 +0000] "GET /health HTTP/1.1" 200 5 "-" "ELB-HealthChecker/2.0""#;

fn combined() -> Format {
    Format::compile("combined").unwrap()
}

#[test]
fn a_probe_in_combined_is_read_whole() {
    let format = combined();
    let line = format.parse(PROBE).unwrap();
    assert_eq!(line.node(), "172.31.5.17".parse().ok());
    assert_eq!(line.stamp().unwrap().at_ms, 1_700_000_000_000);
    assert_eq!((line.method, line.path, line.status), (&b"GET"[..], &b"/health"[..], Some(200)));
    assert_eq!(line.agent, b"ELB-HealthChecker/2.0");
}

#[test]
fn no_user_name_can_pose_as_the_rest_of_the_line() {
    let format = combined();
    let forged = br#"9.9.9.9 - a [14/Nov/2023:22:13:21 +0000] x [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 401 5 "-" "\x22ELB-HealthChecker/2.0\x22""#;
    let line = format.parse(forged).unwrap();
    assert_eq!(line.stamp().unwrap().at_ms, 1_700_000_000_000, "the last one, next to the request");
    assert_eq!(line.agent, br"\x22ELB-HealthChecker/2.0\x22");
    assert_eq!(line.status, Some(401));
}

#[test]
fn what_is_of_another_format_is_not_read() {
    let format = combined();
    assert_eq!(format.parse(&PROBE[..PROBE.len() - 1]), None);
    assert_eq!(format.parse(&[PROBE, br#" "-""#].concat()), None);
    assert_eq!(format.parse(b""), None);
    assert!(Format::compile("main").unwrap().parse(PROBE).is_none());
}

#[test]
fn json_with_raw_bytes_and_escaped_quotes_is_read() {
    let format = Format::compile(
        r#"escape=json '{"t":"$time_iso8601","ms":$msec,"a":"$remote_addr","r":"$request",' '"s":$status,"u":"$http_user_agent","x":"$http_x_forwarded_for","h":"$http_host"}'"#,
    )
    .unwrap();
    let text = b"{\"t\":\"2023-11-14T22:13:20+00:00\",\"ms\":1700000000.123,\"a\":\"::ffff:10.0.0.7\",\
        \"r\":\"GET /\xff\\\"\\\\ HTTP/1.1\",\"s\":200,\"u\":\"ELB-HealthChecker/2.0\",\"x\":\"\",\"h\":\"10.0.0.9:80\"}";
    let line = format.parse(text).unwrap();
    assert_eq!(line.node(), "10.0.0.7".parse().ok());
    assert_eq!(line.stamp(), Some(Stamp { at_ms: 1_700_000_000_123, resolution_ms: 1 }));
    assert_eq!(
        (line.path, line.forwarded, line.host),
        (&b"/\xff\\\"\\\\"[..], None, Some(&b"10.0.0.9:80"[..]))
    );
    assert!(format.verifiable());
}

#[test]
fn the_peer_is_the_node_where_realip_rewrites_the_address() {
    let format = Format::compile(RECOMMENDED).unwrap();
    let text = br#"8.8.8.8 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5 "-" "ELB-HealthChecker/2.0" 1700000000.123 fd00::1 "8.8.8.8" "x" 0.000"#;
    let line = format.parse(text).unwrap();
    assert_eq!((line.node(), line.forwarded), ("fd00::1".parse().ok(), Some(&b"8.8.8.8"[..])));
}

#[test]
fn formats_without_quotes_are_read_and_not_trusted() {
    let format = Format::compile(
        "log_format x '$msec|$remote_addr:$remote_port|$http_user_agent|' '${request}|$status';",
    )
    .unwrap();
    assert!(!format.verifiable());
    let line =
        format.parse(b"1700000000.123|10.0.0.1:5555|ELB-HealthChecker/2.0|GET /a HTTP/1.0|503").unwrap();
    assert_eq!((line.node(), line.path, line.status), ("10.0.0.1".parse().ok(), &b"/a"[..], Some(503)));
}

#[test]
fn a_format_that_cannot_do_says_what_it_lacks() {
    let error = |text| Format::compile(text).unwrap_err().to_string();
    assert!(error("$remote_addr [$time_local]").contains("$http_user_agent"));
    assert!(error("$http_user_agent [$time_local]").contains("$remote_addr"));
    assert!(error("$http_user_agent $remote_addr").contains("$msec"));
    assert!(error("log_format x '$remote_addr").contains("never closed"));
    assert!(error("$remote_addr ${x").contains("${x"));
    assert!(error("escape=xml $remote_addr").contains("escape=xml"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = combined().parse(&bytes);
    }

    #[test]
    fn no_mutation_of_a_line_panics(at in 0..PROBE.len(), byte in any::<u8>(), cut in 0..PROBE.len()) {
        let mut line = PROBE.to_vec();
        line[at] = byte;
        let _ = combined().parse(&line);
        line.truncate(cut);
        let _ = combined().parse(&line);
    }

    #[test]
    fn no_format_panics(text in "(log_format |escape=json |[$ {}a-z_'\"\\\\\\[\\]|]|\\$remote_addr|\\$http_user_agent|\\$msec|\\$status){0,20}", line in "[ -~]{0,80}") {
        if let Ok(format) = Format::compile(&text) {
            let _ = format.parse(line.as_bytes());
        }
    }

    #[test]
    fn what_was_escaped_by_nginx_reads_back(user in "[ -!#-\\[\\]-~]{1,30}", uri in "/[!#-\\[\\]-~]{0,30}", agent in "[ -!#-\\[\\]-~]{0,40}") {
        let text = format!("10.1.2.3 - {user} [14/Nov/2023:22:13:20 +0000] \"GET {uri} HTTP/1.1\" 200 5 \"-\" \"{agent}\"");
        let format = Format::compile(COMBINED).unwrap();
        let line = format.parse(text.as_bytes()).unwrap();
        prop_assert_eq!(line.agent, agent.as_bytes());
        prop_assert_eq!(line.path, uri.as_bytes());
        prop_assert_eq!(line.stamp().unwrap().at_ms, 1_700_000_000_000_i64);
    }
}

#[test]
fn how_long_an_answer_took_is_read_where_the_format_has_it() {
    let format = Format::compile("$remote_addr [$time_local] $request_time \"$http_user_agent\"").unwrap();
    let took = |text: &str| {
        let line = format!("10.1.2.3 [14/Nov/2023:22:13:20 +0000] {text} \"ELB-HealthChecker/2.0\"");
        format.parse(line.as_bytes()).unwrap().took_ms
    };
    assert_eq!((took("1.250"), took("0.000"), took("-")), (Some(1250), Some(0), None));
}

fn read(format: &str, line: &str) -> Option<(String, String, String, i64)> {
    let format = Format::compile(format).unwrap();
    let line = format.parse(line.as_bytes())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((line.node()?.to_string(), text(line.path), text(line.agent), line.stamp()?.at_ms / 1000))
}

#[test]
fn variables_side_by_side_and_blanks_in_values_do_not_hide_a_probe() {
    let expected = |path: &str| {
        Some(("10.0.0.7".to_owned(), path.to_owned(), "ELB-HealthChecker/2.0".to_owned(), 1_700_000_000))
    };
    for (format, line, path) in [
        (
            r#"$remote_addr - $remote_user [$time_local] "$request_method $scheme://$host$request_uri $server_protocol" $status "$http_user_agent""#,
            r#"10.0.0.7 - - [14/Nov/2023:22:13:20 +0000] "GET http://10.0.0.9/health?a=/b HTTP/1.1" 200 "ELB-HealthChecker/2.0""#,
            "/health?a=/b",
        ),
        (
            r#"$remote_addr [$time_iso8601] $request_method $uri$is_args$args $status$body_bytes_sent "$http_user_agent""#,
            r#"10.0.0.7 [2023-11-14T22:13:20+00:00] GET /h?x=y z 2005 "ELB-HealthChecker/2.0""#,
            "/h?x=y z",
        ),
        (
            "$msec$request_time $remote_addr $http_referer $status $request_uri $http_user_agent",
            "1700000000.1230.004 10.0.0.7 a b 200 /h ELB-HealthChecker/2.0",
            "/h",
        ),
        (
            r#"$host$upstream_addr $remote_addr "$http_a$http_b" $time_local "$http_user_agent" $uri"#,
            r#"web10.0.0.1:80 10.0.0.7 "--" 14/Nov/2023:22:13:20 +0000 "ELB-HealthChecker/2.0" /h"#,
            "/h",
        ),
        (
            r#"$proxy_add_x_forwarded_for - $remote_user [$time_local] "$request" $status "$http_user_agent""#,
            r#"10.0.0.7 - - [14/Nov/2023:22:13:20 +0000] "GET /h HTTP/1.1" 200 "ELB-HealthChecker/2.0""#,
            "/h",
        ),
        (
            r#"$proxy_protocol_addr $remote_addr [$time_local] "$request" "$http_user_agent""#,
            r#"- 10.0.0.7 [14/Nov/2023:22:13:20 +0000] "GET /h HTTP/1.1" "ELB-HealthChecker/2.0""#,
            "/h",
        ),
    ] {
        assert_eq!(read(format, line), expected(path), "{format}");
    }
}

#[test]
fn an_address_list_is_a_forwarded_request() {
    let format = Format::compile(r#"$proxy_add_x_forwarded_for [$time_local] "$http_user_agent""#).unwrap();
    let line =
        format.parse(br#"1.2.3.4, 10.0.0.7 [14/Nov/2023:22:13:20 +0000] "ELB-HealthChecker/2.0""#).unwrap();
    assert_eq!((line.node(), line.forwarded), (None, Some(&b"1.2.3.4, 10.0.0.7"[..])));
    assert!(format.verifiable());
}

#[test]
fn the_time_that_a_request_took_is_read() {
    let format = Format::compile(RECOMMENDED).unwrap();
    let text = br#"10.0.0.1 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5 "-" "ELB-HealthChecker/2.0" 1700000000.123 10.0.0.1 "-" "x" 1.204"#;
    assert_eq!(format.parse(text).unwrap().took_ms, Some(1204));
}

#[test]
fn a_needed_value_that_ends_nowhere_is_told() {
    let error = Format::compile("$remote_addr [$time_local] $http_user_agent$http_x").unwrap_err();
    assert_eq!(error, FormatError::Glued("$http_user_agent"));
}

#[test]
fn a_line_that_fits_in_a_thousand_ways_costs_little() {
    let format = Format::compile(
        "$http_a $http_b $http_c $http_d $http_e [$time_local] $remote_addr $http_user_agent",
    )
    .unwrap();
    let line = "a ".repeat(30_000);
    assert_eq!(format.parse(line.as_bytes()), None);
}
