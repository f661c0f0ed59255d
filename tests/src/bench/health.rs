//! What `/health` costs, beside nginx and a bare axum handler in the same run; what the daemon costs while idle; and
//! how late an answer is while every core burns.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Table;
use super::kernel::{Tool, cpu_secs, noise};
use crate::agent;
use crate::daemon::Daemon;
use crate::http;
use crate::nginx::Nginx;
use crate::place::{Place, wait_until};

/// Requests a second: few enough that no flood is seen, so many that a round is short.
const RATE: u32 = 2000;
const REQUESTS: u32 = 900;
const ROUNDS: usize = 15;

/// The table.
///
/// # Errors
/// When a peer doesn't start.
pub fn run() -> anyhow::Result<Vec<Table>> {
    let mut table = Table::new("`agent serve`", &["what", "agent", "peer", "ratio", "limit", "reached"]);
    for part in [cost, idle, start, size, burning] {
        if let Some(noise) = noise("Before a part of these")? {
            table.note(noise);
        }
        part(&mut table)?;
    }
    Ok(vec![table])
}

/// A row: our figure, the peer's where there is one, and the limit that one of them is held to.
fn row(
    table: &mut Table,
    what: &str,
    ours: &str,
    ratio: Option<(&str, f64)>,
    held: f64,
    limit: Option<(f64, &str)>,
) {
    let reached = limit.map_or("", |(limit, _)| if held <= limit { "yes" } else { "no" });
    let limit = limit.map_or(String::new(), |(limit, unit)| format!("≤ {limit}{unit}"));
    let (peer, ratio) = ratio.map_or(("", String::new()), |(peer, ratio)| (peer, format!("{ratio:.2}")));
    table.row(&[&what, &ours, &peer, &ratio, &limit, &reached]);
}

/// CPU time a request, ours against the peers', in turns so that a change of the machine's speed hits both.
fn cost(table: &mut Table) -> anyhow::Result<()> {
    let place = Place::new()?;
    let daemon = Daemon::start(&place, &["--no-nginx"])?;
    let elsewhere = Place::new()?;
    let nginx = Nginx::start(&elsewhere, "", "access_log off; location / { return 200 ok; }")?;
    let axum = role(&["bare-axum", &format!("{}:8080", elsewhere.ip)])?;
    let axum_addr = SocketAddr::new(elsewhere.ip.into(), 8080);
    ensure!(wait_until(Duration::from_secs(5), || http::get(axum_addr, "/health", Duration::from_secs(1))
        .is_ok()));
    for pid in [daemon.process.pid(), axum.pid()].into_iter().chain(nginx.workers()) {
        pin(pid, 1);
    }
    // What a CPU that had fallen asleep takes to wake is not the servers' work: it never sleeps.
    let mut awake = Command::new("chrt");
    awake.args(["-i", "0"]).arg(std::env::current_exe()?).args(["burn", "1"]);
    let awake = Tool::start(awake)?;
    pin(awake.pid(), 1);
    let ours = (vec![daemon.process.pid()], daemon.public);
    let nginx = (nginx.workers(), nginx.addr);
    let axum = (vec![axum.pid()], axum_addr);
    for (what, peer, kept, limit) in [
        ("CPU a request, one connection a request, against nginx `return 200`", &nginx, false, Some(1.1)),
        ("CPU a request, keep-alive, against a bare axum handler", &axum, true, Some(1.15)),
        ("CPU a request, one connection a request, against a bare axum handler", &axum, false, None),
        ("CPU a request, keep-alive, against nginx `return 200`", &nginx, true, None),
    ] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push((us_a_request(&ours, kept)?, us_a_request(peer, kept)?));
        }
        let ratio = median(rounds.iter().map(|(a, b)| a / b));
        let (a, b) = (median(rounds.iter().map(|r| r.0)), median(rounds.iter().map(|r| r.1)));
        let (ours, theirs) = (format!("{a:.1} µs"), format!("{b:.1} µs"));
        row(table, what, &ours, Some((&theirs, ratio)), ratio, limit.map(|limit| (limit, " ×")));
    }
    Ok(())
}

