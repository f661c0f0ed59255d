//! Drills that end early, or never begin: the fault is over, and what was measured is reported.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use world::agent::{self, Running};
use world::fleet::{Fleet, OURS, check};
use world::place::{Place, address, wait_until};

use super::{LONG, finish, result};

const CHECK: &str = "--mode stop --rps 40 --interval 1s --timeout 500ms --healthy 2 --unhealthy 2";

fn fleet() -> Fleet {
    Fleet::start(check(Duration::from_secs(1)), 2, false).unwrap()
}

/// No fault on record, and nginx answers.
fn is_well(fleet: &Fleet) -> bool {
    !fleet.place.join("state/fault.json").exists() && fleet.nginx[0].answers()
}

/// Interrupts a drill as soon as a phase begins: its last line, after it has ended.
fn interrupt_in(phase: &str, signal: Signal) -> (Fleet, Value) {
    let fleet = fleet();
    let page = fleet.place.join("report.html");
    let args = format!("{CHECK} --secs 4 --report {}", page.display());
    let mut drill = Running::spawn(&fleet.place, fleet.failover(&args)).unwrap();
    while drill.event("phase", LONG).unwrap()["phase"] != phase {}
    drill.signal(signal).unwrap();
    let last = drill.event("result", LONG).unwrap();
    let status = drill.wait(LONG).unwrap();
    assert_eq!(status.code(), Some(128 + signal as i32), "{phase}: {} {last:#}", drill.stderr());
    assert_eq!(last["cleanup"]["answer"].as_str().unwrap_or("yes"), "yes", "{phase}: {last:#}");
    assert!(is_well(&fleet), "{phase}");
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.contains("</html>") && text.contains("\"signal\":"), "{phase}: no report");
    (fleet, last)
}

#[test]
fn interrupted_in_its_baseline_nothing_was_touched() {
    let (fleet, last) = interrupt_in("baseline", Signal::SIGINT);
    assert_eq!(last["hypothesis"]["answer"], "unknown");
    assert!(!fleet.place.join("log/faults.jsonl").exists());
}

#[test]
fn interrupted_while_the_fault_is_made_it_is_over() {
    interrupt_in("fault", Signal::SIGTERM);
}

#[test]
fn interrupted_while_the_fault_is_held_it_ends_at_once() {
    let (_fleet, last) = interrupt_in("hold", Signal::SIGINT);
    let at = |name: &str| last[name].as_f64().unwrap();
    assert!(at("recovering_ms") - at("effective_ms") < 3900.0, "{last:#}");
    // That it was interrupted says nothing of who answers.
    assert!(!last["safety"].to_string().contains("does not answer any more"), "{last:#}");
}

#[test]
fn interrupted_before_the_target_is_back_in_use_that_is_not_known() {
    let (_fleet, last) = interrupt_in("readmission", Signal::SIGHUP);
    assert_ne!(last["hypothesis"]["answer"], "yes");
}

#[test]
fn interrupted_after_everything_it_has_all_figures() {
    let (_fleet, last) = interrupt_in("after", Signal::SIGINT);
    assert!(last["outage_ms"].is_number() && last["readmitted_after_ms"].is_number(), "{last:#}");
}

#[test]
fn a_killed_drill_leaves_a_fault_that_ends() {
    let fleet = fleet();
    let mut drill = Running::spawn(&fleet.place, fleet.failover(&format!("{CHECK} --secs 2"))).unwrap();
    drill.event("effective", LONG).unwrap();
    drill.signal(Signal::SIGKILL).unwrap();
    drill.wait(LONG).unwrap();
    assert!(wait_until(LONG, || is_well(&fleet)));
}

#[test]
fn an_outage_over_its_limit_ends_the_fault() {
    let fleet = fleet();
    let (code, events, stderr) = finish(fleet.failover(&format!("{CHECK} --secs 60 --max-outage 500ms")));
    let last = result(&events);
    assert_eq!((code, last["safety"]["answer"].as_str()), (1, Some("no")), "{stderr} {last:#}");
    assert!(last["safety"]["why"][0].as_str().unwrap().contains("--max-outage"), "{last:#}");
    assert_eq!(
        super::all(&events, "recovering")[0]["why"],
        "limit",
        "nobody asked for it with agent recover"
    );
    assert!(is_well(&fleet) && last["recovered_ms"].as_f64().unwrap() < 30_000.0);
}

#[test]
fn an_error_rate_over_its_limit_ends_the_fault() {
    let fleet = fleet();
    let (code, events, stderr) = finish(fleet.failover(&format!("{CHECK} --secs 60 --max-error-pct 5")));
    let last = result(&events);
    assert_eq!(code, 1, "{stderr}");
    assert!(last["safety"]["why"][0].as_str().unwrap().contains("--max-error-pct"), "{last:#}");
    assert!(is_well(&fleet));
}

#[test]
fn a_baseline_that_is_not_clean_is_refused() {
    let fleet = fleet();
    let nowhere = address();
    let args = format!("{CHECK} --secs 60 --resolve {nowhere}");
    let (code, events, stderr) = finish(fleet.failover(&args));
    assert_eq!((code, events.last().unwrap()["event"].as_str()), (4, Some("error")), "{stderr}");
    assert!(stderr.contains("the baseline is not clean") && stderr.contains("refused"), "{stderr}");
    assert!(is_well(&fleet) && !fleet.place.join("log/faults.jsonl").exists());
    // The last --url counts: a path that isn't there.
    let conf = fleet.nginx[0].conf.to_string_lossy().into_owned();
    let wrong = format!("http://{}:9/", fleet.alb.addrs()[0].ip());
    let args = [
        "drill",
        "failover",
        "--url",
        &wrong,
        "--conf",
        &conf,
        "--baseline",
        "1s",
        "--expect-instance",
        OURS,
    ];
    let (code, _, stderr) = finish(agent::command(&fleet.place, &args));
    assert!(code == 4 && stderr.contains("requests failed"), "{stderr}");
}

#[test]
fn what_cannot_be_measured_is_said_before_anything_is_touched() {
    let place = Place::new().unwrap();
    let observe = |url: &str| {
        finish(agent::command(&place, &["drill", "failover", "--observe", "--secs", "1", "--url", url]))
    };
    for url in ["ftp://a/", "alb", "http://"] {
        assert_eq!(observe(url).0, 2, "{url}");
    }
    let (code, _, stderr) = observe("http://no-such-name.invalid/");
    assert!(code == 3 && stderr.contains("cannot resolve no-such-name.invalid"), "{stderr}");
    let (code, _, stderr) = finish(agent::command(
        &place,
        &[
            "drill",
            "failover",
            "--observe",
            "--url",
            "http://127.0.0.1/",
            "--report",
            "/no/such/folder/a.html",
        ],
    ));
    assert!(code == 2 && stderr.contains("--report"), "{stderr}");
}
