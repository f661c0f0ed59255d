//! `agent stress`, judged by the kernel's own accounting: `/proc/PID/schedstat` counts a task's CPU time to the
//! nanosecond. Never by what the agent says of itself. How exact the load is belongs to the bench.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use world::agent::{Running, command, events, run};
use world::daemon::Daemon;
use world::place::{Place, wait_until};

pub(super) const SOON: Duration = Duration::from_secs(10);

/// CPU seconds of all threads of a process.
pub(super) fn cpu_secs(pid: i32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let ns = |task: fs::DirEntry| -> Option<f64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(ns).sum::<f64>() / 1e9
}

fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Starts a stress and waits until its workers burn. Idle ones get little beside others, and late.
fn burning(place: &Place, args: &[&str]) -> Running {
    let stress = Running::start(place, &[&["stress", "--json"], args].concat()).unwrap();
    stress.event("started", SOON).unwrap();
    let before = cpu_secs(stress.pid());
    let burns = || cpu_secs(stress.pid()) > before + 0.005;
    assert!(wait_until(2 * SOON, burns), "never burned: {}", stress.stderr());
    stress
}

fn summary(stress: &Running) -> Value {
    stress.event("summary", SOON).unwrap()
}

/// The share of one CPU that a process uses, over `secs`.
fn share(pid: i32, secs: f64) -> f64 {
    let (start, before) = (Instant::now(), cpu_secs(pid));
    std::thread::sleep(Duration::from_secs_f64(secs));
    (cpu_secs(pid) - before) / start.elapsed().as_secs_f64()
}

#[test]
fn the_tutorials_command_burns_until_its_deadline_and_sums_up() {
    let place = Place::new().unwrap();
    let mut stress = burning(&place, &["--cpu", "1", "--timeout", "1500ms", "--priority", "normal"]);
    assert_eq!(threads(stress.pid()), 4, "one worker beside the main thread and two that write");
    let summary = summary(&stress);
    let code = stress.wait(SOON).unwrap().code();
    assert_eq!(code, Some(if summary["reached"] == true { 0 } else { 1 }), "{summary}");
    for key in ["requested_load_pct", "achieved_load_pct", "host_busy_pct", "host_steal_pct"] {
        assert!(summary[key].as_f64().is_some_and(|pct| (0.0..=100.5).contains(&pct)), "{key}: {summary}");
    }
    assert_eq!((&summary["workers"], &summary["ended"]), (&1.into(), &"deadline".into()));
    // Not before; how much later is what the benchmark measures.
    assert!(summary["elapsed_ms"].as_i64().unwrap() >= 1500, "{summary}");
    let minute = &summary["minutes"][0];
    assert!(minute["start"].as_str().unwrap().ends_with(":00.000Z"), "{summary}");
    assert!(minute["busy_pct"].is_f64() && minute["steal_pct"].is_f64(), "{summary}");
}

#[test]
fn people_get_progress_on_stderr_and_the_summary_on_stdout() {
    let place = Place::new().unwrap();
    let output = run(&place, &["stress", "-c", "1", "-t", "1", "-l", "20"]).unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(stderr.starts_with("1 worker at 20 % of a CPU for 1s, yielding "), "{stderr}");
    assert!(stdout.contains("asked 20.0 %") && stdout.contains("What CloudWatch reads"), "{stdout}");
}

#[test]
fn each_signal_ends_it_at_once_with_its_code_and_the_summary() {
    let place = Place::new().unwrap();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut stress = burning(&place, &["--cpu", "2", "--secs", "60"]);
        stress.signal(signal).unwrap();
        // timeout(1) sends it twice: to its child, and to the group.
        let _ = stress.signal(signal);
        assert_eq!(summary(&stress)["ended"], "signal");
        assert_eq!(stress.wait(SOON).unwrap().code(), Some(code));
    }
}

