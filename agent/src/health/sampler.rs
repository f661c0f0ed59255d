//! The one owner of what is known of this target: a thread that asks nginx, hears of identity, faults and pressure,
//! and publishes the board and the report. It sleeps in one poll(2) and nothing in it can block: disks are asked
//! elsewhere, nginx is asked without waiting.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_timerslack;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::watch;

use super::asker::Asker;
use super::board::{Board, Published};
use super::host::{self, HostSample};
use super::hysteresis::{Hysteresis, State};
use super::injected::Injected;
use super::outcome::Outcome;
use super::report::{Check, Report, Status};
use super::{Answer, Nonce, Settings};
use crate::identity::{Identity, Notice};
use crate::nginx::target::{self, Expect, Lookup, Target};
use crate::sys::clock;

/// How often the address is looked up again while nothing answers there, and while it can't be known.
const FIND_AGAIN: Duration = Duration::from_secs(2);
/// How often nginx's configuration is read again while all is well.
const FIND_ANYWAY: Duration = Duration::from_secs(300);

/// How late the thread may be woken, so that the kernel can wake others with it.
const SLACK_NS: u64 = 20_000_000;

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

/// Starts sampling; ends with the receivers of the report. Needs a runtime to hear of the identity.
///
/// # Errors
/// When no thread can be started.
pub fn start(inputs: Inputs) -> std::io::Result<(Arc<Board>, watch::Receiver<Report>)> {
    let now = Instant::now();
    let board = Arc::new(Board::new(now));
    let (host, stop_host) = host::start()?;
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let mut sampler = Sampler {
        hysteresis: Hysteresis::new(inputs.settings.fall, inputs.settings.rise),
        asker: Asker::new(&inputs.settings, inputs.nonce.clone(), now),
        lookup: Lookup::Off,
        found_at: now,
        seen: false,
        last: None,
        identity: Identity::default(),
        answers: Published::answers(&Identity::default()),
        injected: Injected::new(&inputs.state),
        host,
        board: board.clone(),
        inputs,
    };
    sampler.find(now);
    sampler.injected.look();
    let (publish, report) = watch::channel(sampler.report(now));
    let mut identity = sampler.inputs.identity.clone();
    let waker = wake.clone();
    tokio::spawn(async move {
        while identity.changed().await.is_ok() {
            let _ = rustix::io::write(&*waker, &1_u64.to_ne_bytes());
        }
    });
    std::thread::Builder::new().name("sampler".into()).stack_size(256 << 10).spawn(move || {
        let _ = set_timerslack(SLACK_NS);
        sampler.run(&wake, &publish);
        drop(stop_host);
    })?;
    Ok((board, report))
}

struct Sampler {
    inputs: Inputs,
    hysteresis: Hysteresis,
    asker: Asker,
    lookup: Lookup,
    found_at: Instant,
    /// Whether an nginx answered since the start: from then on its silence is a failure.
    seen: bool,
    last: Option<(Outcome, Instant)>,
    identity: Identity,
    answers: Arc<(Answer, Answer)>,
    injected: Injected,
    host: watch::Receiver<Option<HostSample>>,
    board: Arc<Board>,
}

impl Sampler {
    fn run(&mut self, wake: &OwnedFd, publish: &watch::Sender<Report>) {
        let mut record_changed = true;
        while !publish.is_closed() {
            let now = Instant::now();
            let mut news = false;
            let again = match (&self.lookup, self.hysteresis.state()) {
                (Lookup::Unknown(_), _) => FIND_AGAIN,
                _ => FIND_ANYWAY,
            };
            if now.duration_since(self.found_at) > again {
                self.find(now);
            }
            if let Lookup::Found { target, .. } = &self.lookup {
                for outcome in self.asker.step(target, now, self.hysteresis.state() == State::Up) {
                    self.observe(outcome);
                    news = true;
                }
            }
            news |= record_changed && self.injected.look();
            news |= self.take_identity();
            // Without an nginx to ask, being awake is the news.
            if news || self.target().is_none() {
                self.publish(publish);
            }
            record_changed = self.wait(wake);
        }
    }