fn us_a_request(server: &(Vec<i32>, SocketAddr), kept: bool) -> anyhow::Result<f64> {
    let cpu = || server.0.iter().map(|pid| cpu_secs(*pid)).sum::<f64>();
    let before = cpu();
    Client { addr: server.1, kept }.ask(REQUESTS, RATE)?;
    Ok((cpu() - before) / f64::from(REQUESTS) * 1e6)
}

/// A client that asks at a steady pace and spins between, so that its own CPU stays awake.
struct Client {
    addr: SocketAddr,
    kept: bool,
}

impl Client {
    /// The latencies.
    fn ask(&self, requests: u32, rate: u32) -> anyhow::Result<Vec<Duration>> {
        use std::io::{Read, Write};
        let close = if self.kept { "" } else { "Connection: close\r\n" };
        let agent = "User-Agent: ELB-HealthChecker/2.0\r\n";
        let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n{agent}{close}\r\n", self.addr);
        let (start, mut stream) = (Instant::now(), None);
        let mut latencies = Vec::with_capacity(requests as usize);
        for n in 0..requests {
            while start.elapsed() < Duration::from_secs(1) * n / rate {
                std::hint::spin_loop();
            }
            let asked = Instant::now();
            let mut connection = match stream.take() {
                Some(connection) => connection,
                None => http::connect(self.addr, None, Duration::from_secs(5))?,
            };
            connection.write_all(request.as_bytes())?;
            let mut bytes = [0; 4096];
            ensure!(connection.read(&mut bytes)? > 0, "{} closed the connection", self.addr);
            latencies.push(asked.elapsed());
            if self.kept {
                stream = Some(connection);
            } else {
                while connection.read(&mut bytes)? > 0 {}
            }
        }
        Ok(latencies)
    }
}

/// What the daemon costs while nobody asks: nginx checked, the log watched, no metadata service. The log's watcher has
/// a budget of its own.
fn idle(table: &mut Table) -> anyhow::Result<()> {
    const WATCHED: Duration = Duration::from_secs(20);
    let place = Place::new()?;
    let nginx = Nginx::start(&place, "", "location / { return 200 ok; }")?;
    agent::configure(&place, &format!("[nginx]\nconf = {:?}\n", nginx.conf))?;
    let daemon = Daemon::start(&place, &[])?;
    std::thread::sleep(Duration::from_secs(5)); // what is only done at the start is over
    let pid = daemon.process.pid();
    let spent = || (cpu_secs(pid), named_thread_secs(pid, "probes"));
    let before = spent();
    std::thread::sleep(WATCHED);
    let after = spent();
    let a_second = |secs: f64| secs * 1e6 / WATCHED.as_secs_f64();
    let log = a_second(after.1 - before.1);
    let samplers = a_second(after.0 - before.0) - log;
    let show = |us: f64| format!("{us:.0} µs");
    row(table, "idle, CPU a second, samplers", &show(samplers), None, samplers, Some((100.0, " µs")));
    row(
        table,
        "idle, CPU a second, watching a log that has a line every two seconds",
        &show(log),
        None,
        log,
        None,
    );
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("smaps_rollup")?;
    let mb = |name| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix(" kB"));
        line.and_then(|kb| kb.trim().parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
    };
    let (rss, pss) = (mb("Rss:"), mb("Pss:"));
    row(
        table,
        "idle, memory",
        &format!("{rss:.1} MB RSS, {pss:.1} MB PSS"),
        None,
        rss,
        Some((4.0, " MB RSS")),
    );
    Ok(())
}

/// The CPU seconds of the threads of a process that have a name.
fn named_thread_secs(pid: i32, name: &str) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let named = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    });
    let nanos = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    named.filter_map(nanos).sum::<f64>() / 1e9
}