/// Whether it ended by SIGTERM, by its own exit or before it could block the signal.
fn is_terminated(status: std::process::ExitStatus) -> bool {
    status.code() == Some(143) || std::os::unix::process::ExitStatusExt::signal(&status) == Some(15)
}

#[test]
fn a_signal_in_the_first_moments_ends_it_too() {
    let place = Place::new().unwrap();
    for delay_us in [0, 300, 1000, 3000, 10_000] {
        let stress = Running::start(&place, &["stress", "--cpu", "1", "--secs", "60"]).unwrap();
        std::thread::sleep(Duration::from_micros(delay_us));
        let status = stress.end(Signal::SIGTERM).unwrap();
        assert!(is_terminated(status), "{status:?}");
    }
}

#[test]
fn a_signal_while_a_target_or_a_ramp_is_held_or_at_the_deadline_ends_it_too() {
    let place = Place::new().unwrap();
    for args in [["--target", "30"], ["--ramp", "50s"], ["--cpu", "70"]] {
        let stress =
            Running::start(&place, &[&["stress", "--json", "--secs", "60"], &args[..]].concat()).unwrap();
        stress.event("started", SOON).unwrap();
        assert!(is_terminated(stress.end(Signal::SIGTERM).unwrap()));
    }
    for late_ms in [-3, -1, 0, 1, 3] {
        let mut stress =
            Running::start(&place, &["stress", "--json", "--secs", "100ms", "--load", "5"]).unwrap();
        stress.event("started", SOON).unwrap();
        std::thread::sleep(Duration::from_millis(100_u64.saturating_add_signed(late_ms)));
        let _ = stress.signal(Signal::SIGTERM);
        let status = stress.wait(SOON).unwrap();
        assert!(is_terminated(status) || matches!(status.code(), Some(0 | 1)), "{status:?}");
    }
}

#[test]
fn nohup_is_honoured() {
    let place = Place::new().unwrap();
    let agent = world::agent::binary();
    let command = command(&place, &[]);
    let mut nohup = std::process::Command::new("nohup");
    nohup.arg(agent).args(["stress", "--json", "--cpu", "1", "--load", "5", "--secs", "1500ms"]);
    nohup.env_clear().envs(command.get_envs().filter_map(|(k, v)| Some((k, v?)))).stdin(Stdio::null());
    let mut stress = Running::spawn(&place, nohup).unwrap();
    assert!(wait_until(SOON, || threads(stress.pid()) == 4));
    stress.signal(Signal::SIGHUP).unwrap();
    assert_eq!(summary(&stress)["ended"], "deadline");
    stress.wait(SOON).unwrap();
}

#[test]
fn a_kill_leaves_no_worker() {
    let place = Place::new().unwrap();
    let mut stress = burning(&place, &["--cpu", "4", "--secs", "60", "--priority", "normal"]);
    let pid = stress.pid();
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap(),
        "",
        "threads, no children"
    );
    stress.signal(Signal::SIGKILL).unwrap();
    stress.wait(SOON).unwrap();
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}

#[test]
fn zero_seconds_run_until_interrupted_and_a_second_run_beside_is_fine() {
    let place = Place::new().unwrap();
    let endless = burning(&place, &["--cpu", "1", "--secs", "0", "--load", "20"]);
    let beside = run(&place, &["stress", "--json", "--cpu", "1", "--load", "10", "--secs", "1"]).unwrap();
    assert_eq!(events(&beside.stdout).last().unwrap()["ended"], "deadline");
    assert_eq!(endless.end(Signal::SIGINT).unwrap().code(), Some(130));
}

#[test]
fn a_set_load_is_what_the_kernel_counts() {
    let place = Place::new().unwrap();
    let stress = burning(&place, &["--cpu", "1", "--load", "30", "--secs", "60", "--priority", "normal"]);
    let got = share(stress.pid(), 2.0);
    // Others on the machine can only take away from it.
    assert!(got < 0.36, "asked 0.30, the kernel counts {got:.3}");
    stress.end(Signal::SIGINT).unwrap();
}

