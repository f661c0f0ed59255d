use world::agent::configure;
use world::imds::Imds;

use super::*;

/// A log of one node's twelve probes, each line as `change` has it.
fn changed(place: &Place, node: &str, change: impl Fn(String) -> String) -> PathBuf {
    write_log(place, (0..12).map(|n| change(probe(node, START + n * 5, "/health"))))
}

#[test]
fn a_configuration_that_was_named_and_cannot_be_read_is_an_error() {
    let place = Place::new().unwrap();
    let conf = place.join("nginx.conf");
    fs::write(&conf, "events { }\nhttp { access_log 'a; }\n").unwrap();
    let named = conf.to_str().unwrap();
    for (flags, words) in [
        (vec!["--conf", "/nope/nginx.conf"], "cannot read /nope/nginx.conf: No such file"),
        (vec!["--conf", named], "nginx.conf:3: unexpected end of file"),
    ] {
        let output = run(&place, &[&["probes", "--once"], flags.as_slice()].concat()).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(words), "{said}");
    }
    // A log that is named too doesn't make up for it.
    configure(&place, "[nginx]\nconf = \"/nope\"\n").unwrap();
    let log = changed(&place, "10.0.0.1", |line| line);
    let (code, _, error) = judge(&place, &log, &["--once"]);
    assert!(code == 2 && error["message"].as_str().unwrap().contains("/nope"), "{error}");
}

#[test]
fn a_log_that_was_named_and_is_not_there_is_not_waited_for_unless_asked_to() {
    let place = Place::new().unwrap();
    let log = place.join("none.log");
    // Six intervals of five minutes would be waited for.
    let (code, _, error) = judge(&place, &log, &["--expect", "5m"]);
    assert_eq!(code, 3, "{error}");
    assert!(error["message"].as_str().unwrap().contains("none.log to read"), "{error}");
    let args = ["probes", "--log", log.to_str().unwrap(), "--for", "1s"];
    let said = String::from_utf8(run(&place, &args).unwrap().stderr).unwrap();
    assert!(said.contains("none.log yet: it is waited for"), "{said}");
}

#[test]
fn nodes_outside_of_private_networks_are_named_and_those_of_the_vpc_are_known() {
    let place = Place::new().unwrap();
    for (node, block) in [("52.1.2.3", "52.1.0.0/16"), ("2600:1f18:aaaa::7", "2600:1f18:aaaa::/56")] {
        let log = changed(&place, node, |line| line);
        configure(&place, "").unwrap();
        let (code, probes, verdict) = judge(&place, &log, &["--once"]);
        assert_eq!((code, probes, &verdict["outsiders"][0]["lines"]), (3, 0, &12.into()), "{verdict}");
        assert_eq!(verdict["add_nodes"], serde_json::json!([node]));
        let (code, probes, _) = judge(&place, &log, &["--once", "--nodes", node]);
        assert_eq!((code, probes), (0, 12));
        let imds = Imds::start(place.ip, "i-0a5cade0", "eu-west-1a").unwrap();
        let family = if node.contains(':') { "6" } else { "4" };
        imds.set("mac", Some("02:00:00:00:00:01"));
        imds.set(
            &format!("network/interfaces/macs/02:00:00:00:00:01/vpc-ipv{family}-cidr-blocks"),
            Some(&format!("198.18.0.0/24\n{block}")),
        );
        configure(&place, &format!("[identity]\nendpoint = {:?}\n", imds.endpoint())).unwrap();
        let (code, probes, verdict) = judge(&place, &log, &["--once"]);
        assert_eq!((code, probes), (0, 12), "{verdict}");
    }
}

#[test]
fn lines_that_a_container_runtime_wrapped_are_read() {
    let place = Place::new().unwrap();
    let json = |line: String| {
        let wrapped = serde_json::json!({"log": line, "stream": "stdout", "time": "2023-11-14T22:13:20Z"});
        format!("{wrapped}\n")
    };
    let cri = |line: String| format!("2023-11-14T22:13:20.669794202Z stdout F {line}");
    let syslog = |line: String| format!("<190>Nov 14 22:13:20 ip-10-0-0-9 nginx: {line}");
    for change in [&json as &dyn Fn(String) -> String, &cri, &syslog] {
        let log = changed(&place, "10.0.0.1", change);
        let (code, probes, verdict) = judge(&place, &log, &["--once"]);
        assert_eq!((code, probes, &verdict["unparsed"]), (0, 12, &0.into()), "{verdict}");
        assert_eq!(verdict["formats"], serde_json::json!(["combined"]));
    }
}

