//! The kernel's own accounting, by which every tool is judged.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A tool under measurement: its own process group, killed with its children when dropped.
#[derive(Debug)]
pub struct Tool {
    /// The process that was started.
    pub child: Child,
    /// When.
    pub started: Instant,
}

impl Tool {
    /// Starts `command`, silent, as a process group of its own.
    ///
    /// # Errors
    /// When it isn't installed.
    pub fn start(mut command: Command) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let started = Instant::now();
        Ok(Self { child: command.spawn()?, started })
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// It and its descendants.
    pub fn family(&self) -> Vec<i32> {
        family(self.pid())
    }

    /// CPU seconds of it and its descendants so far.
    pub fn cpu_secs(&self) -> f64 {
        self.family().into_iter().map(cpu_secs).sum()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        for pid in self.family() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// A process and its descendants.
pub fn family(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    all
}

/// The CPU seconds of one thread, from its `schedstat`.
fn thread_secs(task: &fs::DirEntry) -> Option<f64> {
    let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
    Some(text.split_ascii_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// The CPU seconds of all living threads of a process.
pub fn cpu_secs(pid: i32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks.map_or(0.0, |tasks| tasks.flatten().filter_map(|task| thread_secs(&task)).sum())
}

/// What the whole machine did: CPU seconds, from `/proc/stat`.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    at: Instant,
    idle: f64,
    steal: f64,
}

impl Machine {
    /// Now.
    ///
    /// # Errors
    /// When `/proc/stat` can't be read.
    pub fn now() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        let field = |n: usize| {
            line.split_ascii_whitespace().nth(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0) / 100.0
        };
        Ok(Self { at: Instant::now(), idle: field(4) + field(5), steal: field(8) })
    }

    /// Seconds of a mean CPU that were busy since `earlier`.
    pub fn busy_secs_since(&self, earlier: &Self) -> f64 {
        self.since(earlier).0 / 100.0 * self.at.duration_since(earlier.at).as_secs_f64()
    }

    /// Busy (what is neither idle, iowait nor steal) and steal since `earlier`, in percent of all CPUs.
    pub fn since(&self, earlier: &Self) -> (f64, f64) {
        let all = self.at.duration_since(earlier.at).as_secs_f64() * cpus() as f64;
        if all == 0.0 {
            return (0.0, 0.0);
        }
        let (idle, steal) = (self.idle - earlier.idle, self.steal - earlier.steal);
        (100.0 * (1.0 - (idle + steal) / all), 100.0 * steal / all)
    }
}

/// CPUs of the machine.
pub fn cpus() -> usize {
    fs::read_to_string("/proc/stat")
        .map_or(1, |t| t.lines().skip(1).take_while(|l| l.starts_with("cpu")).count())
}

/// How an amount of CPU time grew, second by second: each second's value as a difference from `wanted`, both in
/// percentage points.
///
/// # Errors
/// When `read` fails.
pub fn errors_by_second(
    secs: usize,
    wanted: f64,
    mut read: impl FnMut() -> io::Result<f64>,
) -> io::Result<Errors> {
    let start = Instant::now();
    let (mut at, mut before) = (start, read()?);
    let mut errors = Errors::default();
    for second in 1..=secs {
        let due = start + Duration::from_secs(second as u64);
        sleep(due.saturating_duration_since(Instant::now()));
        let value = read()?;
        let now = Instant::now();
        let got = 100.0 * (value - before) / now.duration_since(at).as_secs_f64();
        errors.0.push(got - wanted);
        (at, before) = (now, value);
    }
    Ok(errors)
}

/// Errors of one-second buckets, in percentage points.
#[derive(Debug, Clone, Default)]
pub struct Errors(pub Vec<f64>);

impl Errors {
    /// The mean of their sizes.
    pub fn mean(&self) -> f64 {
        self.0.iter().map(|e| e.abs()).sum::<f64>() / self.0.len().max(1) as f64
    }

    /// The largest size.
    pub fn largest(&self) -> f64 {
        self.0.iter().map(|e| e.abs()).fold(0.0, f64::max)
    }

    /// The error of the mean over the whole time.
    pub fn overall(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }
}

/// How quiet the machine is: looks on for a second and a half. `None` when it is.
///
/// # Errors
/// When `/proc/stat` can't be read.
pub fn noise(when: &str) -> io::Result<Option<String>> {
    let before = Machine::now()?;
    sleep(Duration::from_millis(1500));
    let (busy, steal) = Machine::now()?.since(&before);
    Ok((busy > 3.0 || steal > 1.0).then(|| {
        format!("**Noisy machine** {when}: {busy:.1} % busy and {steal:.1} % steal without us; measure again when it is quiet.")
    }))
}
