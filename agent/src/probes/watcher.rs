//! The daemon's eye on the probes: a thread of its own, at normal priority, fed by the access log and by probes that
//! arrive at the agent's own listener. It must survive whatever stands in a log.

mod direct;
mod sources;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

pub use direct::Direct;

use super::Settings;
use super::follow::{Follow, now_ms, recently};
use super::timeline::Clock;
use crate::access_log::locate::Located;
use crate::cadence::NodeReport;
use crate::cadence::verdict::Reason;
use crate::logtail::wait::{News, POLL, Waiter};
use crate::logtail::{Checkpoint, Gap};
use direct::{Seen, Wake};
use sources::Sources;

/// How often the place in the log is written down, where it has changed; besides at the end. Who is killed in between
/// reads these lines again, and counts from zero anyway.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);
/// How often a log is looked for where there is none, and nginx's configuration for changes.
const SEARCH_EVERY: Duration = Duration::from_secs(5);
/// The same where lines can't be read: nginx may have been reloaded with another format.
const SEARCH_SOON: Duration = Duration::from_millis(500);
/// Where no probe comes for so long, logs are looked for though no file of the configuration has changed: nginx may run
/// by another one.
const SEARCH_QUIET: Duration = Duration::from_secs(600);
/// How far back what is new to us is read, besides the time since it was last looked for: reloading takes a moment.
const RELOADING_MS: i64 = 2000;
/// A log that the configuration no longer names is let go once nobody has written to it for so long.
const LEFT: Duration = Duration::from_secs(60);
/// The verdict also changes with the time that passes: it is published so often though nothing came.
const PUBLISH_IDLE: Duration = Duration::from_secs(5);
/// What changed is published at most so often.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);

/// What was missing longer ago doesn't make the verdict any more.
const WINDOW: Duration = Duration::from_secs(900);

/// What is known of the probes.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// The log that is followed, there or not; the first of several.
    pub log: Option<PathBuf>,
    /// All logs that are followed.
    pub logs: Vec<PathBuf>,
    /// Whether it is there and is being read.
    pub reading: bool,
    /// Why it isn't.
    pub trouble: Option<String>,
    /// Whether the cadence is confirmed.
    pub confirmed: bool,
    /// Why, or why not.
    pub reason: Reason,
    /// The same for people.
    pub explanation: String,
    /// The interval.
    pub expected_ms: Option<i64>,
    /// How far one may be off.
    pub tolerance_ms: Option<i64>,
    /// Every node.
    pub nodes: Vec<NodeReport>,
    /// Lines read.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Probes in the log.
    pub probes: u64,
    /// Probes that came to the agent's own listener.
    pub direct_probes: u64,
    /// Of those, how many found no place in the queue and were not counted by node.
    pub direct_dropped: u64,
    /// Lines with the load balancer's User-Agent that didn't come from it.
    pub spoofed: u64,
    /// Lines that were too long.
    pub overlong: u64,
    /// Lines that name the load balancer and aren't of the format.
    pub unparsed: u64,
    /// Whether a forged User-Agent would show.
    pub verifiable: bool,
    /// How often lines may have been lost.
    pub gaps: u64,
    /// How, the last time.
    pub last_gap: Option<Gap>,
    /// Why the place in the log can't be kept over a restart.
    pub checkpoint_trouble: Option<String>,
}

