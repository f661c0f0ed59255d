//! The end of `agent stress` holds, whoever reads what it writes, and an alarm is told once and for all: terminals that
//! are stopped, pipes that nobody reads, profiles that never come, little memory, a process that was stopped.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::agent::{Running, command, events, run};
use world::place::{Place, wait_until};

use super::stress::{SOON, cpu_secs};

/// The agent on a terminal of its own, whose keys are pressed by writing to the child's stdin.
fn on_a_terminal(place: &Place, args: &str, columns: u32, variables: &[(&str, &str)]) -> Child {
    let mut script = Command::new("script");
    let agent = world::agent::binary();
    let line = format!("stty cols {columns} rows 24; exec {} stress {args}", agent.display());
    script.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(place.path());
    script.env_clear().envs(command(place, &[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.env("TERM", "xterm").envs(variables.iter().copied());
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The agent that `script` runs, once it burns.
fn burning(script: &Child) -> i32 {
    let child = || {
        let path = format!("/proc/{0}/task/{0}/children", script.id());
        fs::read_to_string(path).ok()?.split_ascii_whitespace().next()?.parse::<i32>().ok()
    };
    assert!(wait_until(2 * SOON, || child().is_some_and(|pid| cpu_secs(pid) > 0.02)));
    child().unwrap()
}

fn ends_soon(child: &mut Child) -> Option<i32> {
    let mut status = None;
    let ended = wait_until(SOON, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
    }
    status.expect("it goes on").code()
}

#[test]
fn a_terminal_that_is_stopped_keeps_neither_the_deadline_nor_a_signal() {
    let place = Place::new().unwrap();
    for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGHUP)] {
        let secs = if signal.is_some() { 60 } else { 2 };
        let args = format!("--cpu 1 --load 20 --priority normal --secs {secs}");
        let mut script = on_a_terminal(&place, &args, 80, &[]);
        let agent = burning(&script);
        // Ctrl-S.
        script.stdin.as_ref().unwrap().write_all(b"\x13").unwrap();
        if let Some(signal) = signal {
            kill(Pid::from_raw(agent), signal).unwrap();
        }
        assert!(
            wait_until(SOON, || !fs::exists(format!("/proc/{agent}/exe")).unwrap_or(false)),
            "{signal:?}"
        );
        drop(script.stdin.take());
        let code = ends_soon(&mut script).unwrap();
        assert!(signal.map_or(code <= 1, |signal| code == 128 + signal as i32), "{signal:?}: {code}");
    }
}

#[test]
fn a_pipe_that_nobody_reads_keeps_neither_the_deadline_nor_a_signal() {
    let place = Place::new().unwrap();
    for (secs, signal) in [("1", None), ("60", Some(Signal::SIGINT))] {
        let (_unread, mut full) = std::io::pipe().unwrap();
        full.write_all(&[b'x'; 65_536]).unwrap();
        let mut stress = command(&place, &["stress", "--json", "--cpu", "1", "--load", "20", "--secs", secs]);
        stress.stdout(full.try_clone().unwrap()).stderr(full);
        let mut stress = stress.spawn().unwrap();
        let pid = stress.id().cast_signed();
        assert!(wait_until(2 * SOON, || cpu_secs(pid) > 0.01));
        if let Some(signal) = signal {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
        let code = ends_soon(&mut stress).unwrap();
        assert!(signal.map_or(code <= 1, |signal| code == 128 + signal as i32), "{code}");
    }
}

#[test]
fn a_profile_that_never_comes_is_waited_for_until_a_signal() {
    let place = Place::new().unwrap();
    let fifo = place.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (from, signal) in [(fifo.to_str().unwrap(), Signal::SIGTERM), ("-", Signal::SIGINT)] {
        let (unwritten, _writer) = std::io::pipe().unwrap();
        let mut stress = command(&place, &["stress", "--profile", from]);
        let mut stress = stress.stdin(unwritten).stderr(Stdio::null()).spawn().unwrap();
        let pid = stress.id();
        // Until the thread that reads is there.
        assert!(wait_until(SOON, || fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() == 2));
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
        assert_eq!(ends_soon(&mut stress), Some(128 + signal as i32), "{from}");
    }
}

#[test]
fn a_profile_is_refused_with_its_line_and_never_cut() {
    let place = Place::new().unwrap();
    let profile = place.join("profile");
    for (text, says) in [
        ("\u{feff}0 10\n5 x\n".to_owned(), "line 2: \"x\""),
        ("1e-12 50\n".to_owned(), "line 1: \"1e-12\""),
        ("0 10\n0 50\n\n".to_owned(), "line 2: the profile ends where it starts"),
        (String::new(), "line 1: no line of"),
        (format!("0 10\n60 20\n{}", "# \n".repeat(2 << 20)), "it has more than 4 MiB"),
    ] {
        fs::write(&profile, text).unwrap();
        let output = run(&place, &["stress", "--profile", profile.to_str().unwrap()]).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says) && stderr.lines().count() == 1, "{says}: {stderr}");
    }
}

#[test]
fn little_memory_and_few_threads_are_an_error_and_no_panic() {
    let place = Place::new().unwrap();
    let agent = world::agent::binary();
    for kib in [60_000, 100_000, 150_000, 300_000] {
        let mut shell = Command::new("sh");
        let line = format!("ulimit -v {kib}; exec {} stress --cpu 4096 --secs 1", agent.display());
        shell.args(["-c", &line]).env_clear();
        shell.envs(command(&place, &[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = shell.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // Far too little, and the program itself doesn't start.
        if output.status.code() != Some(127) {
            assert_eq!(output.status.code(), Some(3), "{kib}: {stderr}");
            assert!(
                stderr.starts_with("agent: cannot start 4096 workers") && stderr.lines().count() == 1,
                "{stderr}"
            );
        }
    }
}

#[test]
fn a_process_that_was_stopped_blames_nobody_else() {
    let place = Place::new().unwrap();
    let args = ["stress", "--json", "--cpu", "1", "--load", "90", "--secs", "4", "--priority", "normal"];
    let mut stress = Running::start(&place, &args).unwrap();
    stress.event("started", SOON).unwrap();
    stress.signal(Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    assert!(wait_until(SOON, || stopped.elapsed() > Duration::from_millis(2500)));
    stress.signal(Signal::SIGCONT).unwrap();
    let summary = stress.event("summary", SOON).unwrap();
    assert!(summary["stopped_secs"].as_f64().unwrap() > 1.4, "{summary}");
    assert!(summary["reason"].as_str().unwrap().contains("the process was stopped for"), "{summary}");
    assert_eq!(stress.wait(SOON).unwrap().code(), Some(1));
}

#[test]
fn what_a_kill_left_inside_somebodys_quota_group_the_next_verb_removes() {
    let top = Path::new("/sys/fs/cgroup/cpu");
    if !top.join("cpu.idle").exists() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new().unwrap();
    let group = top.join(format!("asg-agent-test-left-{}", std::process::id()));
    fs::create_dir(&group).unwrap();
    fs::write(group.join("cpu.cfs_quota_us"), "30000").unwrap();
    let mut shell = Command::new("sh");
    let agent = world::agent::binary();
    let line = format!(
        "echo $$ > {}/cgroup.procs; exec {} stress --json --secs 60",
        group.display(),
        agent.display()
    );
    shell.args(["-c", &line]).env_clear();
    shell.envs(command(&place, &[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    let stress = Running::spawn(&place, shell).unwrap();
    stress.event("started", SOON).unwrap();
    assert!(group.join("asg-agent-stress").exists());
    stress.end(Signal::SIGKILL).unwrap();
    let removed = wait_until(SOON, || {
        run(&place, &["status"]).unwrap();
        !group.join("asg-agent-stress").exists()
    });
    assert!(removed, "it is left in their group");
    fs::remove_dir(&group).unwrap();
}

#[test]
fn an_inherited_policy_is_not_kept_where_normal_is_asked_for() {
    let place = Place::new().unwrap();
    let mut chrt = Command::new("chrt");
    let inner = command(
        &place,
        &["stress", "--json", "--cpu", "1", "--load", "5", "--secs", "60", "--priority", "normal"],
    );
    chrt.args(["-i", "0"]).arg(inner.get_program()).args(inner.get_args()).env_clear();
    chrt.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let stress = Running::spawn(&place, chrt).unwrap();
    let started = stress.event("started", SOON).unwrap();
    let idle = |tid: &str| {
        let stat = fs::read_to_string(format!("/proc/{}/task/{tid}/stat", stress.pid())).unwrap();
        // Field 41 of proc_pid_stat(5), the 39th after the name.
        stat.rsplit(')').next().unwrap().split_ascii_whitespace().nth(38) == Some("5")
    };
    let tasks = fs::read_dir(format!("/proc/{}/task", stress.pid())).unwrap();
    let any = tasks.flatten().any(|task| idle(&task.file_name().to_string_lossy()));
    let said = started["manners"].as_str().unwrap();
    assert!(!any || said.contains("SCHED_IDLE was inherited"), "{said}");
    stress.end(Signal::SIGTERM).unwrap();
}

#[test]
fn one_row_is_redrawn_whatever_the_terminal_is_like() {
    let place = Place::new().unwrap();
    let drawn = |columns: u32, variables: &[(&str, &str)], more: &str| {
        let args = format!("--cpu 1 --load 5 --secs 2 --alarm 30 {more}");
        let mut script = on_a_terminal(&place, &args, columns, variables);
        let mut text = String::new();
        script.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        ends_soon(&mut script);
        text
    };
    for columns in [20, 33, 80] {
        let text = drawn(columns, &[("LANG", "C.UTF-8")], "");
        let rows: Vec<&str> =
            text.split("\r\x1b[K").skip(1).filter_map(|row| row.split("\r\n").next()).collect();
        let progress = rows.iter().filter(|row| row.contains("host")).count();
        assert!(progress >= 1, "{columns}: {text}");
        assert!(rows.iter().all(|row| row.chars().count() <= columns as usize), "{columns}: {rows:?}");
    }
    assert!(!drawn(80, &[("TERM", "dumb")], "").contains('\x1b'));
    assert!(drawn(80, &[("LC_ALL", "C")], "").split("CloudWatch").next().unwrap().is_ascii());
    let json = drawn(80, &[], "--json");
    assert!(!json.contains('\x1b') && events(json.replace("\r\n", "\n").as_bytes()).len() >= 2, "{json}");
}

#[test]
fn everything_is_explained_without_a_run() {
    let place = Place::new().unwrap();
    let args = ["--alarm", "30", "--secs", "10m"];
    for flag in ["--explain", "--dry-run", "-n"] {
        let output = run(&place, &[&["stress", "--json", flag][..], &args].concat()).unwrap();
        let explained = events(&output.stdout).pop().unwrap();
        assert_eq!(
            (output.status.code(), &explained["event"]),
            (Some(0), &"explained".into()),
            "{explained}"
        );
        assert_eq!(explained["forecast"]["verdict"], "certain", "{explained}");
    }
    let output = run(&place, &[&["stress", "-n", "--warmup", "24h"][..], &args].concat()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["still be warming up", "0.7 x", "cpuset"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn it_burns_until_the_alarm_is_certain_and_not_at_all_where_it_cannot_be() {
    let place = Place::new().unwrap();
    let hopeless = run(&place, &["stress", "--json", "--until-alarm", "60", "--fleet", "1"]).unwrap();
    let forecast = events(&hopeless.stdout).pop().unwrap();
    assert_eq!((hopeless.status.code(), &forecast["reason"]), (Some(1), &"needs_more_than_one_host".into()));
    let args = "stress --json --until-alarm 30 --alarm-period 10s --hold 0s --secs 90";
    let mut stress = Running::start(&place, &args.split(' ').collect::<Vec<_>>()).unwrap();
    let summary = stress.event("summary", Duration::from_secs(100)).unwrap();
    assert_eq!(
        (&summary["alarm"]["verdict"], &summary["reached"]),
        (&"certain".into(), &true.into()),
        "{summary}"
    );
    assert_eq!(summary["ended_by_alarm"], true, "{summary}");
    assert_eq!(stress.wait(SOON).unwrap().code(), Some(0));
}

#[test]
fn called_as_stress_it_is_stress() {
    let place = Place::new().unwrap();
    let as_stress = |args: &[&str]| {
        let mut stress = command(&place, args);
        stress.arg0("/usr/bin/stress").output().unwrap()
    };
    let output = as_stress(&["-c", "2", "-v", "-t", "1s"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("2 workers at 100 % of a CPU each for 1s"), "{stderr}");
    let dry = as_stress(&["-n", "-c", "1"]);
    assert!(String::from_utf8_lossy(&dry.stdout).contains("until interrupted"), "{dry:?}");
    assert_eq!(as_stress(&["-c", "1", "--vm", "2"]).status.code(), Some(2));
    assert!(as_stress(&["--version"]).status.success());
    assert_eq!(as_stress(&["-q", "-c", "1", "-t", "1"]).stderr, b"");
}