#[test]
fn what_is_not_read_is_shown_and_keeps_every_node_from_being_said() {
    let place = Place::new().unwrap();
    let mut log = changed(&place, "10.0.0.1", |line| line);
    append(&log)
        .write_all(b"10.0.0.2 - - [2023-11-14 \x1b[2J] \"GET /\" \"ELB-HealthChecker/2.0\"\n")
        .unwrap();
    let text = |log: &Path, flags: &[&str]| {
        let args = [&["probes", "--once", "--log", log.to_str().unwrap()], flags].concat();
        String::from_utf8_lossy(&run(&place, &args).unwrap().stdout).into_owned()
    };
    let said = text(&log, &[]);
    assert!(said.contains("1 line with the load balancer's name can't be read"), "{said}");
    assert!(said.contains("up to byte 14") && !said.contains('\x1b'), "{said}");
    assert!(said.contains("confirmed") && !said.contains("every node"), "{said}");
    assert!(said.contains("access.log: format combined, 13 lines, 2023-11-14 22:13:20 to"), "{said}");
    log = changed(&place, "10.0.0.1", |line| line.replace("/2.0", "/1.0"));
    assert!(text(&log, &[]).contains("12 probes of a Classic Load Balancer"));
    let output =
        run(&place, &["probes", "--once", "--log", log.to_str().unwrap(), "--format", "combine"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("no log_format of that name"), "{said}");
    assert!(said.contains("did you mean combined?"), "{said}");
    let dashed = changed(&place, "10.0.0.1", |line| format!("- {line}"));
    let format = "- $remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";
    assert!(text(&dashed, &["--format", format]).contains("confirmed"));
}

#[test]
fn the_load_balancers_own_log_tells_which_side_lost_a_probe() {
    let place = Place::new().unwrap();
    let at = |n: i64| START + n * 5;
    let log = write_log(&place, (0..12).filter(|n| *n != 4).map(|n| probe("10.0.0.1", at(n), "/health")));
    let checks: String = (0..12)
        .filter(|n| *n != 8)
        .map(|n| {
            let sent = jiff::Timestamp::from_millisecond(at(n) * 1000 + 250).unwrap();
            let word = if n == 4 {
                "5.000 10.0.0.9:80 web FAIL - ConnectionTimedOut"
            } else {
                "0.002 10.0.0.9:80 web PASS 200 -"
            };
            format!("http {sent} {word}\n")
        })
        .collect();
    let folder = place.join("bucket");
    fs::create_dir(&folder).unwrap();
    let file = folder
        .join("health_check_log_1_elasticloadbalancing_eu-west-1_app.web.1_20231114T2215Z_52.9.9.9_abc.log");
    fs::write(&file, checks).unwrap();
    assert!(std::process::Command::new("gzip").arg(&file).status().unwrap().success());
    let args = ["probes", "--json", "--log", log.to_str().unwrap(), "--elb-log", folder.to_str().unwrap()];
    let output = run(&place, &args).unwrap();
    let events = events(&output.stdout);
    let lost: Vec<&str> = events.iter().filter_map(|e| e["lost"].as_str()).collect();
    assert!(
        lost.len() == 2
            && lost[0].contains("no connection")
            && lost[1].contains("the load balancer's log lacks it"),
        "{lost:?}"
    );
    let checks = events.iter().find(|e| e["event"] == "checks").unwrap();
    assert_eq!(
        (&checks["sent"], &checks["arrived"], &checks["failed"], &checks["only_here"]),
        (&11.into(), &10.into(), &1.into(), &1.into())
    );
    assert_eq!(events.last().unwrap()["event"], "verdict");
}
