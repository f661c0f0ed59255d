//! What an actor does: each [`Action`] of the machine, and what came of it. Decides nothing: that is the machine's.

mod arming;
mod ending;
mod perform;
mod shutdown;
mod wait;

pub use perform::describe;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::error::FaultError;
use super::event::{Event as Told_, Step, Tell, Told, Why};
use super::lease::arm::Keeper;
use super::lease::record::Record;
use super::machine::{Action, Cause, Event, Machine, Role, Verdict};
use super::modes::effect::Observed;
use super::plan::preflight::{Plan, Request};
use crate::config::Paths;
use crate::sys::clock;
use crate::sys::file::Lock;
use crate::sys::pidfd::Handle;
use crate::sys::trace::Held;
use crate::sys::wait::Waiter;

/// The first wait of one who tries again; it doubles.
const REST: Duration = Duration::from_millis(250);

/// One actor, with what it holds.
pub(super) struct Actor<'a, 'b> {
    paths: &'a Paths,
    tell: Tell<'b>,
    machine: Machine,
    /// Only who waits for signals has one: it blocks them.
    waiter: Option<Waiter>,
    request: Option<&'a Request>,
    /// The fault that is meant, before its record was read.
    id: Option<String>,
    plan: Option<Plan>,
    /// The fault that we know.
    pub(super) record: Option<Record>,
    environment: Option<Vec<u8>>,
    lock: Option<Lock>,
    keepers_lock: Option<Lock>,
    keeper: Option<Keeper>,
    held: Option<Held>,
    master: Option<Handle>,
    /// The keeper's copies of where nginx's output goes.
    outputs: Vec<OwnedFd>,
    /// Where the keeper answers, in `error`.
    port: u16,
    rest: Duration,
    /// Whether a signal came while nginx was being brought back: the next try comes at once.
    hurried: bool,
    signal: Option<i32>,
    injected: Option<Instant>,
    effect: Option<(Instant, Observed)>,
    /// What is measured of the fault.
    pub(super) seen: Figures,
    end_began: Option<Instant>,
    error: Option<FaultError>,
    /// The next look at the effect and the record, since boot.
    next_look: Duration,
    next_tick: Duration,
}

/// What is measured of a fault.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) effective: bool,
    pub(super) held_ms: Option<u64>,
    pub(super) effective_ms: Option<u64>,
    pub(super) first_ok_after_ms: Option<u64>,
    pub(super) lost: Option<String>,
    pub(super) differences: Vec<String>,
}

/// How an actor ended.
pub(super) struct Ending {
    pub(super) verdict: Verdict,
    pub(super) record: Option<Record>,
    pub(super) figures: Figures,
    pub(super) signal: Option<i32>,
    error: Option<FaultError>,
    keeper: Option<Keeper>,
}

impl<'a, 'b> Actor<'a, 'b> {
    pub(super) fn new(paths: &'a Paths, role: Role, tell: Tell<'b>) -> Self {
        Self {
            paths,
            tell,
            machine: Machine::new(role, false),
            waiter: None,
            request: None,
            id: None,
            plan: None,
            record: None,
            environment: None,
            lock: None,
            keepers_lock: None,
            keeper: None,
            held: None,
            master: None,
            outputs: Vec::new(),
            port: 0,
            rest: REST,
            hurried: false,
            signal: None,
            injected: None,
            effect: None,
            seen: Figures::default(),
            end_began: None,
            error: None,
            next_look: Duration::ZERO,
            next_tick: Duration::ZERO,
        }
    }

    /// Waits for signals instead of being ended by them.
    pub(super) fn with_waiter(mut self) -> Result<Self, FaultError> {
        self.waiter = Some(Waiter::new().map_err(FaultError::Wait)?);
        Ok(self)
    }

    /// For a fault that is to be made.
    pub(super) fn with_request(mut self, request: &'a Request) -> Self {
        self.machine = Machine::new(self.machine.role(), request.mode.needs_keeper());
        self.request = Some(request);
        self
    }

    /// For the fault with this id only.
    pub(super) fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Goes through the whole life of this actor.
    pub(super) fn act(mut self) -> Ending {
        let mut event = Event::Start;
        loop {
            let action = self.machine.next(event);
            if let Action::Done(verdict) = action {
                let Self { record, seen, signal, error, keeper, .. } = self;
                return Ending { verdict, record, figures: seen, signal, error, keeper };
            }
            event = self.perform(action);
        }
    }

    /// Notes why something failed: the first reason is the one that is told.
    fn outcome<T>(&mut self, result: Result<T, FaultError>) -> Event {
        match result {
            Ok(_) => Event::Done,
            Err(e) => {
                self.error.get_or_insert(e);
                Event::Failed
            }
        }
    }

    fn warn(&mut self, text: impl Into<String>) {
        (self.tell)(Told::Warning(text.into()));
    }

    fn step(&mut self, step: Step) {
        if let Some(record) = &self.record {
            (self.tell)(Told::Event(Told_::now(record, step)));
        }
    }

    fn since_injected(&self) -> Option<u64> {
        self.injected.map(|at| millis(at.elapsed()))
    }

    /// Whether the fault we know is past its deadline, or of another boot.
    fn is_due(&self, record: &Record) -> bool {
        boot_id(self.paths).is_ok_and(|boot| record.time_left(clock::since_boot(), &boot).is_none())
    }

    fn is_of_another_boot(&self, record: &Record) -> bool {
        boot_id(self.paths).is_ok_and(|boot| boot != record.boot_id)
    }

    fn why(&self) -> Why {
        let rebooted = self.record.as_ref().is_some_and(|record| self.is_of_another_boot(record));
        match self.machine.cause() {
            _ if rebooted => Why::Reboot,
            Some(Cause::Deadline) => Why::Deadline,
            Some(Cause::Signal) => Why::Signal,
            Some(Cause::NoEffect) => Why::NoEffect,
            Some(Cause::Lost) if self.record.as_ref().is_some_and(|r| r.mode().ends_nginx()) => Why::Undone,
            Some(Cause::Lost) => Why::Lost,
            Some(Cause::Released) => Why::Released,
            Some(Cause::Unkept) => Why::Unkept,
            Some(Cause::Asked) | None => Why::Asked,
        }
    }
}

impl Ending {
    /// The reason, where there is one; else one that fits the verdict.
    pub(super) fn error(self) -> FaultError {
        let fallback = match self.verdict {
            Verdict::Busy | Verdict::Active => FaultError::Busy(super::lease::lock::LONGEST),
            Verdict::Taken => FaultError::NotRecovered("another fault has taken its place on record".into()),
            Verdict::Left => FaultError::GoingDown,
            _ => FaultError::NotRecovered("its keeper has been asked to end it, and has not yet".into()),
        };
        self.error.unwrap_or(fallback)
    }

    /// Why the fault could not be injected, where it was ended for that.
    pub(super) fn injection_error(&mut self) -> Option<FaultError> {
        self.error.take_if(|e| matches!(e, FaultError::Inject { .. } | FaultError::Record(_)))
    }

    /// Why there is no keeper, where one was to be had.
    pub(super) fn keeper_error(&mut self) -> Option<FaultError> {
        self.error.take_if(|e| matches!(e, FaultError::Lease(_)))
    }

    /// Has the keeper that was started reaped when it ends, as we may live longer than it.
    pub(super) fn reap(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            std::thread::spawn(move || keeper.wait());
        }
    }
}

pub(super) fn boot_id(paths: &Paths) -> Result<String, FaultError> {
    clock::boot_id().map_err(|why| FaultError::Folder { path: paths.state.clone(), why })
}

pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
