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
use super::board::{Board, Published, Shown};
use super::history::{Cause, History, Reason, Verdict};
use super::host::{self, HostSample};
use super::hysteresis::{Hysteresis, State};
use super::injected::Injected;
use super::outcome::Outcome;
use super::report::{Check, Report, Status};
use super::volume::Volume;
use super::{Answer, Nonce, Settings};
use crate::identity::{Identity, Notice};
use crate::nginx::target::{self, Expect, Lookup, Target};
use crate::sys::clock::{Clock, Moment};

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
    /// Where `/proc` is mounted.
    pub proc: PathBuf,
    /// What tells the time.
    pub clock: Clock,
}

/// Starts sampling; ends with the receivers of the report. Needs a runtime to hear of the identity.
///
/// # Errors
/// When no thread can be started.
pub fn start(inputs: Inputs) -> std::io::Result<(Arc<Board>, watch::Receiver<Report>)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (host, stop_host) = host::start(&inputs.proc)?;
    let now = inputs.clock.now();
    let board = Arc::new(Board::new(now.instant, wake.clone()));
    let (policy, fall) = (inputs.settings.volume, inputs.settings.fall);
    let volume = Volume::start(policy, fall, inputs.state.join("serve"))?;
    let mut sampler = Sampler::new(inputs, host, volume, board.clone(), now);
    let (publish, report) = watch::channel(sampler.report(now, sampler.checks(now)));
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
    /// Whether `/health` showed a fault at the last turn.
    was_shown: bool,
    history: History,
    /// Past this `/health` fails, unless something is published before.
    fresh_until: Option<Instant>,
    host: watch::Receiver<Option<HostSample>>,
    volume: Option<Volume>,
    /// How the volume was found last.
    was_written: Option<Status>,
    board: Arc<Board>,
}

impl Sampler {
    /// One that has looked up what to ask, and has asked nothing yet.
    fn new(
        inputs: Inputs,
        host: watch::Receiver<Option<HostSample>>,
        volume: Option<Volume>,
        board: Arc<Board>,
        now: Moment,
    ) -> Self {
        let mut sampler = Self {
            hysteresis: Hysteresis::new(inputs.settings.fall, inputs.settings.rise),
            asker: Asker::new(&inputs.settings, inputs.nonce.clone(), now.instant),
            lookup: Lookup::Off,
            found_at: now.instant,
            seen: false,
            last: None,
            identity: Identity::default(),
            answers: Published::answers(&Identity::default()),
            injected: Injected::new(&inputs.state, &inputs.proc, now.instant),
            was_shown: false,
            history: History::default(),
            fresh_until: None,
            host,
            volume,
            was_written: None,
            board,
            inputs,
        };
        sampler.find(now.instant);
        sampler.injected.look(now.instant);
        sampler
    }

    fn run(&mut self, wake: &OwnedFd, publish: &watch::Sender<Report>) {
        let (mut record_changed, mut woken) = (true, false);
        while !publish.is_closed() {
            if let Some(report) = self.turn(record_changed, woken) {
                publish.send_replace(report);
            }
            (record_changed, woken) = self.wait(wake);
        }
    }

    /// Does what is due now. A report where there is news: of the fault record, which may have changed, of others, who
    /// woke us, or of nginx.
    fn turn(&mut self, record_changed: bool, woken: bool) -> Option<Report> {
        let now = self.inputs.clock.now();
        let mut news = woken;
        let again = match &self.lookup {
            Lookup::Unknown(_) => FIND_AGAIN,
            _ => FIND_ANYWAY,
        };
        if now.instant.saturating_duration_since(self.found_at) > again {
            self.find(now.instant);
        }
        if let Lookup::Found { target, .. } = &self.lookup {
            for outcome in self.asker.step(target, now.instant, self.hysteresis.state() == State::Up) {
                self.observe(outcome);
                news = true;
            }
        }
        news |= record_changed && self.injected.look(now.instant);
        news |= self.take_identity();
        let is_shown = self.injected.shown(now.since_boot).is_some();
        news |= std::mem::replace(&mut self.was_shown, is_shown) != is_shown;
        news |= self.look_at_volume(now.since_boot);
        // Without an nginx to ask, being awake is the news.
        (news || self.target().is_none()).then(|| self.publish())
    }