#[test]
fn impossible_wishes_end_with_2_and_one_line() {
    let place = Place::new().unwrap();
    for (args, says) in [
        (&["--load", "50", "--target", "50"][..], "exclude each other"),
        (&["--load", "0"], "--load 0: a percentage above 0"),
        (&["--target", "101"], "--target 101: a percentage above 0"),
        (&["--cpu", "4097"], "--cpu 4097: from 1 to 4096"),
        (&["--cpu", "0"], "--cpu 0: from 1 to 4096"),
        (&["--secs", "25h"], "at most 24h"),
        (&["--secs", "1y"], "at most 24h"),
        (&["--of", "quota", "--target", "5"], "--of quota goes with"),
        (&["--fleet", "2"], "--fleet goes with --alarm"),
        (&["--cpu-load", "50"], "is --load here"),
        (&["--matrix", "1"], "stress-ng"),
        (&["--profile", "/nonexistent"], "cannot read the profile /nonexistent"),
        (&["--io", "4"], "--cpu, --secs, --load"),
        (&["--vm", "2", "--vm-bytes", "128M"], "--cpu, --secs, --load"),
        (&["-d", "1"], "--cpu, --secs, --load"),
    ] {
        let output = run(&place, &[&["stress"], args].concat()).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(says) && stderr.lines().count() == 1, "{args:?}: {stderr}");
    }
}

#[test]
fn a_profile_comes_from_stdin_and_a_bad_line_is_named_by_number() {
    let place = Place::new().unwrap();
    let feed = |text: &str| {
        let mut command = command(&place, &["stress", "--json", "--cpu", "1", "--profile", "-"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let bad = feed("0 10\n1 20\nnoon 30\n");
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("profile stdin: line 3: \"noon\""));
    let good = feed("0 0\n1 20\n");
    let summary = events(&good.stdout).pop().unwrap();
    let requested = summary["requested_load_pct"].as_f64().unwrap();
    assert!(
        (9.99..11.0).contains(&requested),
        "the mean from 0 to 20, and some more when the end came late: {summary}"
    );
}

#[test]
fn a_run_is_on_record_until_it_ends_however_it_ends() {
    let place = Place::new().unwrap();
    let folder = place.join("run/stress");
    let records = || {
        fs::read_dir(&folder).map_or(0, |all| {
            all.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "json")).count()
        })
    };
    let stress = Running::start(&place, &["stress", "--json", "--target", "5", "--secs", "50"]).unwrap();
    stress.event("started", SOON).unwrap();
    let text = fs::read_to_string(folder.join(format!("{}.json", stress.pid()))).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&record["pid"], &record["target_pct"]), (&stress.pid().into(), &5.0.into()));
    assert!(!record["who"].as_str().unwrap().is_empty());
    stress.end(Signal::SIGINT).unwrap();
    assert_eq!(records(), 0);
}

#[test]
fn a_target_that_others_exceed_gets_nothing_and_says_so() {
    let place = Place::new().unwrap();
    let cpus = std::thread::available_parallelism().unwrap().to_string();
    let _others = burning(&place, &["--cpu", &cpus, "--load", "60", "--secs", "60", "--priority", "normal"]);
    let mut held = Running::start(&place, &["stress", "--json", "--target", "10", "--secs", "2"]).unwrap();
    held.event("started", SOON).unwrap();
    assert!(wait_until(SOON, || cpu_secs(held.pid()) > 0.0));
    let got = share(held.pid(), 1.0);
    let summary = summary(&held);
    assert!(got < 0.1, "{got} of a CPU was added; {summary}");
    assert!(summary["note"].as_str().unwrap().contains("because of others"), "{summary}");
    assert_eq!(held.wait(SOON).unwrap().code(), Some(0));
    let plain = run(&place, &["stress", "--json", "--cpu", "1", "--secs", "2"]).unwrap();
    let summary = events(&plain.stdout).pop().unwrap();
    assert_eq!((plain.status.code(), &summary["host_reached"]), (Some(0), &true.into()), "{summary}");
    let exact = run(&place, &["stress", "--json", "--target", "10", "--exact", "--secs", "1"]).unwrap();
    let summary = events(&exact.stdout).pop().unwrap();
    assert_eq!(summary["reason"], "others kept the host above the target (--exact)");
    assert_eq!((exact.status.code(), &summary["host_reached"]), (Some(1), &true.into()));
}

