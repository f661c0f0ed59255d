//! The one task that owns what is known of this target: it asks nginx, hears of identity, faults and pressure, and
//! publishes the board and the report. Nothing here can block: disks are asked elsewhere, nginx with a deadline.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep_until};

use super::attempt::{Nonce, Outcome, attempt};
use super::board::{Board, Published};
use super::host::HostSample;
use super::hysteresis::{Hysteresis, State};
use super::injected::Injected;
use super::report::{Check, FaultReport, Report, Status};
use super::{Settings, host};
use crate::identity::{Identity, Notice};
use crate::nginx::target::{self, Expect, Found};
use crate::sys::clock;

/// How often the fault record is looked at.
const LOOK_AT_FAULT: Duration = Duration::from_millis(500);
/// How often the address is looked up again while nothing answers there.
const FIND_AGAIN: Duration = Duration::from_secs(2);

/// What the sampler is told at the start.
#[derive(Debug)]
pub struct Inputs {
    /// `[health]`
    pub settings: Settings,
    /// `[nginx]`
    pub nginx: target::Settings,
    /// The folder of the fault record.
    pub state: PathBuf,
    /// Who this is.
    pub identity: watch::Receiver<Identity>,
    /// The notices that turn `/health` to 503.
    pub drain_on: Vec<Notice>,
    /// Marks our own checks.
    pub nonce: Nonce,
}

/// Starts sampling on the current runtime; ends with the receivers of the report.
///
/// # Errors
/// When no thread can be started.
pub fn start(inputs: Inputs) -> std::io::Result<(Arc<Board>, watch::Receiver<Report>)> {
    let now = Instant::now();
    let board = Arc::new(Board::new(now));
    let (host, stop_host) = host::start()?;
    let mut injected = Injected::new(&inputs.state);
    injected.look();
    let answers = Published::answers(&inputs.identity.borrow());
    let sampler = Sampler {
        hysteresis: Hysteresis::new(inputs.settings.fall, inputs.settings.rise),
        found: target::find(&inputs.nginx),
        found_at: now,
        seen: false,
        last: None,
        answers,
        injected,
        host,
        board: board.clone(),
        inputs,
    };
    let (publish, report) = watch::channel(sampler.report(now));
    tokio::spawn(async move {
        sampler.run(publish).await;
        drop(stop_host);
    });
    Ok((board, report))
}

struct Sampler {
    inputs: Inputs,
    hysteresis: Hysteresis,
    found: Option<Found>,
    found_at: Instant,
    /// Whether an nginx answered since the start: from then on its silence is a failure.
    seen: bool,
    last: Option<(Outcome, Instant)>,
    answers: Arc<(super::Answer, super::Answer)>,
    injected: Injected,
    host: watch::Receiver<Option<HostSample>>,
    board: Arc<Board>,
}

impl Sampler {
    async fn run(mut self, publish: watch::Sender<Report>) {
        let mut asking: JoinSet<Outcome> = JoinSet::new();
        let mut next = Instant::now();
        let mut look = interval(LOOK_AT_FAULT);
        let mut identity = self.inputs.identity.clone();
        let mut identity_lives = true;
        loop {
            tokio::select! {
                () = sleep_until(next.into()) => {
                    let start = Instant::now();
                    match &self.found {
                        Some(found) => {
                            let (target, nonce) = (found.target.clone(), self.inputs.nonce.clone());
                            let limit = self.inputs.settings.timeout.0;
                            asking.spawn(async move { attempt(&target, &nonce, limit).await });
                            // Until it is answered the next question is due early: a second opinion.
                            next = start + self.inputs.settings.retry.0;
                            continue;
                        }
                        None => next = start + self.inputs.settings.interval.0,
                    }
                }
                Some(Ok(outcome)) = asking.join_next() => {
                    if self.observe(outcome) && asking.is_empty() {
                        next = Instant::now() + self.inputs.settings.interval.0;
                    }
                }
                changed = identity.changed(), if identity_lives => {
                    identity_lives = changed.is_ok();
                    self.answers = Published::answers(&identity.borrow_and_update());
                }
                _ = look.tick() => if !self.injected.look() { continue },
                () = publish.closed() => return,
            }
            self.publish(&publish);
        }
    }

