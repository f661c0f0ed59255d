//! Faults of the packets, which only other machines see: the load balancer is one, beyond a cable, and this is its only
//! target.

use std::process::{Command, Stdio};

use serde_json::Value;
use world::agent;
use world::cable::Cable;
use world::place::wait_until;

use super::{LONG, finish, result};
use crate::fault::net::cable;
use crate::fault::skipped;

const DRILL: &str = "drill failover --json --url http://10.77.0.2/ --secs 4 --rps 40 --baseline 1s --deadline 1s \
                     --interval 1s --timeout 500ms --healthy 2 --expect-instance i-cable --force";

/// A process that ends with the test.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn haproxy(cable: &Cable) -> Child {
    let conf = cable.place.join("haproxy.cfg");
    let text = format!(
        "defaults\n mode http\n retries 0\n option httpchk GET /\n timeout connect 5s\n timeout client 30s\n \
         timeout server 30s\n timeout check 500ms\nlisten all\n bind 10.77.0.2:80\n \
         server t0 {} check inter 1s fall 2 rise 2\n",
        cable.addr
    );
    std::fs::write(&conf, text).unwrap();
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-db", "-f"]).arg(&conf);
    Child(cable.in_client(&haproxy).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// A drill in this mode: what the only node's requests failed with, where it can be had. The fault must be cleaned up,
/// and with nobody else to ask it isn't safe.
fn drill(mode: &str) -> Option<Value> {
    if !Command::new("haproxy").arg("-v").output().is_ok_and(|o| o.status.success()) {
        skipped("haproxy is missing");
        return None;
    }
    let cable = cable()?;
    let _haproxy = haproxy(&cable);
    let drill = || {
        let mut all: Vec<&str> = DRILL.split_ascii_whitespace().collect();
        all.extend(["--conf", &cable.conf, "--mode", mode]);
        let mut command = agent::command(&cable.place, &all);
        command.env("AGENT_IDENTITY_ENDPOINT", "http://127.0.0.1:1");
        finish(cable.in_server(&command))
    };
    // Until HAProxy runs, the baseline isn't clean.
    let mut found = None;
    assert!(wait_until(LONG, || {
        let told = drill();
        let refused = told.0 == 4;
        found = Some(told);
        !refused
    }));
    let (code, events, stderr) = found.unwrap();
    let last = result(&events);
    assert!(last["outage_ms"].as_f64().unwrap() > 2000.0, "{stderr} {last:#}");
    let answers = ["cleanup", "safety"].map(|question| last[question]["answer"].as_str().unwrap());
    assert_eq!((code, answers), (1, ["yes", "no"]), "{stderr} {last:#}");
    assert!(cable.has_no_rules() && wait_until(LONG, || cable.sees() == "200"), "{last:#}");
    Some(last["nodes"][0]["failures"].clone())
}

fn count(failures: &Value, name: &str) -> u64 {
    failures[name].as_u64().unwrap_or(0)
}

#[test]
fn a_target_that_answers_errors_is_an_outage_as_long_as_there_is_no_other() {
    let Some(failures) = drill("error") else { return };
    assert!(count(&failures, "503") > 20, "{failures}");
}

#[test]
fn clients_of_a_target_that_refuses_get_the_load_balancers_own_error() {
    let Some(failures) = drill("reject") else { return };
    assert!(count(&failures, "503") > 20 && count(&failures, "read_timeout") == 0, "{failures}");
}

#[test]
fn clients_of_a_target_that_drops_packets_wait_until_it_is_out() {
    let Some(failures) = drill("drop") else { return };
    assert!(count(&failures, "read_timeout") > 0 && count(&failures, "503") > 0, "{failures}");
}