#[test]
fn a_closed_terminal_ends_it() {
    let place = Place::new().unwrap();
    let mut script = std::process::Command::new("script");
    let line = format!(
        "exec {} stress --cpu 1 --secs 60 --load 20 --priority normal",
        world::agent::binary().display()
    );
    script.args(["-q", "-c", &line, "/dev/null"]).current_dir(place.path()).stdin(Stdio::null());
    script.envs(command(&place, &[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    let terminal = Running::spawn(&place, script).unwrap();
    let child = || {
        let path = format!("/proc/{0}/task/{0}/children", terminal.pid());
        fs::read_to_string(path).ok()?.split_ascii_whitespace().next()?.parse::<i32>().ok()
    };
    assert!(wait_until(SOON, || child().is_some_and(|pid| cpu_secs(pid) > 0.02)));
    let stress = child().unwrap();
    terminal.end(Signal::SIGKILL).unwrap();
    assert!(wait_until(SOON, || !fs::exists(format!("/proc/{stress}/exe")).unwrap_or(false)));
}

#[test]
fn the_alarm_is_forecast_before_the_run_and_decides_after_it() {
    let place = Place::new().unwrap();
    let args = ["stress", "--load", "5", "--secs", "300ms", "--alarm", "40", "--fleet", "2", "--json"];
    let output = run(&place, &args).unwrap();
    let all = events(&output.stdout);
    let forecast = &all[0]["forecast"];
    assert_eq!((&forecast["verdict"], &forecast["host_needs_pct"]), (&"impossible".into(), &120.0.into()));
    let notices = all[0]["notices"].to_string();
    assert!(notices.contains("this host alone can't lift") && !notices.contains("takes 3"), "{notices}");
    let alarm = &all.last().unwrap()["alarm"];
    assert_eq!((&alarm["host_needs_pct"], &alarm["fires"]), (&120.0.into(), &Value::Null));
    assert_eq!(output.status.code(), Some(1), "the alarm's verdict decides");
    let wrong = run(&place, &["stress", "--alarm", "0"]).unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn the_daemon_shows_a_running_stress_and_forgets_it_with_its_process() {
    let place = Place::new().unwrap();
    let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    assert_eq!(daemon.status().unwrap()["stress"], serde_json::json!([]));
    let stress = Running::start(
        &place,
        &["stress", "--json", "--target", "5", "--secs", "50", "--priority", "normal"],
    );
    let stress = stress.unwrap();
    stress.event("started", SOON).unwrap();
    let shown = &daemon.status().unwrap()["stress"][0];
    assert_eq!((&shown["pid"], &shown["target_pct"]), (&stress.pid().into(), &5.0.into()), "{shown}");
    assert!((1..=50_000).contains(&shown["remaining_ms"].as_i64().unwrap()), "{shown}");
    assert_eq!(daemon.metric("asg_agent_stress_active").unwrap(), 1.0);
    assert_eq!(daemon.metric("asg_agent_stress_target_ratio").unwrap(), 0.05);
    stress.end(Signal::SIGKILL).unwrap();
    assert_eq!(daemon.status().unwrap()["stress"], serde_json::json!([]));
    assert_eq!(daemon.metric("asg_agent_stress_active").unwrap(), 0.0);
}
