//! A fault from its beginning to its end: preflight → record → lease → inject → verify the effect → hold → recover →
//! verify. One function a step; the record on disk always says how far it has come.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::error::FaultError;
use super::event::{Event, Outcome, Step, Tell, Told, Why};
use super::failpoint::failpoint;
use crate::config::Paths;
use crate::fault::history;
use crate::fault::lease::arm::{self as lease, Keeper};
use crate::fault::lease::record::{Mode, Phase, Record};
use crate::fault::modes::inject::inject;
use crate::fault::modes::packets;
use crate::fault::plan::preflight::{Plan, Request, permitted, plan};
use crate::fault::plan::unit;
use crate::fault::recovery::environment;
use crate::fault::recovery::recover::{Ended, boot_id, end, lock};
use crate::nginx::answer::{Answer, Endpoint};
use crate::sys::clock::{rfc3339, since_boot};
use crate::sys::file::Lock;
use crate::sys::proc::{Exe, Identity};
use crate::sys::wait::{Waiter, Woken};

/// How long the effect may take to show: the daemon looks at the record once a second, nginx closes at once.
const EFFECT: Duration = Duration::from_secs(5);

/// How long another command is waited for that is starting or ending a fault.
const OTHERS: Duration = Duration::from_secs(10);

/// No answer for so long is silence, where one takes a millisecond.
const SILENCE: Duration = Duration::from_secs(1);

/// Makes a fault, holds it until its deadline or a signal, and ends it; with `detach` returns once its effect was
/// seen and leaves the rest to the keeper.
///
/// # Errors
/// When there is no fault (and nothing was touched), or the one there is could not be ended: the keeper goes on
/// trying then.
pub fn fail(paths: &Paths, request: &Request, detach: bool, tell: Tell<'_>) -> Result<Outcome, FaultError> {
    permitted(paths)?;
    let waiter = Waiter::new().map_err(FaultError::Wait)?;
    let lock = free_lock(paths)?;
    let plan = plan(request)?;
    plan.notes.iter().for_each(|note| tell(Told::Warning(note.clone())));
    keep_environment(paths, &plan)?;
    let mut record = Record {
        mode: request.mode,
        boot_id: boot_id(paths)?,
        deadline_boottime_ms: millis(since_boot() + request.lasts),
        delay_ms: request.delay.map(millis),
        status: request.status,
        id: format!("{}-{}", since_boot().as_nanos(), std::process::id()),
        phase: Phase::Armed,
        started: rfc3339(Timestamp::now()),
        by: request.by.clone(),
        holder: Identity::ours().ok(),
        keeper: None,
        agent: Identity::ours().and_then(|us| Exe::of(us.pid)).ok(),
        health: Some(request.health),
        target: plan.target,
    };
    let keeper = armed(paths, &mut record)?;
    failpoint("leased");
    tell(Told::Event(Event::now(
        &record,
        Step::Armed {
            pid: record.target.as_ref().map(|t| t.master.pid),
            duration_ms: millis(request.lasts),
            lease: if unit::is_booted() { "timer" } else { "keeper" },
            lease_pid: keeper.pid(),
        },
    )));

    let mut run = Run { paths, waiter, keeper, tell };
    let port = match record.mode {
        Mode::Hang | Mode::Error => run.keeper.begin(),
        _ => Ok(0),
    };
    let injected = port.and_then(|port| inject(&record, port));
    failpoint("inject.done");
    if let Err(e) = injected.and_then(|()| run.injected(&mut record)) {
        run.end(&record, Some(lock), Why::NoEffect)?;
        return Err(e);
    }
    let since = Instant::now();
    drop(lock);
    failpoint("injected");
    let effective = run.effective(&record);
    failpoint("effective");
    if effective && detach {
        return Ok(Outcome::detached());
    }
    let why = if effective { run.hold(&mut record)? } else { Held::Over(Why::NoEffect) };
    let held_ms = Some(millis(since.elapsed()));
    let (why, signal) = match why {
        Held::Over(why) => (why, None),
        Held::Signal(signal) => (Why::Signal, Some(signal)),
    };
    let first_ok_after_ms = Some(run.end(&record, None, why)?);
    Ok(Outcome { effective, recovered: Some(true), held_ms, first_ok_after_ms, detached: false, signal })
}

