//! A run from its first to its last moment: one thread that sleeps until the next thing is due (a signal, the
//! deadline, a look at the host), and the workers.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::aside::Aside;
use super::control::{Controller, STEPS_A_SECOND, Step};
use super::hints::{Hints, InstanceType};
use super::host::{Reading, Share, Stat};
use super::manners::Manners;
use super::minutes::Minutes;
use super::plan::{Aim, Plan};
use super::record::{RecordError, Running};
use super::worker::Crew;
use crate::sys::cgroup::CpuCgroup;
use crate::sys::clock::since_boot;
use crate::sys::memory::release_code;
use crate::sys::sched;
use crate::sys::sigwait::Signals;

/// How long before the deadline the end is prepared,
const PREPARATION: Duration = Duration::from_millis(25);
/// and how often from then on, as what is prepared lasts for some milliseconds only.
const PREPARE_EVERY: Duration = Duration::from_millis(2);

/// Why a run couldn't be.
#[derive(Debug, thiserror::Error)]
pub enum StressError {
    /// The host's counters.
    #[error("cannot read /proc/stat: {0}")]
    Stat(io::Error),
    /// No more threads.
    #[error(
        "cannot start {workers} workers: {why}; ask for fewer, or see `ulimit -u`, `ulimit -v` and the cgroup's pids.max"
    )]
    Threads {
        /// How many were asked for.
        workers: u32,
        /// What the system said.
        why: io::Error,
    },
    /// The signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The full time.
    Deadline,
    /// This signal.
    Signal(i32),
    /// What was waited for was seen.
    Alarm,
}

/// What there is to tell after each second.
#[derive(Debug, Clone, Copy)]
pub struct Second {
    /// Since the start.
    pub elapsed: Duration,
    /// When it ended by the wall clock,
    pub until: Timestamp,
    /// and how long it was, in seconds.
    pub secs: f64,
    /// What the workers used of their CPUs in it, in percent, each.
    pub worker_pct: f64,
    /// What the host did in it.
    pub host: Share,
}

/// What a run runs on.
pub struct Setting<'a> {
    /// CPUs that it may use.
    pub cpus: &'a [usize],
    /// The CPU cgroup that it is in.
    pub cgroup: Option<CpuCgroup>,
    /// Where it puts itself on record.
    pub run_dir: &'a Path,
    /// Who started it.
    pub who: String,
    /// Asked when the hypervisor withholds CPU time.
    pub instance_type: InstanceType,
    /// What ends it early.
    pub signals: &'a Signals,
    /// The threads of this process that are no workers.
    pub aside: Arc<Aside>,
    /// What ends it once it was seen.
    pub enough: Option<Enough<'a>>,
}

/// Whether what a run waits for was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// It may come.
    NotYet,
    /// It was.
    Seen,
    /// It can't come any more.
    Hopeless,
}

/// What ends a run once it was seen.
pub struct Enough<'a> {
    /// Whether it was, in what was seen so far.
    pub watch: &'a dyn Fn(&Minutes) -> Watched,
    /// How much longer the run goes on.
    pub then: Duration,
}

/// What there is to tell while it runs.
#[derive(Debug)]
pub enum Event {
    /// The workers burn.
    Started {
        /// Since when by the wall clock, in seconds since the epoch.
        began: f64,
        /// On how many CPUs the host averages.
        host_cpus: u32,
        /// How the workers yield.
        manners: String,
        /// Why it isn't on record, if it isn't.
        unrecorded: Option<RecordError>,
    },
    /// A second has passed.
    Second(Second),
    /// Something holds the load back.
    Hint(String),
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How long it was.
    pub elapsed: Duration,
    /// CPU seconds of all workers, by their own clocks.
    pub worker_secs: f64,
    /// What the host did meanwhile.
    pub host: Share,
    /// CPUs of the host.
    pub host_cpus: u32,
    /// When it began, in seconds since the epoch.
    pub began: f64,
    /// The same by the clock's minutes.
    pub minutes: Minutes,
    /// Seconds for which a cgroup quota stopped it, summed over CPUs.
    pub throttled_secs: f64,
    /// Seconds for which the process was stopped (SIGSTOP, Ctrl-Z).
    pub stopped_secs: f64,
    /// Why it ended.
    pub ended: Ended,
}

