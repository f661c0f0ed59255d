use super::*;
use crate::access_log::format::{COMBINED, RECOMMENDED};

fn scan(format: &str, nodes: &[&str], text: &[u8]) -> (Vec<String>, Traffic) {
    let nodes = nodes.iter().map(|n| n.parse().unwrap()).collect();
    let mut scanner = Scanner::new(vec![Format::new("default", format).unwrap()], nodes);
    let mut found = Vec::new();
    scanner.block(text, None, &mut |f| found.push(f.node.to_string()));
    (found, scanner.traffic())
}

fn line(addr: &str, path: &str, agent: &str, behind: &str) -> String {
    format!(
        "{addr} - - [14/Nov/2023:22:13:20 +0000] \"GET {path} HTTP/1.1\" 200 5 \"-\" \"{agent}\"{behind}\n"
    )
}

#[test]
fn only_the_exact_user_agent_is_a_probe() {
    let text = line("10.0.0.1", "/?ELB-HealthChecker/2.0", "curl", "")
        + &line("10.0.0.1", "/", "ELB-HealthChecker/2.0 x", "")
        + &line("10.0.0.2", "/", "ELB-HealthChecker/2.0", "")
        + "ELB-HealthChecker/2.0\n";
    let (found, traffic) = scan(COMBINED, &[], text.as_bytes());
    assert_eq!(found, ["10.0.0.2"]);
    assert_eq!((traffic.lines, traffic.probes, traffic.unparsed), (4, 1, 1));
    assert_eq!((traffic.bytes, traffic.last_ms), (text.len() as u64, Some(1_700_000_000_000)));
}

#[test]
fn strangers_and_what_came_through_the_load_balancer_are_counted_apart() {
    let agent = "ELB-HealthChecker/2.0";
    let text = line("8.8.8.8", "/", agent, "")
        + &line("10.0.0.1", "/", agent, "")
        + &line("::ffff:172.16.3.4", "/", agent, "");
    let (found, traffic) = scan(COMBINED, &[], text.as_bytes());
    assert_eq!((found, traffic.spoofed), (vec!["10.0.0.1".to_owned(), "172.16.3.4".to_owned()], 1));
    let (found, traffic) = scan(COMBINED, &["8.8.0.0/16"], text.as_bytes());
    assert_eq!((found, traffic.spoofed), (vec!["8.8.8.8".to_owned()], 2));
    let text = line("10.0.0.1", "/", agent, " 1700000000.000 10.0.0.1 \"1.2.3.4\" \"x\" 0.001")
        + &line("10.0.0.2", "/", agent, " 1700000000.000 10.0.0.2 \"-\" \"x\" 0.001");
    let (found, traffic) = scan(RECOMMENDED, &[], text.as_bytes());
    assert_eq!((found, traffic.spoofed), (vec!["10.0.0.2".to_owned()], 1));
}

#[test]
fn holes_and_carriage_returns_are_no_part_of_a_line() {
    let text = format!("torn\0\0\0{}\r\n", line("10.0.0.1", "/", "ELB-HealthChecker/2.0", "").trim_end());
    assert_eq!(scan(COMBINED, &[], text.as_bytes()).0, ["10.0.0.1"]);
}

#[test]
fn a_line_that_arrives_within_its_second_is_timed_by_its_arrival() {
    let stamp = Stamp { at_ms: 5000, resolution_ms: 1000 };
    let at = |at_ms, prompt| sharpen(stamp, Some(Arrival { at_ms, prompt })).at_ms;
    assert_eq!((at(5700, true), at(5700, false), at(7000, true), at(4000, true)), (5700, 5000, 5000, 5000));
}
