//! How `agent stress` yields, and what it is allowed: the idle cgroup, a quota, a cpuset, judged in real cgroups.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use world::agent::{Running, command, configure, events, run};
use world::imds::Imds;
use world::place::{Place, wait_until};

use super::stress::SOON;

/// The folder of the CPU controller's hierarchy in version 1, where it can be written and knows `cpu.idle`.
fn cpu_v1() -> Option<&'static Path> {
    let top = Path::new("/sys/fs/cgroup/cpu");
    (top.join("cpu.idle").exists() && nix::unistd::geteuid().is_root()).then_some(top)
}

fn idle_group(top: &Path) -> std::path::PathBuf {
    top.join("asg-agent-stress")
}

/// The idle cgroup has one name for all runs, so the tests about it take turns.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn the_workers_are_in_an_idle_cgroup_and_the_main_thread_is_not() {
    let Some(top) = cpu_v1() else { return };
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let place = Place::new().unwrap();
    let stress =
        Running::start(&place, &["stress", "--json", "--cpu", "2", "--secs", "60", "--load", "5"]).unwrap();
    let started = stress.event("started", SOON).unwrap();
    assert_eq!(started["manners"], "yielding to everything else (idle cgroup)");
    let group = |tid: &str| {
        let text = fs::read_to_string(format!("/proc/{}/task/{tid}/cgroup", stress.pid())).unwrap();
        text.lines().find(|l| l.contains(":cpu:")).unwrap().rsplit(':').next().unwrap().to_owned()
    };
    let pid = stress.pid().to_string();
    let tids = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    for tid in tids.flatten().map(|t| t.file_name().to_string_lossy().into_owned()) {
        let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).unwrap();
        let worker = name.trim() == "stress";
        assert_eq!(group(&tid).ends_with("/asg-agent-stress"), worker, "thread {tid} ({name}) of {pid}");
    }
    assert_eq!(fs::read_to_string(idle_group(top).join("cpu.idle")).unwrap().trim(), "1");
    stress.end(Signal::SIGTERM).unwrap();
    // Another test's run may still be in it: then it's that one's to remove.
    assert!(wait_until(SOON, || !idle_group(top).exists()), "the cgroup is left behind");
}

#[test]
fn what_a_kill_leaves_of_the_cgroup_the_next_run_removes() {
    let Some(top) = cpu_v1() else { return };
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let place = Place::new().unwrap();
    let stress =
        Running::start(&place, &["stress", "--json", "--cpu", "1", "--secs", "60", "--load", "5"]).unwrap();
    stress.event("started", SOON).unwrap();
    stress.end(Signal::SIGKILL).unwrap();
    run(&place, &["stress", "--cpu", "1", "--secs", "200ms", "--load", "5"]).unwrap();
    assert!(wait_until(SOON, || !idle_group(top).exists()), "the cgroup is left behind");
}

#[test]
fn a_noisy_neighbour_stays_where_it_is() {
    let place = Place::new().unwrap();
    let args = ["stress", "--json", "--cpu", "1", "--secs", "60", "--load", "5", "--priority", "normal"];
    let stress = Running::start(&place, &args).unwrap();
    let started = stress.event("started", SOON).unwrap();
    assert!(started["manners"].as_str().unwrap().starts_with("competing"));
    let tids = fs::read_dir(format!("/proc/{}/task", stress.pid())).unwrap();
    for task in tids.flatten() {
        assert!(!world::agent::file_contains(&task.path().join("cgroup"), "asg-agent-stress"));
    }
    stress.end(Signal::SIGTERM).unwrap();
}

/// A cgroup of version 1 with a quota; removed when dropped.
struct Quota(std::path::PathBuf);

