//! The story of `make demo`.
//!
//! `stage`: what it needs · `traffic`: the clients · `summary`: what they saw · `voice`: how it is told ·
//! `interrupt`: how it ends early.

mod interrupt;
mod stage;
mod summary;
mod traffic;
mod voice;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use crate::agent::Running;
use crate::alb::{Event, Events, State};
use crate::http;
use interrupt::{Interrupt, Interrupted};
use stage::{Stage, Target};
use summary::{latency, outage, strip};
use traffic::{Clients, Seen};
use voice::{Tone, Voice};

/// The probes' interval of the story; tests tell it faster.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells the story; `interval` is the first argument, in seconds. The exit code is 0, 1 when something was not as
/// told, or 128 and the signal's number.
pub fn main(interval: Option<&str>) -> ExitCode {
    let voice = Voice::new();
    let interval = match interval.map(|text| text.parse().map(Duration::from_secs_f64)) {
        None => INTERVAL,
        Some(Ok(interval)) if interval >= Duration::from_millis(500) => interval,
        Some(_) => {
            voice.say("usage: demo [SECONDS BETWEEN PROBES, 5 unless told, at least 0.5]");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    match tell(voice, interval) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let voice = Voice::new();
            voice.say(&format!("\nended after {:.0} s: {e:#}", start.elapsed().as_secs_f64()));
            match e.downcast_ref() {
                Some(Interrupted(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn tell(voice: Voice, interval: Duration) -> anyhow::Result<()> {
    let interrupt = Interrupt::watch()?;
    let mut story = Story { interrupt, voice, interval };
    story.voice.chapter("agent: the four jobs in a minute");
    let stage = Stage::build(interval, &story.interrupt)?;
    story.introduce(&stage)?;
    story.probes(&stage)?;
    story.stress(&stage)?;
    story.fail(&stage)?;
    drop(stage);
    story.voice.chapter("The end");
    story.voice.say("Both nginx, both agents and the load balancer are gone, and so are their files.");
    Ok(())
}

struct Story {
    interrupt: Interrupt,
    voice: Voice,
    interval: Duration,
}

impl Story {
    fn introduce(&self, stage: &Stage) -> anyhow::Result<()> {
        let (voice, every) = (&self.voice, self.interval.as_secs_f64());
        let nodes: Vec<String> = stage.alb.addrs().iter().map(|addr| addr.to_string()).collect();
        let [one, two] = &stage.targets[..] else { bail!("two targets") };
        voice.say(&format!(
            "clients -> load balancer -+-> {}  nginx + agent serve  {}",
            one.nginx.addr, one.id
        ));
        voice.say(&format!(
            "           (simulated)    +-> {}  nginx + agent serve  {}",
            two.nginx.addr, two.id
        ));
        voice.say(&format!(
            "The load balancer has two nodes, {}. Each probes both targets every {every} s, on its own schedule; \
             two failures in a row make a target unhealthy, two successes healthy again.",
            nodes.join(" and ")
        ));
        voice.chapter("1. /health: what the load balancer asks for");
        for target in &stage.targets {
            voice.command(&format!("curl http://{}/health", target.nginx.addr));
            let answer = http::get(target.nginx.addr, "/health", Duration::from_secs(2))?;
            voice.output(&format!("{} {}", answer.status, answer.body.trim()));
            stage.alb.wait_for(target.nginx.addr, State::Healthy, 3 * self.interval)?;
        }
        voice.say("Each nginx passes the question on to its own agent. Both nodes see both targets healthy.");
        Ok(self.interrupt.check()?)
    }

    /// The cadence, from the access log of the first target.
    fn probes(&self, stage: &Stage) -> anyhow::Result<()> {
        let every = format!("{}s", self.interval.as_secs_f64());
        self.voice.chapter(&format!("2. agent probes: does the load balancer ask every {every}?"));
        let target = &stage.targets[0];
        let log = target.nginx.access_log();
        let span = format!("{}s", (self.interval * 3).as_secs_f64() + 1.0);
        let log = log.display().to_string();
        let args = ["probes", "--log", &log, "--expect", &every, "--from-start", "--for", &span];
        self.run(target, &args)
    }

    /// CPU load, while `/health` is asked through nginx and at the agent itself.
    fn stress(&self, stage: &Stage) -> anyhow::Result<()> {
        self.voice.chapter("3. agent stress: /health stays prompt while a CPU burns");
        let target = &stage.targets[0];
        let both = [target.nginx.addr, target.health];
        let ways = ["through nginx", "the agent itself"];
        let pace = Duration::from_millis(20);
        let calm = Clients::start(&both, "/health", pace);
        self.interrupt.pause(Duration::from_secs(1))?;
        let calm = calm.stop();
        let burning = Clients::start(&both, "/health", pace);
        self.run(target, &["stress", "--cpu", "1", "--secs", "5"])?;
        for ((way, calm), burning) in ways.iter().zip(calm).zip(burning.stop()) {
            let (before, _, _) = latency(&calm).context("nobody asked for /health")?;
            let (median, worst, failed) = latency(&burning).context("nobody asked for /health")?;
            self.voice.say(&format!(
                "/health, {way:<16}: {} requests, {failed} not 200, median {median:.2} ms ({before:.2} ms before), \
                 worst {worst:.1} ms",
                burning.len()
            ));
        }
        Ok(())
    }

    /// The fault on the second target, as the clients live through it.
    fn fail(&mut self, stage: &Stage) -> anyhow::Result<()> {
        self.voice.chapter("4. agent fail: one nginx stops, and comes back by itself");
        let target = &stage.targets[1];
        let clients = Clients::start(&stage.alb.addrs(), "/", Duration::from_millis(100));
        self.interrupt.pause(Duration::from_secs(1))?;
        let secs = format!("{}", (4 * self.interval).as_secs_f64());
        let conf = target.nginx.conf.display().to_string();
        let args = ["fail", "--mode", "stop", "--secs", &secs, "--conf", &conf];
        self.say_command(&args);
        let mut events = stage.alb.events().from_now();
        let zero = self.voice.count_from_now();
        let mut fail = target.agent(&args)?;
        let watched = self.watch(stage, target, &mut events, &mut fail);
        if watched.is_err() {
            let _ = fail.signal(Signal::SIGTERM);
            let _ = fail.wait(Duration::from_secs(15));
        }
        watched?;
        self.sum_up(stage, zero, &clients.stop());
        Ok(())
    }

    /// Follows the fault until the verb has ended and every node sees the target healthy again.
    fn watch(
        &self,
        stage: &Stage,
        target: &Target,
        events: &mut Events,
        fail: &mut Running,
    ) -> anyhow::Result<()> {
        let step = Duration::from_millis(50);
        let mut errors = vec![false; stage.alb.addrs().len()];
        let mut ended = None;
        let end = Instant::now() + 8 * self.interval + Duration::from_secs(20);
        loop {
            self.interrupt.check()?;
            while let Ok(Some(line)) = fail.line(Duration::ZERO) {
                self.voice.happens(Instant::now(), Tone::Plain, &format!("agent: {}", line.trim()));
            }
            while let Some(event) = events.next(step) {
                self.tell(stage, &event, &mut errors);
                self.interrupt.check()?;
            }
            if ended.is_none() {
                ended = fail.wait(Duration::ZERO).ok();
            } else if seen_by_all(stage, target.nginx.addr, State::Healthy) {
                break;
            }
            if Instant::now() > end {
                bail!("{} did not come back: {}", target.nginx.addr, fail.stderr().trim());
            }
        }
        let status = ended.context("agent fail did not end")?;
        if !status.success() {
            bail!("agent fail: {status}: {}", fail.stderr().trim());
        }
        // Whether it really is over shows in the requests after it.
        Ok(self.interrupt.pause(self.interval / 2)?)
    }

    fn tell(&self, stage: &Stage, event: &Event, errors: &mut [bool]) {
        let node = |number: usize| stage.alb.addrs()[number].ip();
        match event {
            Event::Transition(t) => {
                let tone = if t.to.state == State::Healthy { Tone::Good } else { Tone::Bad };
                let why = t.to.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                let (from, to) = (t.from, t.to.state);
                let text = format!("node {}: {} was {from}, is {to}{why}", node(t.node), t.target);
                self.voice.happens(t.at, tone, &text);
            }
            Event::Request(r) if r.status != 200 && !errors[r.node] => {
                errors[r.node] = true;
                let text = format!("node {}: clients begin to get {}", node(r.node), r.status);
                self.voice.happens(r.at, Tone::Bad, &text);
            }
            _ => {}
        }
    }

    fn sum_up(&self, stage: &Stage, zero: Instant, seen: &[Vec<Seen>]) {
        let voice = &self.voice;
        voice.chapter("What the clients saw");
        let secs = |at: Instant| at.saturating_duration_since(zero).as_secs_f64();
        for (node, seen) in stage.alb.addrs().iter().zip(seen) {
            voice.say(&match outage(seen.iter()) {
                None => format!("node {}: {} requests, no error", node.ip(), seen.len()),
                Some(o) => format!(
                    "node {}: {} requests, {} errors, the first at {:.1} s, the last at {:.1} s: {:.1} s of outage",
                    node.ip(),
                    seen.len(),
                    o.errors,
                    secs(o.first),
                    secs(o.last),
                    (o.last - o.first).as_secs_f64()
                ),
            });
        }
        if let Some(o) = outage(seen.iter().flatten()) {
            voice.say(&format!(
                "Outage window, all nodes: {:.1} s (from {:.1} s to {:.1} s after the fault began)",
                (o.last - o.first).as_secs_f64(),
                secs(o.first),
                secs(o.last)
            ));
        }
        let all: Vec<&Seen> = seen.iter().flatten().collect();
        let column = self.interval / 5;
        let last = all.iter().map(|one| one.at).max().unwrap_or(zero);
        let columns =
            usize::try_from((last - zero).as_nanos() / column.as_nanos()).unwrap_or_default().min(100) + 1;
        voice.say("");
        voice.say(&format!("Who answered when (each mark {} s):", column.as_secs_f64()));
        for target in &stage.targets {
            let answered = |one: &Seen| one.instance.as_deref() == Some(target.id);
            voice.say(&format!("{:<20} {}", target.id, strip(&all, zero, column, columns, answered)));
        }
        voice.say(&format!(
            "{:<20} {}",
            "errors",
            strip(&all, zero, column, columns, |one| one.status != 200)
        ));
    }

    /// Runs a verb to its end, showing what it prints.
    fn run(&self, target: &Target, args: &[&str]) -> anyhow::Result<()> {
        self.say_command(args);
        let mut verb = target.agent(args)?;
        let result = self.show(&mut verb);
        if result.is_err() {
            let _ = verb.signal(Signal::SIGTERM);
            let _ = verb.wait(Duration::from_secs(5));
        }
        result?;
        let status = verb.wait(Duration::from_secs(5))?;
        if !status.success() {
            bail!("agent {}: {status}: {}", args[0], verb.stderr().trim());
        }
        Ok(())
    }

    fn show(&self, verb: &mut Running) -> Result<(), Interrupted> {
        loop {
            self.interrupt.check()?;
            match verb.line(Duration::from_millis(50)) {
                Ok(Some(line)) => self.voice.output(&line),
                Ok(None) => return Ok(()),
                Err(_) => {} // not yet
            }
        }
    }

    fn say_command(&self, args: &[&str]) {
        let short = args.iter().map(|arg| arg.rsplit_once("nginx/").map_or(*arg, |(_, file)| file));
        self.voice.command(&format!("agent {}", short.collect::<Vec<_>>().join(" ")));
    }
}

fn seen_by_all(stage: &Stage, target: SocketAddr, state: State) -> bool {
    stage.alb.snapshot().iter().filter(|seen| seen.target == target).all(|seen| seen.health.state == state)
}