    /// Sleeps until something happens or is due; says whether the fault record wants to be looked at.
    fn wait(&self, wake: &OwnedFd) -> bool {
        let now = Instant::now();
        let idle = now + self.inputs.settings.interval.0;
        let until = if self.target().is_some() { self.asker.wake_at() } else { idle };
        let left = until.saturating_duration_since(now);
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        fds.extend(self.asker.fds().map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        fds.extend(self.injected.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let _ = poll(&mut fds, Some(&timeout)); // an interrupted sleep is a short one
        let is_ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        if is_ready(fds.first()) {
            let _ = rustix::io::read(wake, &mut [0_u8; 8]);
        }
        self.injected.wants_a_look() || is_ready(fds.last())
    }

    fn take_identity(&mut self) -> bool {
        if !self.inputs.identity.has_changed().unwrap_or(false) {
            return false;
        }
        self.identity = self.inputs.identity.borrow_and_update().clone();
        self.answers = Published::answers(&self.identity);
        true
    }

    /// What is asked; `None` when nobody asks.
    fn target(&self) -> Option<&Target> {
        match &self.lookup {
            Lookup::Found { target, .. } => Some(target),
            Lookup::Off | Lookup::Unknown(_) => None,
        }
    }

    /// Looks up what to ask. A configuration that can't be used any more takes no target away that was known: an
    /// nginx that is down while its configuration is being edited is down.
    fn find(&mut self, now: Instant) {
        self.found_at = now;
        match (target::find(&self.inputs.nginx), &self.lookup) {
            (new, old) if new == *old => {}
            (Lookup::Unknown(why), Lookup::Found { .. }) => tracing::debug!("{why}"),
            (new, _) => {
                if let Lookup::Unknown(why) = &new {
                    tracing::warn!("cannot check nginx: {why}; set nginx.url");
                }
                self.lookup = new;
                self.asker.restart(now);
            }
        }
    }

    /// Takes the outcome of a question.
    fn observe(&mut self, outcome: Outcome) {
        let ok = outcome.is_ok();
        self.seen |= ok;
        if self.hysteresis.observe(ok) {
            let target = self.target().map(ToString::to_string).unwrap_or_default();
            match ok {
                true => tracing::info!("nginx at {target} {outcome}"),
                false if self.is_expected() => tracing::warn!("nginx at {target}: {outcome}"),
                false => tracing::info!("no nginx at {target}"),
            }
        }
        let now = Instant::now();
        if !ok && now.duration_since(self.found_at) > FIND_AGAIN {
            self.find(now);
        }
        self.last = Some((outcome, now));
    }

    fn is_expected(&self) -> bool {
        self.seen || matches!(self.lookup, Lookup::Found { expected: true, .. })
    }

    fn publish(&self, publish: &watch::Sender<Report>) {
        let now = Instant::now();
        let report = self.report(now);
        let sampled_at = match &self.last {
            Some((_, at)) if self.target().is_some() => *at,
            _ => now,
        };
        self.board.publish(Published {
            pass: report.pass,
            fresh_until: sampled_at + self.inputs.settings.stale.0,
            fault: self.injected.shown(clock::since_boot()),
            answers: self.answers.clone(),
        });
        publish.send_replace(report);
    }

    fn report(&self, now: Instant) -> Report {
        let host = *self.host.borrow();
        let mut checks = vec![self.nginx_check(now)];
        if let Some(why) = self.identity.leaving(&self.inputs.drain_on) {
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
        let asked = self.target().is_some() && self.last.is_some();
        Report {
            at: now,
            pass: checks.iter().all(|check| check.status != Status::Fail),
            nginx_target: self.target().map(ToString::to_string),
            nginx_up: asked.then(|| self.hysteresis.state() == State::Up),
            checks,
            identity: self.inputs.identity.borrow().clone(),
            fault: self.injected.snapshot(clock::since_boot()),
            host,
        }
    }

    fn nginx_check(&self, now: Instant) -> Check {
        let check = |status, detail: String, at| Check { name: "nginx", status, detail, at };
        let required = self.inputs.nginx.check == Expect::Required;
        let target = match &self.lookup {
            Lookup::Off => return check(Status::Absent, "not checked, as asked for".into(), now),
            Lookup::Unknown(why) => {
                let status = if required { Status::Fail } else { Status::Unknown };
                return check(status, format!("cannot check nginx: {why}; set nginx.url"), now);
            }
            Lookup::Found { target, .. } => target,
        };
        let Some((outcome, at)) = &self.last else {
            return check(Status::Fail, format!("{target}: not asked yet"), now);
        };
        let detail = format!("{target} {outcome}");
        match self.hysteresis.state() {
            State::Up => check(Status::Pass, detail, *at),
            State::Down if self.is_expected() => check(Status::Fail, detail, *at),
            _ if required => check(Status::Fail, detail, *at),
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
