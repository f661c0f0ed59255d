//! The chapter in which an nginx stops, as the load balancer and its clients live through it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::stage::{Stage, Target};
use super::story::Story;
use super::summary::{outage, strip};
use super::traffic::{Clients, Seen};
use super::voice::Tone;
use crate::agent::Running;
use crate::alb::{Event, Events, State};

impl Story {
    /// The fault on the second target, as the clients live through it.
    pub(super) fn fail(&mut self, stage: &Stage) -> anyhow::Result<()> {
        self.voice.chapter("4. agent fail: one nginx stops, and comes back by itself");
        let (least, most) = (self.interval.as_secs_f64(), (2 * self.interval).as_secs_f64());
        self.voice.say(
            "A stopped nginx refuses; the load balancer answers 502 until each node has seen two probes fail,",
        );
        self.voice.say(&format!(
            "{least} to {most} s later. {} requests a second show it.",
            10 * stage.alb.addrs().len()
        ));
        let target = &stage.targets[1];
        let clients = Clients::start(&stage.alb.addrs(), "/", Duration::from_millis(100));
        self.interrupt.pause(Duration::from_secs(1))?;
        let secs = (4 * self.interval).as_secs_f64().to_string();
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
                self.voice.happens(Instant::now(), Tone::Plain, &format!("agent: {}", undated(&line)));
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
                "Outage window, all nodes: {:.1} s (from {:.1} s to {:.1} s after the fault was asked for).",
                (o.last - o.first).as_secs_f64(),
                secs(o.first),
                secs(o.last)
            ));
            let since = seen.iter().flatten().filter(|one| one.at > o.last).count();
            voice.say(&format!("Since then {since} requests, each answered with 200."));
        }
        let all: Vec<&Seen> = seen.iter().flatten().collect();
        let column = self.interval / 5;
        let last = all.iter().map(|one| one.at).max().unwrap_or(zero);
        let columns =
            usize::try_from((last - zero).as_nanos() / column.as_nanos()).unwrap_or_default().min(100) + 1;
        voice.say("");
        voice.say(&format!("Who answered when (a mark is {} s):", column.as_secs_f64()));
        for target in &stage.targets {
            let answered = |one: &Seen| one.instance.as_deref() == Some(target.id);
            voice.say(&format!("{:<20} {}", target.id, strip(&all, zero, column, columns, '#', answered)));
        }
        let failed = |one: &Seen| one.status != 200;
        voice.say(&format!("{:<20} {}", "errors", strip(&all, zero, column, columns, 'x', failed)));
        let end = format!("{:.0} s", secs(last));
        voice.say(&format!("{:<20} {:<width$}{end}", "", "0 s", width = columns.saturating_sub(end.len())));
    }
}

/// A line without the time that it begins with: the story has a clock of its own.
fn undated(line: &str) -> &str {
    match line.trim().split_once(' ') {
        Some((first, rest)) if first.parse::<jiff::Timestamp>().is_ok() => rest.trim_start(),
        _ => line.trim(),
    }
}

fn seen_by_all(stage: &Stage, target: SocketAddr, state: State) -> bool {
    stage.alb.snapshot().iter().filter(|seen| seen.target == target).all(|seen| seen.health.state == state)
}
