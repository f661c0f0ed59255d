//! The machine goes down while nginx is made to fail: at every phase of a fault, by every way down.

use std::fmt;

use anyhow::{Context, ensure};

use crate::machine::Vm;
use crate::trials::Trial;
use crate::verdict;

/// The modes, and what each is started with: longer than any trial takes.
const MODES: [&str; 8] = ["stop", "crash", "hang", "drop", "reject", "error", "unhealthy", "slow"];
const LASTS: &str = "--secs 3000 --force";

/// How far the fault has come when the machine goes down.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// On record and with its leases; nothing is touched. The command was killed there, the keeper lives.
    Armed,
    /// nginx was touched, and the record doesn't say so yet. The command was killed there.
    Injected,
    /// In force; the command lives.
    Effective,
    /// The command and the keeper were killed at this step of the end.
    Recovering(&'static str),
}

/// How it goes down.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// `systemctl reboot`.
    Reboot,
    /// The kernel restarts at once, nothing is written (Documentation/admin-guide/sysrq.rst).
    Sysrq,
    /// QEMU is killed.
    Cut,
}

const STEPS: [&str; 4] = ["recover.begun", "recover.restored", "recover.noted", "recover.removed"];

/// All of them, in rounds of one for each mode; the first round, of every phase and every way, is the short part.
pub(crate) fn trials() -> Vec<Trial> {
    let ways = [Way::Reboot, Way::Sysrq, Way::Cut];
    let phases = [Phase::Effective, Phase::Injected, Phase::Recovering(""), Phase::Armed];
    let both: Vec<_> = phases.into_iter().flat_map(|phase| ways.map(|way| (phase, way))).collect();
    let mut all = Vec::new();
    for round in 0..both.len() {
        for (row, mode) in MODES.into_iter().enumerate() {
            // 7 and 12 have no common divisor: every mode meets all of them.
            let Some((phase, way)) = both.iter().cycle().nth(round + 7 * row).copied() else { continue };
            let step = STEPS.into_iter().cycle().nth(round + row).unwrap_or_default();
            let phase = if matches!(phase, Phase::Recovering(_)) { Phase::Recovering(step) } else { phase };
            let part = if round == 0 { " short" } else { "" };
            let name = format!("power {mode} {way} {phase}{part}");
            all.push(Trial::new(name, 1, move |vm| trial(vm, mode, phase, way)));
        }
    }
    all
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Armed => "armed",
            Self::Injected => "injected",
            Self::Effective => "effective",
            Self::Recovering(step) => step,
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reboot => "reboot",
            Self::Sysrq => "sysrq",
            Self::Cut => "cut",
        })
    }
}

fn trial(vm: &mut Vm<'_>, mode: &str, phase: Phase, way: Way) -> anyhow::Result<String> {
    vm.until("[ \"$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/health)\" = 200 ]")?;
    begin(vm, mode, phase)?;
    let id = vm.says("tail -n 1 /var/log/asg-agent/faults.jsonl | jq -r .id")?;
    let before = vm.says("cat /proc/sys/kernel/random/boot_id")?;
    let start = std::time::Instant::now();
    match way {
        Way::Reboot => {
            vm.send("systemctl reboot")?;
            vm.wait_boot()?;
        }
        Way::Sysrq => {
            vm.send("echo b >/proc/sysrq-trigger")?;
            vm.wait_boot()?;
        }
        Way::Cut => vm.cut_power()?,
    }
    let took = start.elapsed().as_secs();
    ensure!(vm.says("cat /proc/sys/kernel/random/boot_id")? != before, "it has not rebooted");
    let said = vm.says(&format!("/usr/local/lib/lab/judge.sh {id}"))?;
    let ended = verdict::at_rest(&said)?;
    // Only an orderly shutdown tells anybody before; everything else ends with the boot.
    let by_boot = matches!(way, Way::Sysrq | Way::Cut) && !matches!(phase, Phase::Recovering(_));
    ensure!(!by_boot || ended == "reboot", "the history says {ended}");
    Ok(format!("ended by {ended}; up again after {took} s"))
}

/// Starts the fault, in a session of its own, and brings it to its phase.
fn begin(vm: &mut Vm<'_>, mode: &str, phase: Phase) -> anyhow::Result<()> {
    let failpoint = match phase {
        Phase::Armed => "leased",
        Phase::Injected => "inject.done",
        Phase::Effective => "",
        Phase::Recovering(step) => step,
    };
    let session = "systemd-run --quiet --scope --collect --unit=session-lab";
    let command = format!(
        "AGENT_FAILPOINT={failpoint} {session} agent fail --mode {mode} {LASTS} --json >/run/fault.said 2>&1"
    );
    vm.says("rm -f /run/fault.said")?;
    if matches!(phase, Phase::Armed | Phase::Injected) {
        let said = vm.sh(&command)?;
        ensure!(said.code == 137, "not killed at {failpoint}: {}", said.text);
        return Ok(());
    }
    in_force(vm, &command)?;
    if matches!(phase, Phase::Recovering(_)) {
        interrupt(vm)?;
    }
    Ok(())
}

/// Starts a fault's command line, whose output goes to `/run/fault.said`, and waits for its effect.
pub(crate) fn in_force(vm: &mut Vm<'_>, command: &str) -> anyhow::Result<()> {
    vm.says(&format!("rm -f /run/fault.said; {command} >/run/fault.said 2>&1 & echo $! >/run/fault.pid"))?;
    vm.until("grep -q '\"event\":\"effective\"' /run/fault.said")
        .with_context(|| format!("no effect: {:?}", vm.sh("cat /run/fault.said")))
}

/// Ends a fault's command; what a shell runs in the background is deaf to SIGINT.
pub(crate) fn interrupt(vm: &mut Vm<'_>) -> anyhow::Result<()> {
    vm.says("kill -TERM $(cat /run/fault.pid)")?;
    vm.until("! kill -0 $(cat /run/fault.pid)")
}
