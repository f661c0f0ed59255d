//! What the command does until a fault is in force.

use jiff::Timestamp;

use super::{Actor, boot_id, millis};
use crate::fault::error::FaultError;
use crate::fault::event::{Step, Told};
use crate::fault::failpoint::failpoint;
use crate::fault::lease::record::{Phase, Record};
use crate::fault::lease::{arm, lock, timer};
use crate::fault::machine::{Event, Stage};
use crate::fault::modes::inject::{self, inject};
use crate::fault::plan::preflight::{Request, plan};
use crate::fault::plan::unit;
use crate::fault::recovery::environment;
use crate::sys::clock::{rfc3339, since_boot};
use crate::sys::file;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{Exe, Identity};
use std::io;
use std::time::Instant;

impl Actor<'_, '_> {
    pub(super) fn plan(&mut self) -> Event {
        let Some(request) = self.request else { return Event::Failed };
        let planned = plan(request).and_then(|plan| Ok((self.new_record(request, &plan)?, plan)));
        match planned {
            Ok((record, plan)) => {
                plan.notes.iter().for_each(|note| (self.tell)(Told::Warning(note.clone())));
                self.environment.clone_from(&plan.environment);
                self.plan = Some(plan);
                self.record = Some(record);
                Event::Done
            }
            Err(e) => self.outcome::<()>(Err(e)),
        }
    }

    fn new_record(
        &self,
        request: &Request,
        plan: &crate::fault::plan::preflight::Plan,
    ) -> Result<Record, FaultError> {
        let us = Identity::ours().ok();
        Ok(Record {
            fault: plan.fault.clone(),
            boot_id: boot_id(self.paths)?,
            deadline_boottime_ms: millis(since_boot() + request.lasts),
            id: format!("{}-{}", since_boot().as_nanos(), std::process::id()),
            phase: Phase::Armed,
            started: rfc3339(Timestamp::now()),
            by: request.by.clone(),
            holder: us,
            keeper: None,
            agent: us.and_then(|us| Exe::of(us.pid).ok()),
        })
    }

    /// Before the record, which is never without it.
    pub(super) fn keep_environment(&mut self) -> Event {
        let path = environment::path(&self.paths.state);
        let kept = environment::keep(&self.paths.state, self.environment.as_deref());
        self.outcome(kept.map_err(|why| FaultError::File { path, why }))
    }

    pub(super) fn write(&mut self, stage: Stage) -> Event {
        let Some(record) = &mut self.record else { return Event::Failed };
        match stage {
            Stage::Armed => record.phase = Phase::Armed,
            Stage::Injected => record.phase = Phase::Injected,
            Stage::Kept => {}
        }
        if let Some(keeper) = &self.keeper {
            record.keeper = Some(keeper.ended().id);
        }
        let folder = file::ensure_folder(&self.paths.state);
        let environment = environment::path(&self.paths.state);
        if folder.is_ok() && !environment.exists() && self.environment.is_some() {
            let _ = environment::keep(&self.paths.state, self.environment.as_deref());
        }
        let written = record.write(&self.paths.state).map_err(FaultError::from);
        match stage {
            Stage::Armed => failpoint("recorded"),
            Stage::Kept => {}
            Stage::Injected if written.is_ok() => self.step(Step::Injected),
            Stage::Injected => {}
        }
        self.outcome(written)
    }

    pub(super) fn start_keeper(&mut self) -> Event {
        let Some(record) = &self.record else { return Event::Failed };
        match arm::arm(self.paths, record) {
            Ok(keeper) => {
                self.keeper = Some(keeper);
                Event::Done
            }
            Err(e) => {
                if self.injected.is_some() {
                    self.warn(e.to_string());
                }
                self.outcome::<()>(Err(e))
            }
        }
    }

    pub(super) fn arm_timer(&mut self) -> Event {
        let Some(record) = &self.record else { return Event::Failed };
        let armed = if unit::is_booted() { timer::arm(self.paths, record) } else { Ok(()) };
        let event = self.outcome(armed.map_err(|e| FaultError::Lease(e.to_string())));
        if event == Event::Done
            && let (Some(record), Some(keeper), Some(request)) = (&self.record, &self.keeper, self.request)
        {
            failpoint("leased");
            let step = Step::Armed {
                pid: record.target().map(|t| t.master.pid),
                duration_ms: millis(request.lasts),
                lease: if unit::is_booted() { "timer" } else { "keeper" },
                lease_pid: keeper.pid(),
            };
            self.step(step);
        }
        event
    }

    pub(super) fn check(&mut self) -> Event {
        if self.interrupted() {
            return Event::Signal;
        }
        if unit::is_going_down() {
            let down = io::Error::other("this machine is being shut down");
            return self.outcome::<()>(Err(self.not_injected(down)));
        }
        let late = self.record.as_ref().is_none_or(|record| self.is_due(record));
        if late {
            let why = io::Error::new(io::ErrorKind::TimedOut, "its time was over before it began");
            return self.outcome::<()>(Err(self.not_injected(why)));
        }
        if !self.lock.as_ref().is_some_and(|lock| lock.is_current(&lock::path(self.paths))) {
            let robbed = io::Error::other("the lock was removed by somebody meanwhile");
            return self.outcome::<()>(Err(self.not_injected(robbed)));
        }
        Event::Done
    }

    fn not_injected(&self, why: io::Error) -> FaultError {
        let mode = self.record.as_ref().map_or("", |record| record.mode().name());
        let target = self.record.as_ref().and_then(|record| record.target());
        let on = target.map_or(String::new(), |t| format!(" nginx {}", t.master.pid));
        FaultError::Inject { what: format!("{mode}{on}"), why }
    }

    pub(super) fn open(&mut self) -> Event {
        let Some(target) = self.record.as_ref().and_then(|record| record.target()) else {
            return Event::Done;
        };
        match Handle::open(target.master) {
            Ok(Some(master)) => {
                self.master = Some(master);
                failpoint("inject.opened");
                Event::Done
            }
            Ok(None) => {
                let gone = self.not_injected(io::Error::other("it has ended meanwhile"));
                self.outcome::<()>(Err(gone))
            }
            Err(e) => self.outcome::<()>(Err(self.not_injected(e))),
        }
    }

    pub(super) fn verify(&mut self) -> Event {
        let target = self.record.as_ref().and_then(|record| record.target());
        let same = target.is_none_or(|target| target.exe.is_run_by(target.master.pid));
        let verified = if same { Ok(()) } else { Err(io::Error::other("it runs another file by now")) };
        self.outcome(verified.map_err(|e| self.not_injected(e)))
    }

    pub(super) fn inject(&mut self) -> Event {
        let (Some(record), Some(waiter)) = (self.record.clone(), &self.waiter) else { return Event::Failed };
        let signal = &mut self.signal;
        let mut interrupted = || {
            *signal = signal.or_else(|| waiter.pending());
            signal.is_some()
        };
        let injected = inject(&record, self.master.as_ref(), self.port, &mut interrupted);
        failpoint("inject.done");
        match injected {
            Ok(inject::Injected::Yes) => {
                self.injected = Some(Instant::now());
                Event::Done
            }
            Ok(inject::Injected::Interrupted) => {
                self.injected = Some(Instant::now());
                Event::Signal
            }
            Err(e) => {
                let failed = self.not_injected(e);
                self.outcome::<()>(Err(failed))
            }
        }
    }
}
