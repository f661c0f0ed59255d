//! nginx stopped, hung, answering 500, absent, leading back to the agent; faults on record; too many probes.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::agent::configure;
use world::daemon::Daemon;
use world::http;
use world::nginx::Nginx;
use world::place::{Place, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn beside(nginx: &Nginx) -> String {
    format!("--nginx-url=http://{}/", nginx.addr)
}

#[test]
fn a_stopped_nginx_is_noticed_and_its_return_too() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
    let daemon = Daemon::start(&place, &[&beside(&nginx)]).unwrap();
    daemon.wait_for(200, SOON).unwrap();
    assert_eq!(daemon.status().unwrap()["nginx"]["up"], true);
    nginx.stop().unwrap();
    daemon.wait_for(503, SOON).unwrap();
    assert_eq!(daemon.metric("asg_agent_nginx_up").unwrap(), 0.0);
    assert_eq!(daemon.check("nginx").unwrap()["status"], "fail");
    nginx.boot().unwrap();
    daemon.wait_for(200, SOON).unwrap();
}

#[test]
fn a_hung_nginx_is_noticed_while_answers_stay_prompt() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
    let daemon = Daemon::start(&place, &[&beside(&nginx)]).unwrap();
    daemon.wait_for(200, SOON).unwrap();
    let processes = [vec![nginx.master().unwrap()], nginx.workers()].concat();
    let all = |signal: Signal| processes.iter().for_each(|pid| kill(Pid::from_raw(*pid), signal).unwrap());
    all(Signal::SIGSTOP);
    daemon.wait_for(503, SOON).unwrap();
    assert!(daemon.check("nginx").unwrap()["detail"].as_str().unwrap().contains("no answer within 700 ms"));
    all(Signal::SIGCONT);
    daemon.wait_for(200, SOON).unwrap();
}

#[test]
fn a_server_error_fails_and_a_client_error_passes() {
    let place = Place::new().unwrap();
    let server = "location / { return 404; } location /broken { return 500; }";
    let nginx = Nginx::start(&place, "", server).unwrap();
    let daemon = Daemon::start(&place, &[&format!("{}broken", beside(&nginx))]).unwrap();
    assert_eq!(daemon.health().unwrap().status, 503);
    assert!(daemon.check("nginx").unwrap()["detail"].as_str().unwrap().ends_with("answered 500"));
    drop(daemon);
    let daemon = Daemon::start(&place, &[&beside(&nginx)]).unwrap();
    assert_eq!(daemon.health().unwrap().status, 200);
}

#[test]
fn without_an_nginx_it_serves_and_says_so_unless_one_is_required() {
    let place = Place::new().unwrap();
    let nowhere = place.join("none.conf");
    fs::write(&nowhere, format!("http {{ server {{ listen {}:80; }} }}", place.ip)).unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    assert_eq!(
        (daemon.health().unwrap().status, &daemon.check("nginx").unwrap()["status"]),
        (200, &"absent".into())
    );
    drop(daemon);
    // A configuration that names an address is an nginx that must answer.
    configure(&place, &format!("[nginx]\nconf = {nowhere:?}\n")).unwrap();
    let daemon = Daemon::start(&place, &[]).unwrap();
    assert_eq!(
        (daemon.health().unwrap().status, &daemon.check("nginx").unwrap()["status"]),
        (503, &"fail".into())
    );
    drop(daemon);
    let daemon = Daemon::start(&place, &["--require-nginx"]).unwrap();
    assert_eq!(daemon.health().unwrap().status, 503);
}

#[test]
fn the_address_is_found_in_the_configuration() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
    configure(&place, &format!("[nginx]\nconf = {:?}\n", nginx.conf)).unwrap();
    let daemon = Daemon::start(&place, &[]).unwrap();
    assert_eq!(daemon.health().unwrap().status, 200);
    assert_eq!(daemon.status().unwrap()["nginx"]["url"], format!("http://{}/", place.ip));
}

#[test]
fn a_check_that_leads_back_through_nginx_does_not_feed_on_itself() {
    let place = Place::new().unwrap();
    let server = format!("location / {{ proxy_pass http://{}:8080; }}", place.ip);
    let nginx = Nginx::start(&place, "", &server).unwrap();
    let url = format!("{}health", beside(&nginx));
    let daemon = Daemon::start(&place, &[&url]).unwrap();
    daemon.wait_for(200, SOON).unwrap();
    assert!(daemon.check("nginx").unwrap()["detail"].as_str().unwrap().contains("answered 204"));
    let through = http::get(nginx.addr, "/health", SOON).unwrap();
    assert_eq!(through.status, 200);
    nginx.stop().unwrap();
    daemon.wait_for(503, SOON).unwrap();
    nginx.boot().unwrap();
    daemon.wait_for(200, SOON).unwrap();
}

