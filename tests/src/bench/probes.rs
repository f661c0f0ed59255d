//! The tail and the scanner beside their peers: how fast a log is scanned, what following costs, and which lines a
//! rotation loses.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::Table;
use super::kernel::cpu_secs;
use crate::agent;
use crate::nginx::Nginx;
use crate::place::{Place, wait_until};

const AGENT: &str = "ELB-HealthChecker/2.0";
const GIGABYTE: u64 = 1_000_000_000;
const LIMIT: Duration = Duration::from_secs(10);

/// Measures all of it.
///
/// # Errors
/// When the agent or nginx isn't there, or a folder has no room for a gigabyte.
pub fn run() -> anyhow::Result<Vec<Table>> {
    Ok(vec![scanning()?, following()?, rotating()?])
}

/// How many seconds a block of lines covers.
const BLOCK_SECS: u32 = 80;

/// Some megabytes of `combined`, one line in fifty a probe: ten a second, of fifty nodes that probe every 5 s. The blocks
/// follow each other in time.
fn block(number: u32) -> String {
    let mut text = String::new();
    let mut at = String::new();
    for n in 0..BLOCK_SECS * 500 {
        if n % 500 == 0 {
            let second = 1_700_000_000 + i64::from(number * BLOCK_SECS + n / 500);
            let second = jiff::Timestamp::from_second(second).unwrap_or_default();
            at = second.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
        }
        let _ = if n % 50 == 0 {
            writeln!(
                text,
                "172.31.5.{} - - [{at}] \"GET /health HTTP/1.1\" 200 2 \"-\" \"{AGENT}\"",
                n / 50 % 50
            )
        } else {
            writeln!(
                text,
                "203.0.113.{} - - [{at}] \"GET /articles/{}/index.html?ref=home HTTP/1.1\" 200 {} \
                 \"https://www.example.com/section/{}\" \"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, \
                 like Gecko) Chrome/120.0.0.0 Safari/537.36\"",
                n % 250,
                n.wrapping_mul(7919) % 100_000,
                n.wrapping_mul(31) % 50_000,
                n % 50
            )
        };
    }
    text
}

/// A tool's name, and how it is started.
type Scan<'a> = (&'a str, Box<dyn Fn() -> Command + 'a>);

fn scanning() -> anyhow::Result<Table> {
    let place = Place::new()?;
    let log = place.join("big.log");
    let mut file = File::create(&log)?;
    let mut size = 0;
    for number in 0.. {
        let block = block(number);
        file.write_all(block.as_bytes())?;
        size += block.len() as u64;
        if size >= GIGABYTE {
            break;
        }
    }
    drop(file);
    let path = log.to_str().context("the folder's name")?;
    let tool = |name: &str, args: &[&str]| {
        let mut command = Command::new(name);
        command.args(args).env("LC_ALL", "C");
        command
    };
    let tools: [Scan<'_>; 4] = [
        ("agent probes --once", Box::new(|| agent::command(&place, &["probes", "--once", "--log", path]))),
        ("LC_ALL=C grep -c", Box::new(|| tool("grep", &["-c", "ELB-HealthChecker", path]))),
        (
            "mawk, count by address",
            Box::new(|| {
                tool("mawk", &["/ELB-HealthChecker\\/2.0/{a[$1]++} END{for(i in a) print i,a[i]}", path])
            }),
        ),
        ("goaccess", Box::new(|| tool("goaccess", &[path, "--log-format=COMBINED", "-o", "/dev/null"]))),
    ];
    let mut table = Table::new(
        "Scanning a log of 1 GB, warm, on one core",
        &["tool", "CPU s", "seconds", "GB/s", "peak MB"],
    );
    let mut best: Vec<f64> = Vec::new();
    for (name, command) in &tools {
        let rounds = if *name == "goaccess" { 1 } else { 5 };
        let runs: Vec<Timed> = (0..rounds).filter_map(|_| timed(command())).collect();
        let least = |of: &dyn Fn(&Timed) -> f64| runs.iter().map(of).min_by(f64::total_cmp);
        let (Some(cpu), Some(secs), Some(peak)) = (least(&|r| r.cpu), least(&|r| r.secs), least(&|r| r.peak))
        else {
            table.row(&[name, &"not installed", &"", &"", &""]);
            continue;
        };
        best.push(cpu);
        let speed = size as f64 / 1e9 / secs;
        table.row(&[
            name,
            &format!("{cpu:.3}"),
            &format!("{secs:.3}"),
            &format!("{speed:.2}"),
            &format!("{peak:.1}"),
        ]);
    }
    if let [ours, grep, ..] = best[..] {
        table.note(format!(
            "{:.2} × grep's throughput by CPU time, user and system (best of 5 each).",
            grep / ours
        ));
    }
    Ok(table)
}

/// What a command took: seconds of CPU and of the clock, and MB at most.
struct Timed {
    cpu: f64,
    secs: f64,
    peak: f64,
}

