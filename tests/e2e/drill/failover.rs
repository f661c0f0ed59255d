//! A drill from its baseline to its verdict.

use std::time::Duration;

use world::fleet::{Fleet, OTHER, OURS, check};

use super::{all, finish, result};

const INTERVAL: Duration = Duration::from_secs(1);
const CHECK: &str = "--interval 1s --timeout 500ms --healthy 2 --unhealthy 2";

#[test]
fn a_stopped_nginx_is_an_outage_as_long_as_predicted() {
    let fleet = Fleet::start(check(INTERVAL), 2, None).unwrap();
    let (code, events, stderr) = finish(fleet.failover(&format!("--mode stop --secs 5 --rps 40 {CHECK}")));
    let last = result(&events);
    assert_eq!(code, 0, "{stderr} {last:#}");
    assert!(fleet.nginx[0].answers());
}