    /// Takes the outcome of a question; says whether nginx is well.
    fn observe(&mut self, outcome: Outcome) -> bool {
        let ok = outcome.is_ok();
        self.seen |= ok;
        if self.hysteresis.observe(ok) {
            let target = self.found.as_ref().map(|f| f.target.to_string()).unwrap_or_default();
            match ok {
                true => tracing::info!("nginx at {target} {outcome}"),
                false if self.is_expected() => tracing::warn!("nginx at {target}: {outcome}"),
                false => tracing::info!("no nginx at {target}"),
            }
        }
        let now = Instant::now();
        if !ok && now.duration_since(self.found_at) > FIND_AGAIN {
            self.found = target::find(&self.inputs.nginx);
            self.found_at = now;
        }
        self.last = Some((outcome, now));
        ok && self.hysteresis.state() == State::Up
    }

    fn is_expected(&self) -> bool {
        self.seen || self.found.as_ref().is_some_and(|f| f.expected)
    }

    fn publish(&self, publish: &watch::Sender<Report>) {
        let now = Instant::now();
        let report = self.report(now);
        let sampled_at = self.last.as_ref().map_or(now, |(_, at)| *at);
        self.board.publish(Published {
            pass: report.pass,
            fresh_until: if self.found.is_some() { sampled_at } else { now } + self.inputs.settings.stale.0,
            fault: self.injected.shown(clock::since_boot()),
            answers: self.answers.clone(),
        });
        publish.send_replace(report);
    }

    fn report(&self, now: Instant) -> Report {
        let identity = self.inputs.identity.borrow().clone();
        let host = *self.host.borrow();
        let mut checks = vec![self.nginx_check(now)];
        if let Some(why) = identity.leaving(&self.inputs.drain_on) {
            checks.push(Check { name: "leaving", status: Status::Fail, detail: why, at: now });
        }
        let settings = &self.inputs.settings;
        checks.extend(host.iter().flat_map(|sample| {
            [
                pressure("disk", sample.at, sample.disk_used_pct, settings.disk_warn_pct),
                pressure("memory", sample.at, sample.memory_used_pct, settings.memory_warn_pct),
            ]
        }));
        if let Some(error) = self.injected.error() {
            checks.push(Check { name: "fault", status: Status::Warn, detail: error.to_owned(), at: now });
        }
        let since_boot = clock::since_boot();
        let fault = self.injected.record().map(|record| FaultReport {
            mode: record.mode,
            remaining_ms: self.injected.active(since_boot).map(|(_, left)| left.as_millis() as u64),
        });
        let asked = self.found.is_some() && self.last.is_some();
        Report {
            at: now,
            pass: checks.iter().all(|check| check.status != Status::Fail),
            nginx_target: self.found.as_ref().map(|f| f.target.to_string()),
            nginx_up: asked.then(|| self.hysteresis.state() == State::Up),
            checks,
            identity,
            fault,
            host,
        }
    }

    fn nginx_check(&self, now: Instant) -> Check {
        let check = |status, detail: String, at| Check { name: "nginx", status, detail, at };
        let Some(found) = &self.found else {
            return check(Status::Absent, "not checked, as asked for".into(), now);
        };
        let Some((outcome, at)) = &self.last else {
            return check(Status::Fail, format!("{}: not asked yet", found.target), now);
        };
        let detail = format!("{} {outcome}", found.target);
        match self.hysteresis.state() {
            State::Up => check(Status::Pass, detail, *at),
            State::Down if self.is_expected() => check(Status::Fail, detail, *at),
            _ if self.inputs.nginx.check == Expect::Required => check(Status::Fail, detail, *at),
            _ => check(Status::Absent, format!("no nginx on this machine: {detail}"), *at),
        }
    }
}

fn pressure(name: &'static str, at: Instant, used_pct: Option<f64>, warn_pct: f64) -> Check {
    let (status, detail) = match used_pct {
        Some(used) if used >= warn_pct => {
            (Status::Warn, format!("{used:.1} % used, warns from {warn_pct} %"))
        }
        Some(used) => (Status::Pass, format!("{used:.1} % used")),
        None => (Status::Warn, "cannot be told".to_owned()),
    };
    Check { name, status, detail, at }
}
