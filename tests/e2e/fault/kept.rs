//! nginx has afterwards what it had before, and nothing of whoever ran the fault.

use std::process::{Command, Stdio};

use world::place::wait_until;

use super::{LONG, World, finish};

/// Everything that the kernel says of nginx's master and that shouldn't change.
fn standing(world: &World) -> Vec<String> {
    let pid = world.nginx.master().unwrap();
    let read = |name: &str| {
        String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{name}")).unwrap()).into_owned()
    };
    let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap().display().to_string();
    let status = read("status");
    let kept = ["Umask", "Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Cpus_allowed_list"];
    let mut all: Vec<String> = status
        .lines()
        .filter(|line| kept.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    all.extend([16, 37, 38].map(|at| format!("stat {at}: {}", fields[at])));
    all.extend(["limits", "oom_score_adj", "cgroup"].map(read));
    all.push(read("cmdline").trim_end_matches('\0').to_owned());
    all.extend(["cwd", "exe", "fd/1", "fd/2"].map(link));
    all
}

fn start(world: &World, wrapper: &[&str], redirected: &str) {
    world.nginx.stop().unwrap();
    assert!(wait_until(LONG, || world.nginx.master().is_err()), "its pid file goes last");
    let conf = std::fs::read_to_string(&world.nginx.conf).unwrap();
    let conf = conf.replace("user root;", "").replace("error_log", "error_log stderr notice; #");
    std::fs::write(&world.nginx.conf, conf.replace("pid ", "\npid ").replace("; pid", ";\npid")).unwrap();
    let text = std::fs::read_to_string(&world.nginx.conf).unwrap();
    // What stood behind error_log in its line is kept.
    let text = text.replace("stderr notice; #", "stderr notice;\n#");
    std::fs::write(&world.nginx.conf, text).unwrap();
    let theirs = Command::new("chown").args(["-R", "65534:65534"]).arg(world.nginx.prefix()).status();
    assert!(theirs.unwrap().success());
    let line = format!(
        "umask 027; nginx -c {} -p {} {redirected}",
        world.nginx.conf.display(),
        world.nginx.prefix().display()
    );
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).args(["sh", "-c", &line]).current_dir(world.nginx.prefix());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(wait_until(LONG, || world.nginx.answers() && world.nginx.workers().len() == 2));
}

const NOBODY: [&str; 16] = [
    "choom",
    "-n",
    "123",
    "--",
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--groups=4",
    "--inh-caps=+net_bind_service",
    "--ambient-caps=+net_bind_service",
    "--bounding-set=-sys_time",
    "nice",
    "-n",
    "3",
    "taskset",
    "-c",
];

#[test]
fn what_it_had_from_who_started_it_it_has_again_and_nothing_of_who_brings_it_back() {
    let world = World::new();
    let log = world.place.join("stderr.log");
    let wrapper: Vec<&str> =
        NOBODY.into_iter().chain(["0", "prlimit", "--nofile=999:2000", "--core=0"]).collect();
    start(&world, &wrapper, &format!(">>{0} 2>>{0}", world.nginx.prefix().join("out").display()));
    drop(log);
    let before = standing(&world);
    assert!(before.iter().any(|l| l.starts_with("CapAmb") && l.ends_with("400")), "{before:#?}");
    for mode in ["stop", "crash"] {
        let fail = world.fail(&format!("--mode {mode} --secs 3"));
        let mut other = Command::new("choom");
        other.args([
            "-n",
            "500",
            "--",
            "nice",
            "-n",
            "15",
            "taskset",
            "-c",
            "1",
            "prlimit",
            "--nofile=512:5000",
        ]);
        other.arg(fail.get_program()).args(fail.get_args()).current_dir("/").env_clear();
        other.envs(fail.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let (code, events, stderr) = finish(other);
        assert_eq!(code, 0, "{mode}: {stderr} {events:?}");
        assert_eq!(standing(&world), before, "{mode}");
    }
}

#[test]
fn what_went_to_a_pipe_goes_there_again() {
    let world = World::new();
    let log = world.place.join("piped.log");
    // The pipe's reader is nobody's child, as that of a pipeline whose shell is gone.
    start(&world, &["setsid"], &format!("2>&1 | cat >>{} &", log.display()));
    let starts = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.matches("start worker processes").count()
    };
    assert!(wait_until(LONG, || starts() == 1));
    for (mode, n) in [("stop", 2), ("crash", 3)] {
        let (code, _, stderr) = finish(world.fail(&format!("--mode {mode} --secs 1")));
        assert_eq!(code, 0, "{mode}: {stderr}");
        assert!(wait_until(LONG, || starts() == n), "{mode}: {}", std::fs::read_to_string(&log).unwrap());
    }
}

#[test]
fn what_can_not_be_had_again_is_told_and_is_exit_1() {
    let world = World::new();
    let mut raised = Command::new("prlimit");
    let master = world.nginx.master().unwrap();
    raised.args(["--nofile=5000:6000", "--pid", &master.to_string()]);
    assert!(raised.status().unwrap().success());
    assert_eq!(finish(world.fail("--mode crash --secs 250 --detach")).0, 0);
    let recover = world::agent::command(&world.place, &["recover", "--json"]);
    let mut poor = Command::new("prlimit");
    poor.args(["--nofile=512:512", "setpriv", "--bounding-set=-sys_resource"]).arg(recover.get_program());
    poor.args(recover.get_args()).current_dir("/").env_clear();
    poor.envs(recover.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (code, events, stderr) = finish(poor);
    let result = events.last().unwrap();
    assert_eq!((code, &result["recovered"]), (1, &true.into()), "{stderr}");
    assert!(result["differences"].to_string().contains("Max open files"), "{result}");
    world.is_well();
}