    /// Sleeps until something happens or is due; says whether the fault record wants to be looked at, and whether
    /// others have news.
    fn wait(&self, wake: &OwnedFd) -> (bool, bool) {
        let Moment { instant: now, since_boot, .. } = self.inputs.clock.now();
        let idle = now + self.inputs.settings.interval.0;
        let until = if self.target().is_some() { self.asker.wake_at() } else { idle };
        // The end of a fault changes the verdict though nothing happens.
        let fault = self.injected.shown(since_boot).map(|(_, until)| now + until.saturating_sub(since_boot));
        let volume =
            self.volume.as_ref().map(|volume| now + volume.due(since_boot).saturating_sub(since_boot));
        let until = [fault, volume].into_iter().flatten().fold(until, Instant::min);
        let left = until.saturating_duration_since(now);
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        fds.extend(self.asker.fds().map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        fds.extend(self.injected.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let _ = poll(&mut fds, Some(&timeout)); // an interrupted sleep is a short one
        let is_ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        let woken = is_ready(fds.first());
        if woken {
            let _ = rustix::io::read(wake, &mut [0_u8; 8]);
        }
        let now = self.inputs.clock.now().instant;
        (self.injected.wants_a_look(now) || is_ready(fds.last()), woken)
    }

    fn volume(&self, now: Duration) -> Option<(Status, String)> {
        self.volume.as_ref().and_then(|volume| volume.check(now))
    }

    /// Whether the volume is otherwise than it was; that is logged.
    fn look_at_volume(&mut self, now: Duration) -> bool {
        let Some((status, detail)) = self.volume(now) else { return false };
        let before = self.was_written.replace(status);
        match (before, status) {
            (before, status) if before == Some(status) => {}
            (None, Status::Pass) => {}
            (_, Status::Pass) => tracing::info!("the volume can be written to again: {detail}"),
            (_, Status::Unknown) => tracing::info!("the volume is not looked at: {detail}"),
            _ => tracing::warn!("the volume: {detail}"),
        }
        before != Some(status)
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
        if self.hysteresis.observe(ok) && !ok && !self.is_expected() {
            let target = self.target().map(ToString::to_string).unwrap_or_default();
            tracing::info!("no nginx at {target}");
        }
        let now = self.inputs.clock.now().instant;
        if !ok && now.duration_since(self.found_at) > FIND_AGAIN {
            self.find(now);
        }
        self.last = Some((outcome, now));
    }

    fn is_expected(&self) -> bool {
        self.seen || matches!(self.lookup, Lookup::Found { expected: true, .. })
    }

    /// Puts the answer on the board; the report of the same moment.
    fn publish(&mut self) -> Report {
        let now = self.inputs.clock.now();
        let checks = self.checks(now);
        let sampled_at = match &self.last {
            Some((_, at)) if self.target().is_some() => *at,
            _ => now.instant,
        };
        let fresh_until = sampled_at + self.inputs.settings.stale.0;
        // The board counts fault, freshness and drain in by itself, at the moment of each probe.
        let pass =
            checks.iter().all(|(check, cause)| !fails(check) || matches!(cause, Cause::Fault | Cause::Drain));
        self.board.publish(Published {
            pass,
            fresh_until,
            fault: self.injected.shown(now.since_boot),
            answers: self.answers.clone(),
        });
        self.remember(&checks, now);
        self.fresh_until = Some(fresh_until);
        self.report(now, checks)
    }

    /// Writes the verdict down where it changed.
    fn remember(&mut self, checks: &[(Check, Cause)], now: Moment) {
        // An nginx that hasn't been asked yet is no verdict.
        if self.target().is_some() && self.last.is_none() && !self.board.is_draining() {
            return;
        }
        let late = self
            .fresh_until
            .and_then(|until| now.instant.checked_duration_since(until))
            .filter(|l| !l.is_zero());
        if let Some(late) = late {
            let ms = late.as_millis();
            let reason =
                Reason { cause: Cause::Stale, detail: format!("no check was made in time, for {ms} ms") };
            self.note(false, &reason, now, late);
        }
        let reason = match checks.iter().find(|(check, _)| fails(check)) {
            Some((check, cause)) => {
                let name = if *cause == Cause::Check { format!("{} ", check.name) } else { String::new() };
                Reason { cause: *cause, detail: format!("{name}{}", check.detail) }
            }
            None => {
                let nginx = checks.first().map(|(check, _)| format!("{} {}", check.name, check.detail));
                Reason { cause: Cause::Check, detail: nginx.unwrap_or_default() }
            }
        };
        self.note(!checks.iter().any(|(check, _)| fails(check)), &reason, now, Duration::ZERO);
    }

    /// Notes what `/health` says since `ago`, and logs it where that is news.
    fn note(&mut self, pass: bool, reason: &Reason, now: Moment, ago: Duration) {
        let at = now.wall - jiff::SignedDuration::try_from(ago).unwrap_or_default();
        let Some(change) = self.history.observe(pass, reason, now.since_boot.saturating_sub(ago), at) else {
            return;
        };
        let code = change.to.code();
        let before = change.from.zip(change.held_ms).map(|(from, ms)| {
            format!(", after {} of {}", crate::config::spoken(Duration::from_millis(ms)), from.code())
        });
        let before = before.unwrap_or_default();
        let (cause, detail) = (change.cause, &change.detail);
        match change.to {
            Verdict::Pass if change.from.is_some() => {
                tracing::info!("/health says {code}{before} ({cause}): {detail}");
            }
            Verdict::Pass => tracing::info!("/health says {code}: {detail}"),
            Verdict::Fail => tracing::warn!("/health says {code}{before} ({cause}): {detail}"),
        }
    }

    /// The checks in a fixed order, each with what its failure is called.
    fn checks(&self, now: Moment) -> Vec<(Check, Cause)> {
        let Moment { instant: now, since_boot, .. } = now;
        let mut checks = vec![(self.nginx_check(now), Cause::Check)];
        let mut fault = |status, detail| {
            checks.push((Check { name: "fault", status, detail, at: now }, Cause::Fault));
        };
        if let Some(error) = self.injected.error() {
            fault(Status::Warn, error.to_owned());
        }
        if let (Some((shown, until)), Some(on_record)) =
            (self.injected.shown(since_boot), self.injected.snapshot(since_boot))
        {
            let left = crate::config::spoken(until.saturating_sub(since_boot));
            match shown {
                Shown::Unhealthy => {
                    fault(Status::Fail, format!("unhealthy, by {}, for another {left}", on_record.by));
                }
                Shown::Slow(delay) => fault(
                    Status::Warn,
                    format!("slow by {} ms, by {}, for another {left}", delay.as_millis(), on_record.by),
                ),
            }
        }
        if let Some(why) = self.identity.leaving(&self.inputs.drain_on) {
            checks
                .push((Check { name: "leaving", status: Status::Fail, detail: why, at: now }, Cause::Notice));
        }
        if self.board.is_draining() {
            let detail = "the agent is ending".to_owned();
            checks.push((Check { name: "draining", status: Status::Fail, detail, at: now }, Cause::Drain));
        }
        let settings = &self.inputs.settings;
        if let Some(sample) = *self.host.borrow() {
            let disk = pressure("disk", sample.at, sample.disk_used_pct, settings.disk_warn_pct);
            let memory = pressure("memory", sample.at, sample.memory_used_pct, settings.memory_warn_pct);
            checks.extend([(disk, Cause::Check), (memory, Cause::Check)]);
        }
        if let Some((status, detail)) = self.volume(since_boot) {
            checks.push((Check { name: "volume", status, detail, at: now }, Cause::Check));
        }
        checks
    }

    fn report(&self, now: Moment, checks: Vec<(Check, Cause)>) -> Report {
        let asked = self.target().is_some() && self.last.is_some();
        Report {
            at: now.instant,
            pass: !checks.iter().any(|(check, _)| fails(check)),
            history: self.history.changes(),
            turned: self.history.turned(),
            nginx_target: self.target().map(ToString::to_string),
            nginx_up: asked.then(|| self.hysteresis.state() == State::Up),
            checks: checks.into_iter().map(|(check, _)| check).collect(),
            identity: self.identity.clone(),
            fault: self.injected.snapshot(now.since_boot),
            host: *self.host.borrow(),
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

fn fails(check: &Check) -> bool {
    check.status == Status::Fail
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::target::Settings as Nginx;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn inputs(url: Option<String>, state: &std::path::Path) -> Inputs {
        Inputs {
            settings: Settings::default(),
            nginx: Nginx {
                check: if url.is_some() { Expect::Auto } else { Expect::Off },
                url,
                ..Nginx::default()
            },
            state: state.to_owned(),
            identity: watch::channel(Identity::default()).1,
            drain_on: Vec::new(),
            nonce: Nonce::draw(),
            proc: "/proc".into(),
            clock: Clock::of_machine(),
        }
    }

    /// A machine that a test makes: its `/proc`, its state folder, and its time, which goes on when told to.
    struct Machine {
        folder: tempfile::TempDir,
        passed: Arc<std::sync::Mutex<Duration>>,
        clock: Clock,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("proc/sys/kernel/random")).unwrap();
            std::fs::create_dir(folder.path().join("state")).unwrap();
            let passed = Arc::new(std::sync::Mutex::new(Duration::ZERO));
            let (begun, now) = (Instant::now(), passed.clone());
            let clock = Clock::of(move || {
                let passed = *now.lock().unwrap();
                let wall = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::try_from(passed).unwrap();
                Moment { instant: begun + passed, since_boot: Duration::from_secs(100) + passed, wall }
            });
            let machine = Self { folder, passed, clock };
            machine.boots("b");
            machine
        }

        fn boots(&self, id: &str) {
            std::fs::write(self.folder.path().join("proc/sys/kernel/random/boot_id"), id).unwrap();
        }

        fn after(&self, secs: u64) {
            *self.passed.lock().unwrap() += Duration::from_secs(secs);
        }

        /// A record of `/health` that is to fail until so long after the boot.
        fn fault(&self, until_ms: u64) {
            let record = serde_json::json!({
                "mode": "unhealthy", "boot_id": "b", "deadline_boottime_ms": until_ms, "by": "ann", "phase": "injected",
            });
            let path = crate::fault::Record::path(&self.folder.path().join("state"));
            crate::sys::file::replace(&path, record.to_string().as_bytes(), 0o644).unwrap();
        }

        fn sampler(&self) -> (Sampler, Arc<Board>) {
            let inputs = Inputs {
                proc: self.folder.path().join("proc"),
                clock: self.clock.clone(),
                ..inputs(None, &self.folder.path().join("state"))
            };
            let now = self.clock.now();
            let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
            let board = Arc::new(Board::new(now.instant, wake));
            (Sampler::new(inputs, watch::channel(None).1, None, board.clone(), now), board)
        }

        fn says(&self, board: &Board) -> u16 {
            let now = self.clock.now();
            board.decide(now.instant, || now.since_boot).answer.status.as_u16()
        }
    }

    #[test]
    fn a_fault_on_record_fails_until_its_deadline_of_this_boot() {
        let machine = Machine::new();
        machine.fault(110_000);
        let (mut sampler, board) = machine.sampler();
        let report = sampler.turn(true, false).unwrap();
        assert!(!report.pass && report.history.last().unwrap().cause == Cause::Fault);
        assert_eq!(machine.says(&board), 503);
        machine.after(9);
        assert!(!sampler.turn(false, false).unwrap().pass);
        machine.after(1);
        assert_eq!(machine.says(&board), 200, "at the deadline, whether or not the sampler woke");
        let report = sampler.turn(false, false).unwrap();
        let last = report.history.last().unwrap();
        assert_eq!((last.to, last.cause, last.held_ms), (Verdict::Pass, Cause::Fault, Some(10_000)));
        assert_eq!(last.at, "1970-01-01T00:00:10.000Z");
        assert!(report.fault.unwrap().overdue);
    }

    #[test]
    fn a_fault_of_an_earlier_boot_fails_nothing() {
        let machine = Machine::new();
        machine.fault(110_000);
        machine.boots("another");
        let (mut sampler, board) = machine.sampler();
        assert!(sampler.turn(true, false).unwrap().pass);
        assert_eq!(machine.says(&board), 200);
    }

    #[test]
    fn a_sampler_that_slept_too_long_notes_for_how_long_nothing_was_known() {
        let machine = Machine::new();
        let (mut sampler, board) = machine.sampler();
        assert!(sampler.turn(true, false).unwrap().pass);
        machine.after(5);
        assert_eq!(machine.says(&board), 503, "a second too late");
        let history = sampler.turn(false, false).unwrap().history;
        let told: Vec<_> = history.iter().map(|c| (c.to, c.cause, c.held_ms)).collect();
        let (pass, fail) = (Verdict::Pass, Verdict::Fail);
        assert_eq!(
            told,
            [(pass, Cause::Check, None), (fail, Cause::Stale, Some(4000)), (pass, Cause::Stale, Some(1000))]
        );
        assert_eq!(machine.says(&board), 200);
    }

    #[test]
    fn a_record_that_comes_and_goes_is_seen_when_it_is_looked_at() {
        let machine = Machine::new();
        let (mut sampler, board) = machine.sampler();
        sampler.turn(true, false);
        machine.fault(200_000);
        sampler.turn(false, false);
        assert_eq!(machine.says(&board), 200, "nobody said that it changed");
        sampler.turn(true, false);
        assert_eq!(machine.says(&board), 503);
        std::fs::remove_file(crate::fault::Record::path(&machine.folder.path().join("state"))).unwrap();
        sampler.turn(true, false);
        assert_eq!(machine.says(&board), 200);
    }

    #[tokio::test]
    async fn what_nginx_answers_becomes_the_verdict_with_its_history() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (board, mut report) = start(inputs(Some(url), dir.path())).unwrap();
        let answer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").unwrap();
            // From now on nobody listens.
        });
        report.wait_for(|report| report.nginx_up == Some(true)).await.unwrap();
        assert!(board.is_fresh(Instant::now()));
        answer.join().unwrap();
        let down = report.wait_for(|report| report.nginx_up == Some(false)).await.unwrap().clone();
        assert_eq!(board.decide(Instant::now(), crate::sys::clock::since_boot).answer.status.as_u16(), 503);
        let told: Vec<_> = down.history.iter().map(|change| (change.to, change.cause)).collect();
        assert_eq!(told, [(Verdict::Pass, Cause::Check), (Verdict::Fail, Cause::Check)]);
    }

    #[tokio::test]
    async fn a_drain_is_a_verdict_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (board, mut report) = start(inputs(None, dir.path())).unwrap();
        report.wait_for(|report| report.pass && !report.history.is_empty()).await.unwrap();
        board.drain();
        let drained = report.wait_for(|report| !report.pass).await.unwrap().clone();
        assert_eq!(drained.history.last().unwrap().cause, Cause::Drain);
        assert!(drained.checks.iter().any(|check| check.name == "draining" && check.status == Status::Fail));
    }
}
