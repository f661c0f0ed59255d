//! The chapters in which nothing fails, and how verbs are run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::interrupt::{Interrupt, Interrupted};
use super::stage::{Stage, Target};
use super::summary::latency;
use super::traffic::Clients;
use super::voice::Voice;
use crate::agent::Running;
use crate::alb::State;
use crate::http;

/// Who tells it.
pub(super) struct Story {
    pub(super) interrupt: Interrupt,
    pub(super) voice: Voice,
    pub(super) interval: Duration,
}

impl Story {
    pub(super) fn chapters(&mut self, stage: &Stage, folder: &Path) -> anyhow::Result<()> {
        self.introduce(stage)?;
        self.offer_view(stage)?;
        self.probes(stage)?;
        self.stress(stage)?;
        self.fail(stage, folder)?;
        self.picture(stage, folder)
    }

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
            "The load balancer has two nodes, {}. Each probes both targets every {every} s,",
            nodes.join(" and ")
        ));
        voice.say("on its own schedule: two failures in a row make a target unhealthy, two successes healthy again.");
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
        let span = format!("{}s", 3.0 * self.interval.as_secs_f64());
        self.voice.say(&format!("It watches nginx's access log for {span}."));
        self.run(&stage.targets[0], &["probes", "--expect", &every, "--for", &span], &[0])
    }

    /// CPU load, while `/health` is asked through nginx and at the agent itself.
    fn stress(&self, stage: &Stage) -> anyhow::Result<()> {
        self.voice.chapter("3. agent stress: /health stays prompt while a CPU burns");
        self.voice.say(
            "Clients on this same machine ask all the while; their own waits for a CPU count against it.",
        );
        let target = &stage.targets[0];
        let both = [target.nginx.addr, target.health];
        let ways = ["through nginx", "the agent itself"];
        let pace = Duration::from_millis(20);
        let calm = Clients::start(&both, "/health", pace);
        self.interrupt.pause(Duration::from_secs(1))?;
        let calm = calm.stop();
        let burning = Clients::start(&both, "/health", pace);
        let secs = self.interval.as_secs_f64().to_string();
        // 1: on a machine that is busy with other work the load isn't reached, since stress gives way to it.
        self.run(target, &["stress", "--cpu", "1", "--secs", &secs], &[0, 1])?;
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

    /// Runs a verb to its end, showing what it prints; with any exit code but these the story ends.
    pub(super) fn run(&self, target: &Target, args: &[&str], fine: &[i32]) -> anyhow::Result<()> {
        self.say_command(args);
        let mut verb = target.agent(args)?;
        let result = self.show(&mut verb);
        if result.is_err() {
            let _ = verb.signal(Signal::SIGTERM);
            let _ = verb.wait(Duration::from_secs(5));
        }
        result?;
        let status = verb.wait(Duration::from_secs(5))?;
        if !status.code().is_some_and(|code| fine.contains(&code)) {
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

    pub(super) fn say_command(&self, args: &[&str]) {
        // Of the files only the names matter.
        let short = args.iter().map(|arg| match arg.rsplit_once('/') {
            Some((folder, file)) if folder.starts_with('/') => file,
            _ => *arg,
        });
        self.voice.command(&format!("agent {}", short.collect::<Vec<_>>().join(" ")));
    }
}