/// The CPU seconds of all children that were waited for.
fn children_secs() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return 0.0 };
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6)
        .sum()
}

/// Runs a command on the first CPU; `None` where it isn't installed.
fn timed(mut command: Command) -> Option<Timed> {
    let before = children_secs();
    // Not /dev/null: grep notices it and stops at the first match.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut one = nix::sched::CpuSet::new();
    one.set(0).ok()?;
    let start = Instant::now();
    let child = command.spawn().ok()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    nix::sched::sched_setaffinity(pid, &one).ok()?;
    let mut peak = 0.0;
    // The peak must be read while it lives; the end is awaited in between without delay.
    let reader = thread::spawn(move || {
        let mut peak = 0.0_f64;
        while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
            let Some(line) = status.lines().find_map(|l| l.strip_prefix("VmHWM:")) else { break };
            peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0) / 1024.0);
            sleep(Duration::from_millis(5));
        }
        peak
    });
    waitpid(pid, None).ok()?;
    let (secs, cpu) = (start.elapsed().as_secs_f64(), children_secs() - before);
    peak = reader.join().unwrap_or(peak);
    Some(Timed { cpu, secs, peak })
}

/// A program that prints what it saw, and when each numbered path came out of it.
struct Reader {
    child: Child,
    seen: Arc<Mutex<HashMap<String, (Instant, u32)>>>,
    /// The gaps that it reported at its end.
    gaps: Arc<AtomicU64>,
}