/// Runs `plan` to its end; what is to be shown goes to `tell`, which must not wait for anybody: the thread that calls
/// this ends the run.
///
/// # Errors
/// When it can't start, or the host's counters vanish.
pub fn run(plan: &Plan, setting: Setting<'_>, tell: &mut dyn FnMut(Event)) -> Result<Outcome, StressError> {
    let mut stat = Stat::open().map_err(StressError::Stat)?;
    let first = stat.read().map_err(StressError::Stat)?;
    let began = Timestamp::now().as_millisecond() as f64 / 1000.0;
    let deadline = plan.secs.map(|secs| since_boot() + secs);
    let crew = Crew::start(plan, setting.cpus, deadline, &setting.aside)
        .map_err(|why| StressError::Threads { workers: plan.workers, why })?;
    let record = Running::of(plan, setting.who).hold(setting.run_dir);
    let tids = crew.tids();
    let manners = Manners::of(plan.priority, &tids);
    crew.pin_again(&tids);
    // Whoever ends the run at its deadline must not wait for thousands of workers: where permitted, it goes first. Idle
    // as it may have been started (`chrt -i`) it would wait for everybody.
    let _ = sched::set_current_thread(sched::Policy::RealTime)
        .or_else(|_| sched::set_current_thread(sched::Policy::Normal));
    crew.go();
    let hints = Hints::new(setting.cgroup, setting.instance_type, setting.aside);
    let (host_cpus, describe) = (first.cpus, manners.describe());
    let mut run = Run {
        plan,
        crew,
        manners,
        stat,
        hints,
        signals: setting.signals,
        enough: setting.enough,
        last: first,
        last_used: 0.0,
        minutes: Minutes::default(),
        stopped: Duration::ZERO,
        awake: since_boot(),
    };
    let unrecorded = record.as_ref().err().cloned();
    tell(Event::Started { began, host_cpus, manners: describe, unrecorded });
    release_code();
    let ended = run.until(deadline, tell);
    // Lest thousands of workers compete with the end, they stop first; but out of their cgroup they must be taken alive,
    // as one that is just ending stays in it.
    if !run.manners.in_group() {
        run.crew.stop();
    }
    let worker_secs = run.crew.cpu_secs();
    let elapsed = run.crew.started().elapsed();
    let second = run.second(elapsed, worker_secs).map_err(StressError::Stat)?;
    let Run { crew, manners, minutes, hints, last, stopped, .. } = run;
    drop(manners);
    crew.stop();
    tell(Event::Second(second));
    let (throttled_secs, host) = (hints.throttled_secs(), last.since(&first));
    let (stopped_secs, ended) = (stopped.as_secs_f64(), ended?);
    Ok(Outcome { elapsed, worker_secs, host, host_cpus, began, minutes, throttled_secs, stopped_secs, ended })
}

struct Run<'a> {
    plan: &'a Plan,
    crew: Crew,
    manners: Manners,
    stat: Stat,
    hints: Hints,
    signals: &'a Signals,
    enough: Option<Enough<'a>>,
    last: Reading,
    last_used: f64,
    minutes: Minutes,
    /// How long the process was stopped.
    stopped: Duration,
    /// When it was last known not to be, on the clock of [`since_boot`].
    awake: Duration,
}

