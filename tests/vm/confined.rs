//! `agent stress` under real control groups of version 2: it stays in its unit, the unit's limits hold, and nothing is
//! left of it however it ends.

use anyhow::{Context, ensure};

use crate::machine::Vm;
use crate::trials::Trial;

/// How it is started: what comes before `agent stress`, and its limits if it has any.
struct Start {
    name: &'static str,
    by: String,
    /// `cpu.max`, `memory.max` and `cpuset.cpus.effective` of its unit.
    limits: Option<[&'static str; 3]>,
}

const UNIT: &str = "/sys/fs/cgroup/system.slice/lab-stress.service";

/// All of them.
pub(crate) fn trials() -> Vec<Trial> {
    let service = "systemd-run --quiet --collect --unit=lab-stress";
    let confined = "-p CPUQuota=30% -p MemoryMax=64M -p AllowedCPUs=1";
    let starts = [
        Start { name: "root", by: service.to_owned(), limits: None },
        Start { name: "user", by: format!("{service} --uid=www-data"), limits: None },
        Start {
            name: "confined",
            by: format!("{service} {confined}"),
            limits: Some(["30000 100000", "67108864", "1"]),
        },
        Start {
            name: "confined-user",
            by: format!("{service} {confined} --uid=www-data"),
            limits: Some(["30000 100000", "67108864", "1"]),
        },
    ];
    let trial = |start: Start| Trial::new(format!("stress {}", start.name), 2, move |vm| trial(vm, &start));
    starts.into_iter().map(trial).collect()
}

/// The control groups there are; what runs now and then by itself is not ours.
const GROUPS: &str = "find /sys/fs/cgroup -type d | grep -v -e systemd -e lab-stress | sort";

fn trial(vm: &mut Vm<'_>, start: &Start) -> anyhow::Result<String> {
    vm.says("systemctl is-system-running --wait")?;
    let before = vm.says(GROUPS)?;
    let said = to_its_end(vm, start)?;
    ensure!(vm.says(GROUPS)? == before, "control groups are left: {}", vm.says(GROUPS)?);
    begin(vm, start)?;
    stays(vm, start)?;
    vm.says("systemctl kill -s KILL lab-stress")?;
    vm.until(&format!(
        "! test -e {UNIT} && test \"$(pgrep -x agent)\" = \"$(systemctl show -P MainPID asg-agent)\""
    ))
    .context("after SIGKILL")?;
    ensure!(vm.says(GROUPS)? == before, "control groups are left by SIGKILL: {}", vm.says(GROUPS)?);
    let health = vm.says("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/health")?;
    ensure!(health == "200", "/health says {health}");
    Ok(said)
}

/// Starts a run that lasts until it is killed, and waits until its workers are there.
fn begin(vm: &mut Vm<'_>, start: &Start) -> anyhow::Result<()> {
    ask_for(vm, start, 3600)?;
    let threads = "$(ls /proc/$(systemctl show -P MainPID lab-stress)/task | wc -l)";
    vm.until(&format!("test {threads} -gt 1"))
        .with_context(|| format!("it doesn't start: {:?}", vm.sh("cat /run/stress.told")))
}

fn ask_for(vm: &mut Vm<'_>, start: &Start, secs: u32) -> anyhow::Result<()> {
    vm.says("rm -f /run/stress.said")?;
    vm.says(&format!(
        "{} -p StandardOutput=file:/run/stress.said -p StandardError=file:/run/stress.told \
         agent stress --cpu all --secs {secs} --priority normal --json",
        start.by
    ))
    .map(drop)
}

/// While it works: every thread is in the unit and on its processors, and the unit's limits are what they were.
fn stays(vm: &mut Vm<'_>, start: &Start) -> anyhow::Result<()> {
    let pid = vm.says("systemctl show -P MainPID lab-stress")?;
    let groups = vm.says(&format!("cat /proc/{pid}/task/*/cgroup | grep ^0:: | sort -u"))?;
    ensure!(groups == "0::/system.slice/lab-stress.service", "its threads are in {groups}");
    let Some(limits) = start.limits else { return Ok(()) };
    let found = vm.says(&format!("cd {UNIT} && cat cpu.max memory.max cpuset.cpus.effective"))?;
    ensure!(found == limits.join("\n"), "the unit's limits are {found}");
    let cpus =
        vm.says(&format!("grep -h ^Cpus_allowed_list: /proc/{pid}/task/*/status | cut -f 2 | sort -u"))?;
    ensure!(cpus == limits[2], "its threads may run on {cpus}");
    Ok(())
}

/// A run that ends by itself; gives what it says of its load.
fn to_its_end(vm: &mut Vm<'_>, start: &Start) -> anyhow::Result<String> {
    ask_for(vm, start, 15)?;
    vm.until(&format!("test -s /run/stress.said && ! test -e {UNIT}"))?;
    let summary = "tail -n 1 /run/stress.said | jq -r";
    let ended = vm.says(&format!("{summary} '.ended'"))?;
    ensure!(ended == "deadline", "it ended by {ended}: {}", vm.says("cat /run/stress.told")?);
    let workers: f64 = vm.says(&format!("{summary} .workers"))?.parse()?;
    let load: f64 = vm.says(&format!("{summary} .achieved_load_pct"))?.parse()?;
    let wanted = if start.limits.is_some() { 1.0 } else { 2.0 };
    ensure!(workers == wanted, "{workers} workers on {wanted} processors");
    // One period of the quota may lie beyond the end.
    let quota = if start.limits.is_some() { 31.0 } else { 100.5 };
    ensure!(load <= quota, "each worker has used {load} % of a processor");
    Ok(format!("{workers} workers, {load} % each"))
}