impl Reader {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let pipe = child.stdout.take().context("no stdout")?;
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let (into, gaps) = (Arc::clone(&seen), Arc::<AtomicU64>::default());
        let reported = Arc::clone(&gaps);
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) {
                    reported.store(event["gaps"].as_u64().unwrap_or(0), Ordering::Relaxed);
                }
                let Some(at) = line.find("/n") else { continue };
                let number = line[at..].split(['"', ' ', '?']).next().unwrap_or_default().to_owned();
                if let Ok(mut seen) = into.lock() {
                    seen.entry(number).or_insert_with(|| (Instant::now(), 0)).1 += 1;
                }
            }
        });
        Ok(Self { child, seen, gaps })
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Ends the program as Ctrl-C does; what it says of gaps.
    fn end(&self) -> anyhow::Result<u64> {
        kill(Pid::from_raw(self.pid()), Signal::SIGINT)?;
        wait_until(Duration::from_secs(1), || self.gaps.load(Ordering::Relaxed) > 0);
        Ok(self.gaps.load(Ordering::Relaxed))
    }

    fn count(&self) -> usize {
        self.seen.lock().map_or(0, |seen| seen.len())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follower(place: &Place, log: &Path) -> anyhow::Result<Reader> {
    let path = log.to_str().context("the folder's name")?;
    Reader::start(agent::command(place, &["probes", "--json", "--follow", "--from-start", "--log", path]))
}

fn following() -> anyhow::Result<Table> {
    const RATE: u32 = 20_000;
    let place = Place::new()?;
    let log = place.join("access.log");
    let mut file = OpenOptions::new().create(true).append(true).open(&log)?;
    let reader = follower(&place, &log)?;
    sleep(Duration::from_secs(1));
    let idle_from = cpu_secs(reader.pid());
    sleep(Duration::from_secs(10));
    let idle = (cpu_secs(reader.pid()) - idle_from) * 10.0;
    let block = block(0);
    let others: Vec<&str> = block.lines().filter(|line| !line.contains(AGENT)).collect();
    let mut written = Vec::new();
    let (start, busy_from) = (Instant::now(), cpu_secs(reader.pid()));
    // nginx writes a line at a time; a millisecond's worth of them at once is kinder to the bench than to the reader.
    for milli in 0..8000_u32 {
        for n in 0..RATE / 1000 {
            let other = others[(milli * 20 + n) as usize % others.len()];
            writeln!(file, "{other}")?;
        }
        if milli % 10 == 0 {
            let now = jiff::Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
            let line = format!("10.0.0.1 - - [{now}] \"GET /n{milli} HTTP/1.1\" 200 2 \"-\" \"{AGENT}\"\n");
            file.write_all(line.as_bytes())?;
            written.push((format!("/n{milli}"), Instant::now()));
        }
        let due = start + Duration::from_millis(u64::from(milli) + 1);
        sleep(due.saturating_duration_since(Instant::now()));
    }
    let took = start.elapsed().as_secs_f64();
    let busy = (cpu_secs(reader.pid()) - busy_from) / took * 100.0;
    ensure!(wait_until(LIMIT, || reader.count() == written.len()), "probes are missing: {}", reader.count());
    let seen = reader.seen.lock().map_err(|_| anyhow::anyhow!("a reader failed"))?;
    let mut late: Vec<f64> = written
        .iter()
        .filter_map(|(path, at)| {
            Some(seen.get(path)?.0.saturating_duration_since(*at).as_secs_f64() * 1000.0)
        })
        .collect();
    late.sort_by(f64::total_cmp);
    let mut table =
        Table::new("Following a log", &["lines a second", "CPU %", "write to seen, p50 ms", "p99 ms"]);
    let at = |share: f64| format!("{:.1}", late[(late.len() as f64 * share) as usize]);
    table.row(&[&"none", &format!("{idle:.4}"), &"", &""]);
    table.row(&[&format!("{:.0}", 8000.0 * 20.1 / took), &format!("{busy:.2}"), &at(0.5), &at(0.99)]);
    table.note("Seen: read from the agent's stdout by another process, which is part of the time.");
    Ok(table)
}

/// How a log is rotated.
#[derive(Clone, Copy)]
enum Rotation {
    /// Renamed; nginx is told 0.3 s later.
    Rename,
    /// Renamed and a new file made at once; nginx is told 0.3 s later.
    Create,
    CopyTruncate,
}

fn rotating() -> anyhow::Result<Table> {
    let heads = ["rotation, once a second", "reader", "lines", "lost", "twice", "gaps reported"];
    let mut table = Table::new("A real nginx under 2,000 requests a second, rotated", &heads);
    for (name, rotation) in [
        ("rename, USR1 after 0.3 s", Rotation::Rename),
        ("rename and create, USR1 after 0.3 s", Rotation::Create),
        ("copytruncate", Rotation::CopyTruncate),
    ] {
        for (reader, counts) in rotated(rotation)? {
            let [sent, lost, twice, gaps] = counts;
            table.row(&[&name, &reader, &sent, &lost, &twice, &gaps]);
        }
    }
    table.note(
        "What a copytruncate loses is written between the copying and the truncation: nobody can read it.",
    );
    Ok(table)
}

fn rotated(rotation: Rotation) -> anyhow::Result<Vec<(String, [u64; 4])>> {
    let place = Place::new()?;
    let nginx = Nginx::start(&place, "keepalive_requests 1000000;", "location / { return 200; }")?;
    let log = nginx.access_log();
    let mut tail = Command::new("tail");
    tail.args(["-n", "+1", "-F"]).arg(&log);
    let readers = [
        ("agent probes --follow".to_owned(), follower(&place, &log)?),
        ("tail -F".into(), Reader::start(tail)?),
    ];
    sleep(Duration::from_millis(300));
    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let client = thread::spawn({
        let (over, sent, addr) = (Arc::clone(&over), Arc::clone(&sent), nginx.addr);
        move || load(addr, &over, &sent)
    });
    for round in 0..8 {
        sleep(Duration::from_millis(700));
        rotate(&nginx, &log, rotation, round)?;
    }
    over.store(true, Ordering::Relaxed);
    client.join().map_err(|_| anyhow::anyhow!("the load failed"))??;
    let sent = sent.load(Ordering::Relaxed);
    wait_until(Duration::from_secs(3), || readers.iter().all(|(_, reader)| reader.count() as u64 == sent));
    let judged = readers.iter().map(|(name, reader)| {
        let twice =
            reader.seen.lock().map_or(0, |seen| seen.values().filter(|(_, times)| *times > 1).count());
        let lost = sent.saturating_sub(reader.count() as u64);
        Ok((name.clone(), [sent, lost, twice as u64, reader.end()?]))
    });
    judged.collect()
}

/// Pipelined requests over one connection, 2,000 a second.
fn load(addr: SocketAddr, over: &AtomicBool, sent: &AtomicU64) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    let mut answers = stream.try_clone()?;
    thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while answers.read(&mut bytes).is_ok_and(|n| n > 0) {}
    });
    let start = Instant::now();
    while !over.load(Ordering::Relaxed) {
        for _ in 0..4 {
            let number = sent.fetch_add(1, Ordering::Relaxed);
            write!(stream, "GET /n{number} HTTP/1.1\r\nHost: x\r\nUser-Agent: {AGENT}\r\n\r\n")?;
        }
        let due = start + Duration::from_micros(sent.load(Ordering::Relaxed) * 500);
        sleep(due.saturating_duration_since(Instant::now()));
    }
    sleep(Duration::from_millis(200));
    Ok(())
}

fn rotate(nginx: &Nginx, log: &Path, rotation: Rotation, round: u32) -> anyhow::Result<()> {
    let old = PathBuf::from(format!("{}.{}", log.display(), round + 1));
    if let Rotation::CopyTruncate = rotation {
        fs::copy(log, &old)?;
        OpenOptions::new().write(true).open(log)?.set_len(0)?;
        sleep(Duration::from_millis(300));
        return Ok(());
    }
    fs::rename(log, &old)?;
    if let Rotation::Create = rotation {
        File::create(log)?;
    }
    sleep(Duration::from_millis(300));
    Ok(kill(Pid::from_raw(nginx.master()?), Signal::SIGUSR1)?)
}
