//! The chapter in which an nginx stops: a drill, and beside it what the load balancer itself does.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::stage::Stage;
use super::story::Story;
use super::voice::Tone;
use crate::agent::Running;
use crate::alb::{Event, Events, State};

impl Story {
    /// The drill on the second target; its report goes to `folder`.
    pub(super) fn fail(&mut self, stage: &Stage, folder: &Path) -> anyhow::Result<()> {
        self.voice.chapter("4. agent drill: one nginx stops, and what its clients lose is measured");
        self.voice.say(
            "A stopped nginx refuses; the load balancer answers 502 until each node has seen two probes fail.",
        );
        self.voice.say(
            "The drill knows the rhythm of the probes from nginx's log, predicts, measures, and compares.",
        );
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let report = std::path::absolute(folder.join("report.html"))?;
        let target = &stage.targets[1];
        let addrs = stage.alb.addrs();
        let nodes: Vec<String> = addrs.iter().map(|addr| addr.ip().to_string()).collect();
        let secs = |time: Duration| format!("{}s", time.as_secs_f64());
        let url = format!("http://alb.demo:{}/", addrs.first().context("no node")?.port());
        let (fault, timeout) = (secs(4 * self.interval), secs(self.interval.mul_f64(0.4)));
        let (nodes, baseline) = (nodes.join(","), secs(Duration::from_secs(2)));
        let conf = target.nginx.conf.display().to_string();
        let page = report.display().to_string();
        let args = [
            "drill",
            "failover",
            "--url",
            &url,
            "--resolve",
            &nodes,
            "--mode",
            "stop",
            "--secs",
            &fault,
            "--timeout",
            &timeout,
            "--healthy",
            "2",
            "--unhealthy",
            "2",
            "--baseline",
            &baseline,
            "--conf",
            &conf,
            "--report",
            &page,
        ];
        self.say_command(&args);
        let mut events = stage.alb.events().from_now();
        self.voice.count_from_now();
        let mut drill = target.agent(&args)?;
        let watched = self.watch(stage, &mut events, &mut drill);
        if watched.is_err() {
            let _ = drill.signal(Signal::SIGTERM);
            let _ = drill.wait(Duration::from_secs(15));
        }
        watched?;
        self.voice.say(&format!("The same as a page: {page}"));
        Ok(())
    }

    /// Shows what the drill says and what the load balancer does, until the drill has ended.
    fn watch(&self, stage: &Stage, events: &mut Events, drill: &mut Running) -> anyhow::Result<()> {
        let step = Duration::from_millis(50);
        let end = Instant::now() + 10 * self.interval + Duration::from_secs(60);
        loop {
            self.interrupt.check()?;
            while let Some(event) = events.next(Duration::ZERO) {
                self.tell(stage, &event);
            }
            match drill.line(step) {
                Ok(Some(line)) => self.voice.output(&line),
                Ok(None) => break,
                Err(_) if Instant::now() > end => {
                    bail!("agent drill does not end: {}", drill.stderr().trim())
                }
                Err(_) => {} // not yet
            }
        }
        let status = drill.wait(Duration::from_secs(5))?;
        // 1: on a machine that is busy with other work the prediction may be missed, and the drill says so.
        if !matches!(status.code(), Some(0 | 1)) {
            bail!("agent drill: {status}: {}", drill.stderr().trim());
        }
        Ok(())
    }

    fn tell(&self, stage: &Stage, event: &Event) {
        let Event::Transition(t) = event else { return };
        let tone = if t.to.state == State::Healthy { Tone::Good } else { Tone::Bad };
        let why = t.to.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let (node, from, to) = (stage.alb.addrs()[t.node].ip(), t.from, t.to.state);
        self.voice.happens(t.at, tone, &format!("node {node}: {} was {from}, is {to}{why}", t.target));
    }
}
