//! How a stress begins and ends: start, deadline, signals, memory, what is left behind.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Table;
use super::kernel::Tool;
use super::stress::{ABSENT, NONE, ours, peer};
use crate::place::{Place, wait_until};

/// Ends of each kind that are tried.
const TRIES: usize = 20;
const SOON: Duration = Duration::from_secs(5);

/// A tool's command line for a number of workers and seconds; `None` where it isn't installed.
type Line<'a> = &'a dyn Fn(u32, u32) -> Option<Command>;

/// The table.
///
/// # Errors
/// When a tool doesn't start.
pub(super) fn table(place: &Place) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "stress: beginning, end, memory",
        &["what", "agent", "stress", "stress-ng", "lookbusy", "asked of the agent"],
    );
    let agent: Line = &|cpu, secs| Some(ours(place, &format!("--cpu {cpu} --secs {secs}")));
    let stress: Line = &|cpu, secs| peer(&format!("stress --cpu {cpu} --timeout {secs}"));
    let stress_ng: Line = &|cpu, secs| peer(&format!("stress-ng --cpu {cpu} --timeout {secs}"));
    let mut row = |what: &str, asked: &str, measure: &dyn Fn(Line) -> anyhow::Result<Option<String>>| {
        let cell = |line| measure(line).map(|c| c.unwrap_or_else(|| ABSENT.to_owned()));
        table.row(&[&what, &cell(agent)?, &cell(stress)?, &cell(stress_ng)?, &ABSENT, &asked]);
        anyhow::Ok(())
    };
    row("exec to burning, median of 10", "≤ 5 ms", &burning)?;
    row("deadline overshoot, exec to exit of a 1-s run, median of 3", "≤ 5 ms", &overshoot)?;
    row("signal to exit, median of 10", "≤ 20 ms", &signal_to_exit)?;
    row("RSS, 1 worker; child processes", "≤ 3 MB; none", &|line| memory(line, 1))?;
    row("RSS, 64 workers; child processes", "≤ 6 MB; none", &|line| memory(line, 64))?;
    for (name, end) in [
        ("KILL", Some(Signal::SIGKILL)),
        ("TERM", Some(Signal::SIGTERM)),
        ("INT", Some(Signal::SIGINT)),
        ("HUP", Some(Signal::SIGHUP)),
        ("terminal closed", None),
    ] {
        row(&format!("runs of {TRIES} that left workers behind: {name}"), "0", &|line| left(line, end))?;
    }
    table.note(format!(
        "{NONE} no such feature. stress-ng and stress fork a process a worker; their RSS is the sum."
    ));
    Ok(table)
}

fn median_ms(mut values: Vec<Duration>) -> Option<String> {
    values.sort_unstable();
    values.get(values.len() / 2).map(|d| format!("{:.1} ms", d.as_secs_f64() * 1e3))
}

/// CPU seconds of the workers: of everything but the main thread of the process that was started.
fn workers_secs(tool: &Tool) -> f64 {
    let main = fs::read_to_string(format!("/proc/{0}/task/{0}/schedstat", tool.pid())).unwrap_or_default();
    let main =
        main.split_ascii_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
    tool.cpu_secs() - main
}

fn burning(line: Line) -> anyhow::Result<Option<String>> {
    let mut times = Vec::new();
    for _ in 0..10 {
        let Some(command) = line(1, 20) else { return Ok(None) };
        let tool = Tool::start(command)?;
        // With pauses: who looks on without one is somebody to yield to.
        while workers_secs(&tool) < 0.000_5 && tool.started.elapsed() < SOON {
            sleep(Duration::from_micros(50));
        }
        times.push(tool.started.elapsed());
    }
    Ok(median_ms(times))
}

fn overshoot(line: Line) -> anyhow::Result<Option<String>> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let Some(command) = line(1, 1) else { return Ok(None) };
        let mut tool = Tool::start(command)?;
        tool.child.wait()?;
        times.push(tool.started.elapsed().saturating_sub(Duration::from_secs(1)));
    }
    Ok(median_ms(times))
}

fn signal_to_exit(line: Line) -> anyhow::Result<Option<String>> {
    let mut times = Vec::new();
    for _ in 0..10 {
        let Some(command) = line(2, 20) else { return Ok(None) };
        let mut tool = Tool::start(command)?;
        // Later than what its start sets going in the kernel (grace periods of cgroup moves) could help its end.
        wait_until(SOON, || workers_secs(&tool) > 0.4);
        let sent = Instant::now();
        kill(Pid::from_raw(tool.pid()), Signal::SIGTERM)?;
        tool.child.wait()?;
        times.push(sent.elapsed());
    }
    Ok(median_ms(times))
}

fn memory(line: Line, workers: u32) -> anyhow::Result<Option<String>> {
    let Some(command) = line(workers, 20) else { return Ok(None) };
    let tool = Tool::start(command)?;
    wait_until(SOON, || workers_secs(&tool) > 0.2);
    let family = tool.family();
    let rss_kb = |pid: &i32| -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.split_ascii_whitespace().next()?.parse().ok()
    };
    let rss: f64 = family.iter().filter_map(rss_kb).sum();
    Ok(Some(format!("{:.1} MB; {}", rss / 1024.0, family.len() - 1)))
}

/// Of how many runs a worker still lives half a second after the end.
fn left(line: Line, end: Option<Signal>) -> anyhow::Result<Option<String>> {
    let mut bad = 0;
    for _ in 0..TRIES {
        let Some(command) = line(2, 20) else { return Ok(None) };
        let mut tool = Tool::start(if end.is_some() { command } else { in_terminal(&command) })?;
        let children = if end.is_some() { 0 } else { 1 };
        wait_until(SOON, || tool.family().len() > children && workers_secs(&tool) > 0.005);
        let all = tool.family();
        // Without a signal the terminal's owner dies, and with it the terminal.
        kill(Pid::from_raw(tool.pid()), end.unwrap_or(Signal::SIGKILL))?;
        tool.child.wait()?;
        let gone = wait_until(Duration::from_millis(500), || all.iter().all(|pid| is_gone(*pid)));
        bad += usize::from(!gone);
        for pid in all.into_iter().filter(|pid| !is_gone(*pid)) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(Some(bad.to_string()))
}

fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// The same command on a terminal of its own, script(1)'s.
fn in_terminal(command: &Command) -> Command {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let line = words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script.args(["-q", "-c", &format!("exec {line}"), "/dev/null"]);
    for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        script.env(name, value);
    }
    script
}
