//! Drills over https: clients trust the authorities that this machine trusts, and no others.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use world::agent;
use world::fleet::OURS;
use world::haproxy::{Check, Haproxy};
use world::nginx::Nginx;
use world::place::Place;

use super::{finish, result};
use crate::fault::skipped;

const CHECK: Check = Check {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(400),
    rise: 2,
    fall: 2,
    redispatch: false,
};

/// A certificate of its own for alb.test, that anybody who trusts it can check: with its key, and alone.
fn certificate(place: &Place) -> Option<(PathBuf, PathBuf)> {
    let (conf, key, alone, both) =
        (place.join("openssl.cnf"), place.join("key.pem"), place.join("cert.pem"), place.join("both.pem"));
    let text = "[req]\ndistinguished_name = name\nx509_extensions = is\nprompt = no\n[name]\nCN = alb.test\n\
                [is]\nsubjectAltName = DNS:alb.test\nbasicConstraints = critical,CA:FALSE\n";
    std::fs::write(&conf, text).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    let Ok(output) =
        openssl.arg("-config").arg(&conf).arg("-keyout").arg(&key).arg("-out").arg(&alone).output()
    else {
        skipped("openssl is missing");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&both, read(&alone) + &read(&key)).unwrap();
    Some((both, alone))
}

/// A load balancer that speaks TLS, and the one target behind it.
struct World {
    haproxy: Haproxy,
    trusted: PathBuf,
    nginx: Nginx,
    place: Place,
}

impl World {
    fn new() -> Option<Self> {
        let place = Place::new().unwrap();
        let (served, trusted) = certificate(&place)?;
        let server = format!("location / {{ add_header X-Instance-Id {OURS}; return 200; }}");
        let nginx = Nginx::start(&place, "", &server).unwrap();
        let Some(haproxy) = Haproxy::start_with(CHECK, &[nginx.addr], Some(&served)).unwrap() else {
            skipped("haproxy is missing");
            return None;
        };
        Some(Self { haproxy, trusted, nginx, place })
    }

    /// A drill by somebody who trusts what is in this file: exit code, events, stderr.
    fn drill(&self, trusted: &str, args: &str) -> (i32, Vec<Value>, String) {
        let nodes = self.haproxy.nodes();
        let mut all = vec!["drill", "failover", "--json", "--url", "https://alb.test/", "--resolve", &nodes];
        all.extend("--baseline 1s --deadline 2s --interval 1s --timeout 400ms --healthy 2".split(' '));
        all.extend(["--expect-instance", OURS]);
        all.extend(args.split(' '));
        let mut command = agent::command(&self.place, &all);
        command.env("AGENT_IDENTITY_ENDPOINT", format!("http://{}:1", self.place.ip));
        command.env("SSL_CERT_FILE", trusted).env("SSL_CERT_DIR", "/nonexistent");
        finish(command)
    }

    fn trusted(&self) -> String {
        self.trusted.to_string_lossy().into_owned()
    }
}

#[test]
fn a_drill_over_https_measures_as_over_http() {
    let Some(world) = World::new() else { return };
    let conf = world.nginx.conf.to_string_lossy().into_owned();
    let (_, events, stderr) =
        world.drill(&world.trusted(), &format!("--mode stop --secs 3 --rps 40 --force --conf {conf}"));
    let last = result(&events);
    assert_eq!(last["cleanup"]["answer"], "yes", "{stderr} {last:#}");
    for node in last["nodes"].as_array().unwrap() {
        let failures = node["failures"].as_object().unwrap();
        assert!(failures.contains_key("503") && !failures.contains_key("tls"), "{last:#}");
        assert!(node["readmitted_after_ms"].is_number(), "{last:#}");
    }
}

#[test]
fn a_certificate_that_nobody_here_vouches_for_is_no_session() {
    let (Some(world), stranger) = (World::new(), Place::new().unwrap()) else { return };
    let Some((_, other)) = certificate(&stranger) else { return };
    // Another name than the certificate's, and an authority that isn't its own.
    for (trusted, args) in
        [(world.trusted(), "--host www.test"), (other.to_string_lossy().into_owned(), "--host alb.test")]
    {
        let (code, events, stderr) = world.drill(&trusted, &format!("--observe --secs 1 {args}"));
        assert_eq!((code, events.last().unwrap()["event"].as_str()), (4, Some("error")), "{stderr}");
        assert!(stderr.contains("with tls (invalid peer certificate"), "{stderr}");
        let requests = super::all(&events, "request");
        assert!(!requests.is_empty() && requests.iter().all(|one| one["error"] == "tls"), "{stderr}");
    }
}

#[test]
fn without_any_authority_it_says_where_they_come_from() {
    let Some(world) = World::new() else { return };
    let (code, _, stderr) = world.drill("/nonexistent/ca.pem", "--observe --secs 1");
    assert!(code == 3 && stderr.contains("SSL_CERT_FILE"), "{code} {stderr}");
}
