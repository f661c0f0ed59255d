//! A fault of the packets, which only other machines see: the load balancer is one, beyond a cable.

use std::process::Stdio;

use world::agent;
use world::place::wait_until;

use super::{LONG, finish, result};
use crate::fault::net::cable;
use crate::fault::skipped;

/// A process that ends with the test.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_target_that_answers_errors_is_an_outage_as_long_as_there_is_no_other() {
    if !std::process::Command::new("haproxy").arg("-v").output().is_ok_and(|o| o.status.success()) {
        return skipped("haproxy is missing");
    }
    let Some(cable) = cable() else { return };
    let conf = cable.place.join("haproxy.cfg");
    let text = format!(
        "defaults\n mode http\n retries 0\n option httpchk GET /\n timeout connect 5s\n timeout client 30s\n \
         timeout server 30s\nlisten all\n bind 10.77.0.2:80\n server t0 {} check inter 1s fall 2 rise 2\n",
        cable.addr
    );
    std::fs::write(&conf, text).unwrap();
    let mut haproxy = std::process::Command::new("haproxy");
    haproxy.args(["-db", "-f"]).arg(&conf);
    let _haproxy =
        Child(cable.in_client(&haproxy).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let drill = || {
        let all = [
            "drill",
            "failover",
            "--json",
            "--url",
            "http://10.77.0.2/",
            "--conf",
            &cable.conf,
            "--mode",
            "error",
            "--secs",
            "4",
            "--rps",
            "40",
            "--baseline",
            "1s",
            "--interval",
            "1s",
            "--timeout",
            "500ms",
            "--healthy",
            "2",
            "--expect-instance",
            "i-cable",
        ];
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
    let node = &last["nodes"][0];
    assert!(node["failures"]["503"].as_u64().unwrap() > 20, "{stderr} {last:#}");
    assert!(last["outage_ms"].as_f64().unwrap() > 3000.0, "{last:#}");
    assert_eq!(
        (code, &last["cleanup"]["answer"], &last["safety"]["answer"]),
        (1, &"yes".into(), &"no".into())
    );
}