impl Quota {
    fn of(top: &Path, name: &str, cpus: f64) -> Self {
        let folder = top.join(format!("asg-agent-test-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("cpu.cfs_quota_us"), format!("{:.0}", cpus * 100_000.0)).unwrap();
        Self(folder)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        assert!(wait_until(SOON, || fs::remove_dir(&self.0).is_ok()) || std::thread::panicking());
    }
}

#[test]
fn a_quota_is_kept_told_and_the_reason_for_a_load_that_is_not_reached() {
    let Some(top) = cpu_v1() else { return };
    let place = Place::new().unwrap();
    let quota = Quota::of(top, "quota", 0.05);
    let agent = world::agent::binary();
    let line = format!(
        "echo $$ > {0}/cgroup.procs; {1} stress -n; \
         exec {1} stress --json --cpu all --load 80 --secs 2500ms --priority normal",
        quota.0.display(),
        agent.display()
    );
    let mut shell = Command::new("sh");
    let environment = command(&place, &[]);
    shell.args(["-c", &line]).env_clear();
    shell.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    let all = events(&output.stdout);
    let text = String::from_utf8_lossy(&output.stdout);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (started, summary) = (&all[0], all.last().unwrap());
    assert_eq!(started["workers"], 1, "no more than the quota can feed: {started}");
    assert!(started["notices"].to_string().contains("A cgroup quota allows 0.05 of"), "{started}");
    assert!(text.contains("yielding only inside its quota group of 0.05 CPUs"), "{text}");
    assert_eq!(output.status.code(), Some(1), "{summary}");
    assert!(
        summary["reason"].as_str().unwrap().starts_with("a cgroup quota stopped the workers"),
        "{summary}"
    );
    assert!(summary["achieved_load_pct"].as_f64().unwrap() < 20.0, "it never left the quota: {summary}");
}

#[test]
fn all_means_the_cpus_that_are_allowed() {
    let place = Place::new().unwrap();
    let mut taskset = Command::new("taskset");
    taskset.args(["-c", "0"]).arg(world::agent::binary());
    taskset.args(["stress", "--json", "--cpu", "all", "--secs", "300ms", "--load", "5"]);
    taskset.envs(command(&place, &[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    let summary = events(&taskset.output().unwrap().stdout).pop().unwrap();
    assert_eq!(summary["workers"], 1, "{summary}");
}

/// One vCPU of a burstable instance without credits, as its `/proc/stat` tells it: a tenth of it is left.
fn spent(stat: &Path, since: Instant) {
    let ticks = since.elapsed().as_millis() / 10;
    let fields = format!("{:010} 0 0 {:010} 0 0 0 {:010} 0 0", ticks / 10, 0, ticks * 9 / 10);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(stat).unwrap();
    // In place and always as long, so that no reader finds half of it.
    file.write_all_at(format!("cpu  {fields}\ncpu0 {fields}\n").as_bytes(), 0).unwrap();
}

#[test]
fn spent_credits_are_told_once_with_the_instances_type() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new().unwrap();
    let imds = Imds::start(place.ip, "i-1", "eu-central-1a").unwrap();
    imds.set("instance-type", Some("t3.micro"));
    configure(&place, &format!("[identity]\nendpoint = \"{}\"\n", imds.endpoint())).unwrap();
    let (stat, start) = (place.join("stat"), Instant::now());
    spent(&stat, start);
    // Not in the idle cgroup, which other tests see removed.
    let args = "stress --json --cpu 1 --load 5 --secs 36 --priority normal";
    let inner = command(&place, &args.split(' ').collect::<Vec<_>>());
    let mut outer = Command::new("unshare");
    let behind = format!("mount --bind {} /proc/stat; exec \"$@\"", stat.display());
    outer.args(["--mount", "sh", "-ec", &behind, "sh"]).arg(inner.get_program()).args(inner.get_args());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut stress = Running::spawn(&place, outer).unwrap();
    let mut told = Vec::new();
    loop {
        match stress.line(Duration::from_millis(100)) {
            Ok(Some(line)) => told.push(line),
            Ok(None) => break,
            Err(quiet) => assert!(start.elapsed() < Duration::from_secs(90), "{quiet}"),
        }
        spent(&stat, start);
    }
    let code = stress.wait(SOON).unwrap().code();
    let events = events(told.join("\n").as_bytes());
    let hints: Vec<_> = events.iter().filter(|event| event["event"] == "hint").collect();
    assert_eq!(hints.len(), 1, "{told:?}");
    let hint = hints[0]["message"].as_str().unwrap();
    assert!(
        hint.contains("90 % of the CPU time")
            && hint.contains("this t3.micro")
            && hint.contains("10 % of each")
    );
    let summary = events.last().unwrap();
    let steal = summary["host_steal_pct"].as_f64().unwrap();
    assert!((85.0..95.0).contains(&steal), "{summary}");
    assert_eq!(code, Some(if summary["reached"] == true { 0 } else { 1 }));
}