#[test]
fn a_thousand_concurrent_probes_run_no_extra_check() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
    let daemon = Daemon::start(&place, &[&beside(&nginx)]).unwrap();
    daemon.wait_for(200, SOON).unwrap();
    let checks = || fs::read_to_string(nginx.access_log()).unwrap().matches("(nginx check)").count();
    let (before, start) = (checks(), std::time::Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(daemon.health().unwrap().status, 200)));
        }
    });
    // One check a second is due while all is well, and four while an answer is awaited.
    let due = 4 * (start.elapsed().as_secs() as usize + 1);
    assert!(checks() - before <= due, "{} checks in {:?}", checks() - before, start.elapsed());
}

/// So rare that no check is due while a test lasts.
const RARELY: &str = "[health]\ninterval = \"60s\"\nstale = \"90s\"\n";

fn kill_all(nginx: &Nginx) {
    let processes = [vec![nginx.master().unwrap()], nginx.workers()].concat();
    processes.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap());
}

#[test]
fn a_dead_nginx_is_noticed_before_the_next_check_is_due() {
    let place = Place::new().unwrap();
    configure(&place, RARELY).unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
    let daemon = Daemon::start(&place, &[&beside(&nginx)]).unwrap();
    // The first check and the second one, which finds all well, are over.
    let kept = || fs::read_to_string(nginx.access_log()).unwrap().matches("(nginx check)").count() >= 2;
    assert!(daemon.health().unwrap().status == 200 && wait_until(SOON, kept));
    kill_all(&nginx);
    daemon.wait_for(503, SOON).unwrap();
}

#[test]
fn where_nginx_keeps_no_connection_it_is_asked_more_often() {
    let place = Place::new().unwrap();
    configure(&place, RARELY).unwrap();
    let nginx = Nginx::start(&place, "keepalive_timeout 0;", "location / { return 200; }").unwrap();
    let daemon = Daemon::start(&place, &[&beside(&nginx)]).unwrap();
    daemon.wait_for(200, SOON).unwrap();
    kill_all(&nginx);
    daemon.wait_for(503, SOON).unwrap();
}

#[test]
fn checks_share_a_connection_and_try_a_new_one_now_and_then() {
    let place = Place::new().unwrap();
    configure(&place, "[health]\ninterval = \"100ms\"\n").unwrap();
    let format = "log_format c '$connection $connection_requests $request_method $http_user_agent';";
    let server = format!("access_log {}/c.log c; location / {{ return 200; }}", place.path().display());
    let nginx = Nginx::start(&place, format, &server).unwrap();
    let _daemon = Daemon::start(&place, &[&beside(&nginx)]).unwrap();
    let connections = || -> Vec<(String, u32)> {
        let log = fs::read_to_string(place.join("c.log")).unwrap();
        let checks = log.lines().filter(|line| line.contains("HEAD asg-agent/"));
        let fields = checks.map(|line| line.split(' ').collect::<Vec<_>>());
        fields.map(|f| (f[0].to_owned(), f[1].parse().unwrap())).collect()
    };
    assert!(wait_until(SOON, || connections().iter().any(|(_, requests)| *requests >= 10)));
    let first = connections()[0].0.clone();
    let another = || connections().iter().any(|(c, requests)| *c != first && *requests >= 2);
    assert!(wait_until(Duration::from_secs(40), another));
}

/// A record as root writes it, for the faults that only `/health` shows.
fn record(place: &Place, mode: &str, extra: &str) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let up: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    let deadline = ((up + 3.0) * 1e3) as u64;
    fs::create_dir_all(place.join("state")).unwrap();
    let text = format!(
        "{{\"mode\":\"{mode}\",\"boot_id\":\"{}\",\"deadline_boottime_ms\":{deadline}{extra}}}",
        boot.trim()
    );
    fs::write(place.join("state/new"), text).unwrap();
    fs::rename(place.join("state/new"), place.join("state/fault.json")).unwrap();
}

#[test]
fn a_fault_on_record_shows_until_its_deadline_though_nobody_removes_it() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    assert_eq!(daemon.health().unwrap().status, 200);
    record(&place, "unhealthy", "");
    daemon.wait_for(503, SOON).unwrap();
    assert_eq!(daemon.status().unwrap()["fault"]["mode"], "unhealthy");
    daemon.wait_for(200, SOON).unwrap();
    let fault = daemon.status().unwrap()["fault"].clone();
    assert!(fault["overdue"] == true && fault["mode"] == "unhealthy", "{fault}");
}

#[test]
fn a_slow_fault_delays_every_answer_and_ends_by_itself() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    record(&place, "slow", ",\"delay_ms\":400");
    let slow = || daemon.health().unwrap().took >= Duration::from_millis(400);
    assert!(wait_until(SOON, slow), "never slow");
    let fast = || daemon.health().unwrap().took < Duration::from_millis(300);
    assert!(wait_until(SOON, fast), "slow past the deadline");
}

#[test]
fn a_record_that_cannot_be_read_is_told_and_changes_nothing() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    fs::create_dir_all(place.join("state")).unwrap();
    fs::write(place.join("state/fault.json"), "{\"mode\":").unwrap();
    let told = || daemon.check("fault").unwrap()["status"] == "warn";
    assert!(wait_until(SOON, told));
    assert_eq!(daemon.health().unwrap().status, 200);
}