impl Run<'_> {
    fn until(
        &mut self,
        mut deadline: Option<Duration>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Ended, StressError> {
        let mut over = Ended::Deadline;
        let mut regulator = Regulator::new(self.plan, self.last);
        let mut next_second = 1.0;
        let mut prepare = deadline.map(|deadline| deadline.saturating_sub(PREPARATION));
        loop {
            let now = self.crew.started().elapsed().as_secs_f64();
            let next = match &regulator {
                Some(regulator) => regulator.next.min(next_second),
                None => next_second,
            };
            let mut pause = Duration::from_secs_f64((next - now).max(0.0));
            for due in [prepare, deadline].into_iter().flatten() {
                pause = pause.min(due.saturating_sub(since_boot()));
            }
            match self.signals.wait(pause).map_err(StressError::Signals)? {
                // It was stopped at some moment since the round before began, in its pause or not, and goes on.
                Some(libc::SIGCONT) if since_boot() > self.awake + pause => {
                    self.stopped += since_boot().saturating_sub(self.awake + pause / 2);
                }
                Some(libc::SIGCONT) => {}
                Some(signal) => return Ok(Ended::Signal(signal)),
                None => {}
            }
            self.awake = since_boot();
            if deadline.is_some_and(|deadline| since_boot() >= deadline) {
                return Ok(over);
            }
            if prepare.is_some_and(|due| since_boot() >= due) {
                self.manners.about_to_end();
                prepare = Some(since_boot() + PREPARE_EVERY);
            }
            let elapsed = self.crew.started().elapsed();
            let now = elapsed.as_secs_f64();
            if let Some(regulator) = regulator.as_mut().filter(|r| now >= r.next) {
                regulator.step(now, self.plan, &self.crew, &mut self.stat).map_err(StressError::Stat)?;
            }
            if now >= next_second {
                let second = self.second(elapsed, self.crew.cpu_secs()).map_err(StressError::Stat)?;
                tell(Event::Second(second));
                if let Some(end) = self.enough()
                    && deadline.is_none_or(|deadline| end < deadline)
                {
                    (deadline, over) = (Some(end), Ended::Alarm);
                    prepare = Some(end.saturating_sub(PREPARATION));
                    self.crew.end_at(deadline);
                }
                if let Some(hint) = self.hints.second(second.host) {
                    tell(Event::Hint(hint));
                }
                next_second = now.floor() + 1.0;
            }
        }
    }

    /// When the run ends because of what was seen, once it was.
    fn enough(&mut self) -> Option<Duration> {
        let (watched, then) =
            self.enough.as_ref().map(|enough| ((enough.watch)(&self.minutes), enough.then))?;
        let then = match watched {
            Watched::NotYet => return None,
            Watched::Seen => then,
            Watched::Hopeless => Duration::ZERO,
        };
        self.enough = None;
        Some(since_boot() + then)
    }

    /// Counts what happened since the last time.
    fn second(&mut self, elapsed: Duration, used: f64) -> io::Result<Second> {
        let now = self.stat.read()?;
        let (secs, host) = (now.secs_since(&self.last), now.since(&self.last));
        let until = Timestamp::now();
        self.minutes.add(until, secs, host);
        let worker_pct = match secs {
            0.0 => 0.0,
            _ => 100.0 * (used - self.last_used).max(0.0) / secs / f64::from(self.plan.workers),
        };
        (self.last, self.last_used) = (now, used);
        Ok(Second { elapsed, until, secs, worker_pct, host })
    }
}

/// The closed loop between the host's counters and the workers' pool.
struct Regulator {
    controller: Controller,
    /// Busy time is counted from here: in a single step the counters' 10 ms would often be more idle time than there
    /// was, and cutting that off a lasting error.
    first: Reading,
    looked: Reading,
    busy: f64,
    used: f64,
    /// When it is due.
    next: f64,
}

impl Regulator {
    fn new(plan: &Plan, first: Reading) -> Option<Self> {
        let Aim::Target(_) = plan.aim else { return None };
        let controller = Controller::default();
        Some(Self { controller, first, looked: first, busy: 0.0, used: 0.0, next: 0.0 })
    }

    fn step(&mut self, now: f64, plan: &Plan, crew: &Crew, stat: &mut Stat) -> io::Result<()> {
        self.next = ((now * STEPS_A_SECOND + 1e-6).floor() + 1.0) / STEPS_A_SECOND;
        let (reading, used) = (stat.read()?, crew.cpu_secs());
        let busy = reading.since(&self.first).busy;
        let last = Step {
            secs: reading.secs_since(&self.looked),
            cpus: f64::from(reading.cpus),
            busy: busy - self.busy,
            own: used - self.used,
            target: plan.aim.curve().at(now),
        };
        let grant = self.controller.step(&last, f64::from(plan.workers));
        (self.looked, self.busy, self.used) = (reading, busy, used);
        if let Some(pool) = crew.pool() {
            pool.fill(grant);
        }
        Ok(())
    }
}