/// From exec to the first 200, without a metadata service and without nginx.
fn start(table: &mut Table) -> anyhow::Result<()> {
    let place = Place::new()?;
    let public = SocketAddr::new(place.ip.into(), 8080);
    let mut took = Vec::new();
    for _ in 0..15 {
        let (listen, admin) = (format!("--listen={public}"), format!("--admin={}:8081", place.ip));
        let mut command = agent::command(&place, &["serve", "--no-nginx", &listen, &admin]);
        command.env("AGENT_IDENTITY_ENDPOINT", format!("http://{}:1", place.ip)).stderr(Stdio::null());
        let begun = Instant::now();
        let mut child = command.spawn()?;
        while !http::get(public, "/health", Duration::from_secs(1)).is_ok_and(|answer| answer.status == 200) {
            ensure!(begun.elapsed() < Duration::from_secs(5), "no 200");
        }
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        child.kill()?;
        child.wait()?;
    }
    let ms = median(took.into_iter());
    row(table, "exec to the first 200", &format!("{ms:.1} ms"), None, ms, Some((10.0, " ms")));
    Ok(())
}

fn size(table: &mut Table) -> anyhow::Result<()> {
    let mb = std::fs::metadata(agent::binary())?.len() as f64 / 1e6;
    row(table, "stripped binary", &format!("{mb:.1} MB"), None, mb, Some((5.0, " MB")));
    Ok(())
}

/// The latency of `/health` with four burners a core at normal priority, as a prompt client sees it.
fn burning(table: &mut Table) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    for (realtime, limit) in [(true, Some(1.0)), (false, None)] {
        let place = Place::new()?;
        agent::configure(&place, &format!("[serve]\nrealtime = {realtime}\n"))?;
        let daemon = Daemon::start(&place, &["--no-nginx"])?;
        let _burners = role(&["burn", &(4 * cores).to_string()])?;
        let permitted = daemon.metric("asg_agent_realtime")? == 1.0;
        // The client must not be late itself: it runs before everybody else.
        let us = std::env::current_exe()?;
        let output = Command::new("chrt")
            .args(["-r", "2"])
            .arg(us)
            .args(["probe", &daemon.public.to_string()])
            .output()
            .context("chrt")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let mut latencies: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        latencies.sort_by(f64::total_cmp);
        ensure!(latencies.len() >= 500, "only {} probes", latencies.len());
        let p99 = latencies[latencies.len() * 99 / 100];
        let name = if realtime && permitted { "SCHED_RR" } else { "normal priority" };
        let what = format!("4 burners a core, {name}: p50 / p99 of a probe");
        let both = format!("{:.2} / {p99:.2} ms", latencies[latencies.len() / 2]);
        row(table, &what, &both, None, p99, limit.map(|limit| (limit, " ms")));
    }
    Ok(())
}

/// `bench probe ADDR`: a thousand probes at 100 a second; prints their latencies in milliseconds.
///
/// # Errors
/// When a probe fails.
pub fn probe(addr: SocketAddr) -> anyhow::Result<Vec<f64>> {
    let mut latencies = Vec::new();
    for _ in 0..1000 {
        // A client with real-time priority must not spin: the others would get nothing.
        std::thread::sleep(Duration::from_millis(10));
        latencies.extend(Client { addr, kept: false }.ask(1, 1)?);
    }
    Ok(latencies.iter().map(|l| l.as_secs_f64() * 1e3).collect())
}

/// `bench bare-axum ADDR`: the peer, axum as its documentation starts it.
///
/// # Errors
/// When the address can't be had.
pub fn bare_axum(addr: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = axum::Router::new().route("/health", axum::routing::get(|| async { "ok" }));
        let listener = tokio::net::TcpListener::bind(addr).await?;
        Ok(axum::serve(listener, router).await?)
    })
}

/// `bench burn N`: N threads that burn until they are killed.
pub fn burn(threads: usize) -> ! {
    for _ in 1..threads {
        std::thread::spawn(|| spin());
    }
    spin()
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Another role of this program, in a process of its own.
fn role(args: &[&str]) -> anyhow::Result<Tool> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args);
    Ok(Tool::start(command)?)
}

/// All threads of a process to one CPU, where there is more than one.
fn pin(pid: i32, cpu: usize) {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
    let mut set = nix::sched::CpuSet::new();
    if set.set(cpu).is_ok() {
        for tid in tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()) {
            let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(tid), &set);
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