/// The running thread. Dropped, it writes down its place and ends.
#[derive(Debug)]
pub struct Watcher {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    direct: Direct,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// What is known, always the latest.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// A handle for who answers probes itself.
    pub fn direct(&self) -> Direct {
        self.direct.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.wake.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts watching. Where there is no log yet, it waits for one quietly and says so in the snapshot. `conf` is nginx's
/// main configuration file, where it isn't in a usual place.
///
/// # Errors
/// When no thread or descriptor can be had.
pub fn start(settings: Settings, conf: Option<PathBuf>, state_dir: &Path) -> std::io::Result<Watcher> {
    start_by(Clock::default(), settings, conf, state_dir)
}

/// The same by these clocks.
fn start_by(
    clock: Clock,
    settings: Settings,
    conf: Option<PathBuf>,
    state_dir: &Path,
) -> std::io::Result<Watcher> {
    let wake = Arc::new(Wake::new()?);
    let (direct, seen) = Direct::new(Arc::clone(&wake));
    let mut eye = Eye {
        clock,
        settings,
        conf,
        state: state_dir.to_owned(),
        follow: None,
        written: Vec::new(),
        logs: Vec::new(),
        sources: Sources::default(),
        located_ms: now_ms(),
        trouble: None,
        checkpoint_trouble: None,
        direct_probes: 0,
    };
    let (publish, snapshots) = watch::channel(Arc::new(eye.snapshot(&direct)));
    let thread = std::thread::Builder::new().name("probes".into()).spawn({
        let (wake, direct) = (Arc::clone(&wake), direct.clone());
        move || eye.run(&publish, &wake, &direct, &seen)
    })?;
    Ok(Watcher { snapshots, direct, wake, thread: Some(thread) })
}

/// All that the thread owns.
struct Eye {
    clock: Clock,
    settings: Settings,
    conf: Option<PathBuf>,
    state: PathBuf,
    follow: Option<Follow>,
    written: Vec<Checkpoint>,
    logs: Vec<PathBuf>,
    /// What says which logs these are.
    sources: Sources,
    /// When that was last looked at, milliseconds since 1970.
    located_ms: i64,
    trouble: Option<String>,
    checkpoint_trouble: Option<String>,
    direct_probes: u64,
}

impl Eye {
    fn run(
        &mut self,
        publish: &watch::Sender<Arc<Snapshot>>,
        wake: &Wake,
        direct: &Direct,
        seen: &Receiver<Seen>,
    ) {
        let mut waiter = Waiter::default();
        let (mut searched, mut published, mut kept) = (None::<Instant>, Instant::now(), Instant::now());
        let mut news = News::None;
        let (mut before, mut unparsed, mut quiet_since) = (0, 0, Instant::now());
        while !wake.is_over() {
            let now_unparsed = self.follow.as_ref().map_or(0, |f| f.traffic().unparsed);
            let every = if now_unparsed > unparsed { SEARCH_SOON } else { SEARCH_EVERY };
            if searched.is_none_or(|at| at.elapsed() >= every) {
                (searched, unparsed) = (Some(Instant::now()), now_unparsed);
                let is_quiet = quiet_since.elapsed() >= SEARCH_QUIET;
                if is_quiet {
                    quiet_since = Instant::now();
                }
                if self.logs.is_empty() {
                    self.search();
                } else {
                    self.search_again(is_quiet);
                }
            }
            self.look(news);
            for one in seen.try_iter() {
                self.take(&one);
            }
            let probes = self.follow.as_ref().map_or(0, |f| f.traffic().probes) + self.direct_probes;
            if published.elapsed() >= PUBLISH_IDLE
                || (probes != before && published.elapsed() >= PUBLISH_EVERY)
            {
                if probes != before {
                    quiet_since = Instant::now();
                }
                (published, before) = (Instant::now(), probes);
                publish.send_replace(Arc::new(self.snapshot(direct)));
            }
            if kept.elapsed() >= CHECKPOINT_EVERY {
                kept = Instant::now();
                self.keep_place();
            }
            let limit = if probes == before { POLL } else { PUBLISH_EVERY };
            let tails = self.follow.as_ref().map(|f| f.logs.tails()).unwrap_or_default();
            let woken;
            (news, woken) = waiter.wait(&tails, &[wake.fd()], limit);
            wake.clear(woken == [true]);
        }
        self.look(News::None);
        self.keep_place();
    }

    /// Looks for a log; what was counted without one goes on being counted.
    fn search(&mut self) {
        let located = match self.settings.locate(self.conf.as_deref()) {
            Ok(located) => located,
            Err(e) => {
                self.trouble = Some(e.to_string());
                let nowhere =
                    || Follow::by(self.clock.clone(), &Located::default(), recently(), &self.settings, &[]);
                self.follow.get_or_insert_with(nowhere);
                return;
            }
        };
        let checkpoints = Checkpoint::read(&self.state).unwrap_or_else(|e| {
            tracing::warn!("cannot go on at the old place in the access log: {e}");
            Vec::new()
        });
        let clock = self.clock.clone();
        let mut follow = Follow::by(clock, &located, recently(), &self.settings, &checkpoints);
        if let Some(before) = self.follow.take() {
            follow.go_on_with(before);
        }
        self.sources = Sources::of(&located.sources);
        self.logs = located.logs.into_iter().map(|log| log.path).collect();
        (self.follow, self.written, self.located_ms) = (Some(follow), checkpoints, now_ms());
    }

    /// Looks again where nginx's configuration has changed, or `anyway`. nginx itself goes on as before until it is
    /// reloaded, so what it wrote to before is read on for as long as it does.
    fn search_again(&mut self, anyway: bool) {
        let Some(follow) = &mut self.follow else { return };
        let since_ms = std::mem::replace(&mut self.located_ms, now_ms()) - RELOADING_MS;
        if anyway || self.sources.changed() {
            match self.settings.locate(self.conf.as_deref()) {
                Ok(located) => {
                    self.sources = Sources::of(&located.sources);
                    follow.relocate(&located, since_ms);
                }
                Err(e) => {
                    // Perhaps only half of it is written yet: the next change tells.
                    self.sources.refresh();
                    tracing::warn!(
                        "nginx's configuration has changed, and the logs are followed as before: {e}"
                    );
                }
            }
        }
        follow.logs.let_go(LEFT);
        self.logs = follow.logs.each().map(|(log, ..)| log.path.clone()).collect();
    }

    fn look(&mut self, news: News) {
        let Some(follow) = self.follow.as_mut().filter(|_| !self.logs.is_empty()) else { return };
        let trouble = follow.look(news, &mut |_, _| {}).err().map(|e| e.to_string());
        if trouble != self.trouble {
            if let Some(trouble) = &trouble {
                tracing::warn!("cannot read the access log {trouble}");
            }
            self.trouble = trouble;
        }
    }

    fn take(&mut self, seen: &Seen) {
        self.direct_probes += 1;
        if let Some(follow) = &mut self.follow {
            follow.direct(seen.node, seen.path(), seen.status, seen.at_ms);
        }
    }

    fn keep_place(&mut self) {
        let Some(follow) = self.follow.as_ref().filter(|_| !self.logs.is_empty()) else { return };
        let places: Vec<Checkpoint> = follow.logs.tails().iter().map(|tail| tail.checkpoint()).collect();
        let same = |written: &Checkpoint| places.iter().any(|place| written.same_place(place));
        if self.written.len() == places.len() && self.written.iter().all(same) {
            return;
        }
        let written = Checkpoint::write(&places, &self.state);
        let trouble = written.err().map(|e| format!("{}: {e}", self.state.display()));
        if trouble.is_some() && self.checkpoint_trouble.is_none() {
            tracing::warn!(
                "cannot keep the place in the access log: {}",
                trouble.as_deref().unwrap_or_default()
            );
        }
        self.checkpoint_trouble = trouble;
        self.written = places;
    }

    fn snapshot(&self, direct: &Direct) -> Snapshot {
        let follow = self.follow.as_ref();
        let verdict = follow.map(|f| f.verdict(Some(WINDOW)));
        let traffic = follow.map(Follow::traffic).unwrap_or_default();
        let reason = verdict.as_ref().map_or(Reason::NoLog, |v| v.reason);
        Snapshot {
            log: self.logs.first().cloned(),
            logs: self.logs.clone(),
            reading: follow.is_some_and(|f| f.logs.is_there()),
            trouble: self.trouble.clone(),
            confirmed: reason == Reason::OnTime,
            reason,
            explanation: verdict.as_ref().map_or(reason.explain().to_owned(), |v| v.explanation.clone()),
            expected_ms: verdict.as_ref().and_then(|v| v.expected).map(|e| e.interval_ms),
            tolerance_ms: verdict.as_ref().and_then(|v| v.expected).map(|e| e.tolerance_ms),
            nodes: verdict.map(|v| v.nodes).unwrap_or_default(),
            lines: traffic.lines,
            bytes: traffic.bytes,
            probes: traffic.probes,
            direct_probes: self.direct_probes,
            direct_dropped: direct.dropped(),
            spoofed: traffic.spoofed,
            overlong: follow.map_or(0, |f| f.logs.overlong()),
            unparsed: traffic.unparsed,
            verifiable: follow.is_some_and(Follow::verifiable),
            gaps: follow.map_or(0, |f| f.gaps),
            last_gap: follow.and_then(|f| f.last_gap),
            checkpoint_trouble: self.checkpoint_trouble.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