/// Before the record, which is never without it.
fn keep_environment(paths: &Paths, plan: &Plan) -> Result<(), FaultError> {
    let path = environment::path(&paths.state);
    let kept = environment::keep(&paths.state, plan.environment.as_deref());
    kept.map_err(|source| FaultError::File { path, source })
}

/// The lock, when no fault is on record.
fn free_lock(paths: &Paths) -> Result<Lock, FaultError> {
    let end = Instant::now() + OTHERS;
    loop {
        let taken = lock(paths, Duration::from_millis(50))?;
        if let Some(active) = Record::read(&paths.state)? {
            return Err(FaultError::Active(describe(&active)));
        }
        match taken {
            Some(lock) => return Ok(lock),
            None if Instant::now() > end => return Err(FaultError::Busy(OTHERS)),
            // Another one is about to put its fault on record, or has just taken it off.
            None => {}
        }
    }
}

/// A fault in a few words.
pub fn describe(record: &Record) -> String {
    let on = record.target.as_ref().map_or(String::new(), |t| format!(" on nginx {}", t.master.pid));
    let left = record.deadline().saturating_sub(since_boot()).as_secs();
    format!("{}{on}, started by {} at {}, {left} s left", record.mode.name(), record.by, record.started)
}

/// On record, in the history, and with a keeper; or nothing of it.
fn armed(paths: &Paths, record: &mut Record) -> Result<Keeper, FaultError> {
    record.write(&paths.state)?;
    failpoint("recorded");
    let path = history::path(&paths.log);
    let noted = history::append(&paths.log, record, "armed", "");
    let armed =
        noted.map_err(|source| FaultError::File { path, source }).and_then(|()| lease::arm(paths, record));
    let armed = armed.and_then(|keeper| {
        // Before it may hold anything: whoever ends the fault knows whom to end with it.
        record.keeper = Some(keeper.ended().id);
        record.write(&paths.state).map(|()| keeper).map_err(FaultError::from)
    });
    if armed.is_err() {
        let _ = environment::forget(&paths.state);
        Record::remove(&paths.state)?;
        lease::release(paths, None);
    }
    armed
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

enum Held {
    Over(Why),
    Signal(i32),
}

/// A fault that is armed.
struct Run<'a, 'b> {
    paths: &'a Paths,
    waiter: Waiter,
    keeper: Keeper,
    tell: Tell<'b>,
}

impl Run<'_, '_> {
    /// Armed → Injected.
    fn injected(&mut self, record: &mut Record) -> Result<(), FaultError> {
        record.phase = Phase::Injected;
        record.write(&self.paths.state)?;
        (self.tell)(Told::Event(Event::now(record, Step::Injected)));
        Ok(())
    }

    /// Whether nginx, or `/health`, is seen to fail.
    fn effective(&mut self, record: &Record) -> bool {
        let limit = EFFECT.min(record.deadline().saturating_sub(since_boot()));
        let Some((endpoint, path)) = record.endpoint() else { return false };
        if record.mode.touches_packets() {
            return self.packets_effective(record);
        }
        // Of a short fault half is for being seen.
        let silence = SILENCE.min(limit / 2);
        let observed = match record.mode {
            Mode::Unhealthy => endpoint.ask_until(path, limit, |a| a == Answer::Status(503)),
            Mode::Hang => silent(&endpoint, path, silence, limit),
            Mode::Slow => {
                let late = Duration::from_millis(record.delay_ms.unwrap_or(0) / 2);
                silent(&endpoint, path, late.min(silence), limit)
            }
            _ => endpoint.ask_until(path, limit, |a| !a.is_some()),
        };
        let effective = match record.mode {
            Mode::Unhealthy => observed == Answer::Status(503),
            Mode::Hang | Mode::Slow => observed == Answer::Silent,
            _ => !observed.is_some(),
        };
        self.tell_effect(record, effective, format!("{} {observed}", endpoint.addr), observed.to_string());
        effective
    }

    /// Loopback is left alone, so that what other machines see can't be seen from here: the kernel tells which ports
    /// are affected, and in `error` it is also our listener that must still be there.
    fn packets_effective(&mut self, record: &Record) -> bool {
        let (ports, what) = match packets::in_force() {
            Ok(ports) => (ports, format!("{ports} of nginx's addresses, as the kernel says")),
            Err(e) => (0, e.to_string()),
        };
        self.tell_effect(record, ports > 0, what.clone(), what);
        ports > 0
    }

    fn tell_effect(&mut self, record: &Record, effective: bool, where_: String, observed: String) {
        let event = if effective { "effective" } else { "no_effect" };
        let _ = history::append(&self.paths.log, record, event, &observed);
        if effective {
            (self.tell)(Told::Event(Event::now(record, Step::Effective { observed })));
        } else {
            (self.tell)(Told::Warning(format!("no effect: {where_}")));
        }
    }

    /// Waits for the deadline, a signal, or somebody else's recovery, and tells each second how things stand. A
    /// keeper that was killed is replaced.
    fn hold(&mut self, record: &mut Record) -> Result<Held, FaultError> {
        let mut next = since_boot();
        loop {
            let left = record.deadline().saturating_sub(since_boot());
            if left.is_zero() {
                return Ok(Held::Over(Why::Deadline));
            }
            if since_boot() >= next {
                if let Some((endpoint, path)) = record.endpoint() {
                    let observed = endpoint.ask(path, Duration::from_millis(250));
                    (self.tell)(Told::Holding { left: left.as_secs_f64().ceil() as u64, observed });
                    if observed.is_some() && matches!(record.mode, Mode::Stop | Mode::Crash) {
                        return Ok(Held::Over(Why::Undone));
                    }
                }
                next += Duration::from_secs(1);
            }
            let until = next.min(record.deadline());
            let woken = self.waiter.until(until, Some(rustix::fd::AsFd::as_fd(self.keeper.ended())));
            match woken.map_err(FaultError::Wait)? {
                Woken::Time => {}
                Woken::Signal(signal) => return Ok(Held::Signal(signal)),
                Woken::Ready => {
                    if self.keeper.is_gone() && matches!(Record::read(&self.paths.state), Ok(None)) {
                        return Ok(Held::Over(Why::Asked));
                    }
                    if matches!(record.mode, Mode::Hang | Mode::Error) {
                        return Ok(Held::Over(Why::Released));
                    }
                    match lease::arm(self.paths, record) {
                        Ok(keeper) => {
                            record.keeper = Some(keeper.ended().id);
                            self.keeper = keeper;
                            if let Err(e) = record.write(&self.paths.state) {
                                (self.tell)(Told::Warning(e.to_string()));
                            }
                        }
                        Err(e) => {
                            (self.tell)(Told::Warning(e.to_string()));
                            return Ok(Held::Over(Why::Unkept));
                        }
                    }
                }
            }
        }
    }

    /// Ends the fault, or finds that another has ended it; the milliseconds until nginx answered.
    fn end(&mut self, record: &Record, held: Option<Lock>, why: Why) -> Result<u64, FaultError> {
        let limit = Duration::from_secs(30);
        let taken = match held {
            Some(lock) => Some(lock),
            None => lock(self.paths, limit)?,
        };
        let Some(lock) = taken else { return Err(FaultError::Busy(limit)) };
        let start = Instant::now();
        match end(self.paths, &lock, Some(record), why, self.tell)? {
            Ended::Here { first_ok_after_ms, .. } => Ok(first_ok_after_ms),
            Ended::Already => {
                // Its record is gone, and it goes only after nginx was seen to answer.
                (self.tell)(Told::Event(Event::now(record, Step::Recovering { why: Why::Asked })));
                let first_ok_after_ms = millis(start.elapsed());
                (self.tell)(Told::Event(Event::now(record, Step::Recovered { first_ok_after_ms })));
                Ok(first_ok_after_ms)
            }
        }
    }
}

/// Asks until no answer comes for as long as `patience`, or `limit` has passed; what came last.
fn silent(endpoint: &Endpoint, path: &str, patience: Duration, limit: Duration) -> Answer {
    let end = Instant::now() + limit;
    loop {
        let answer = endpoint.ask(path, patience);
        if answer == Answer::Silent || Instant::now() > end {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Outcome {
    fn detached() -> Self {
        Self {
            effective: true,
            recovered: None,
            held_ms: None,
            first_ok_after_ms: None,
            detached: true,
            signal: None,
        }
    }
}
