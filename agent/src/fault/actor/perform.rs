//! The actions that change something, or look at it.

use jiff::Timestamp;

use super::shutdown::Shutdown;
use super::{Actor, boot_id, millis};
use crate::fault::error::FaultError;
use crate::fault::event::{Step, Told, Why};
use crate::fault::failpoint::failpoint;
use crate::fault::history;
use crate::fault::lease::record::{Phase, Record};
use crate::fault::lease::{arm, lock, mark, timer};
use crate::fault::machine::{Action, Event, Noted, OnRecord, Patience, Role, Seen, Stage};
use crate::fault::modes::inject::{self, inject};
use crate::fault::modes::packets;
use crate::fault::plan::preflight::{Request, plan};
use crate::fault::plan::unit;
use crate::fault::recovery::environment;
use crate::fault::recovery::restore::restore;
use crate::sys::clock::{rfc3339, since_boot};
use crate::sys::file;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{Exe, Identity};
use std::io;
use std::time::{Duration, Instant};

/// How long another command is waited for that is starting or ending a fault.
const OTHERS: Duration = Duration::from_secs(10);
/// How long a keeper may take to end whose fault is over.
const GOING: Duration = Duration::from_secs(2);
/// How long a keeper may take that was told to end a fault whose record is gone.
const KEEPER: Duration = Duration::from_secs(30);

impl Actor<'_, '_> {
    pub(super) fn perform(&mut self, action: Action) -> Event {
        match action {
            Action::Lock(patience) => self.take_lock(patience),
            Action::Unlock => {
                self.lock = None;
                if self.injected.is_some() && self.end_began.is_none() {
                    failpoint("injected");
                }
                Event::Done
            }
            Action::Look => self.look(),
            Action::Plan => self.plan(),
            Action::KeepEnvironment => self.keep_environment(),
            Action::Write(stage) => self.write(stage),
            Action::Sync => {
                let path = self.paths.state.clone();
                let synced = file::sync_folder(&path).map_err(|why| FaultError::File { path, why });
                self.outcome(synced)
            }
            Action::Note(noted) => self.note(noted),
            Action::StartKeeper => self.start_keeper(),
            Action::ArmTimer => self.arm_timer(),
            Action::Check => self.check(),
            Action::Open => self.open(),
            Action::Verify => self.verify(),
            Action::BeginPart => {
                let begun = self.keeper.as_mut().map_or(Ok(0), arm::Keeper::begin);
                self.port = *begun.as_ref().unwrap_or(&0);
                self.outcome(begun)
            }
            Action::Inject => self.inject(),
            Action::Watch => self.watch(),
            Action::Wait => self.wait(),
            Action::TakeKeepersLock => self.take_keepers_lock(),
            Action::SayReady => self.say_ready(),
            Action::Part => self.part(),
            Action::LetGo => {
                self.held = None;
                Event::Done
            }
            Action::Courtesy => self.courtesy(),
            Action::AskMachine => self.ask_machine(),
            Action::Restore => self.restore(),
            Action::Mark => self.mark(),
            Action::Forget => {
                let path = environment::path(&self.paths.state);
                let gone = environment::forget(&self.paths.state);
                self.outcome(gone.map_err(|why| FaultError::File { path, why }))
            }
            Action::Remove => {
                // Only ours; one that can't be read has been ours.
                let ours = self.record.as_ref().map(|record| &record.id);
                let other =
                    Record::read(&self.paths.state).ok().flatten().is_some_and(|r| Some(&r.id) != ours);
                let removed = if other { Ok(()) } else { Record::remove(&self.paths.state) };
                let removed = removed.map_err(FaultError::from);
                failpoint("recover.removed");
                self.outcome(removed)
            }
            Action::Release => {
                self.release();
                Event::Done
            }
            Action::Disarm => {
                if let Some(record) = self.record.as_ref().filter(|_| unit::is_booted()) {
                    timer::disarm(self.paths, record);
                }
                Event::Done
            }
            Action::Rest => self.rest(),
            Action::AskKeeper => self.ask_keeper(),
            Action::Done(_) => Event::Done,
        }
    }

    fn take_lock(&mut self, patience: Patience) -> Event {
        if patience == Patience::Free {
            return self.take_free_lock();
        }
        let taken = match patience {
            Patience::Insist => lock::insist(self.paths),
            _ => lock::take(self.paths, Duration::ZERO),
        };
        match taken {
            Ok(Some(lock)) => {
                self.lock = Some(lock);
                Event::Done
            }
            Ok(None) => {
                self.error.get_or_insert(FaultError::Busy(lock::LONGEST));
                Event::Busy
            }
            // The folder of the lock may be gone for good; nginx is not to stay down for that.
            Err(e) if self.machine.knows() => {
                self.warn(e.to_string());
                Event::Done
            }
            Err(e) => self.outcome::<()>(Err(e)),
        }
    }

    /// Waits until no fault is active; a signal meanwhile means that there will be none.
    fn take_free_lock(&mut self) -> Event {
        let end = Instant::now() + OTHERS;
        loop {
            match lock::take(self.paths, Duration::from_millis(50)) {
                Err(e) => return self.outcome::<()>(Err(e)),
                Ok(Some(lock)) => {
                    self.lock = Some(lock);
                    return if self.interrupted() { Event::Signal } else { Event::Done };
                }
                Ok(None) => {}
            }
            if self.interrupted() {
                return Event::Signal;
            }
            match Record::read(&self.paths.state) {
                Ok(Some(active)) => {
                    self.error = Some(FaultError::Active(describe(&active)));
                    return Event::Busy;
                }
                Err(e) => return self.outcome::<()>(Err(e.into())),
                Ok(None) if Instant::now() > end => {
                    self.error = Some(FaultError::Busy(OTHERS));
                    return Event::Busy;
                }
                // Another one is about to put its fault on record, or has just taken it off.
                Ok(None) => {}
            }
        }
    }

    pub(super) fn interrupted(&mut self) -> bool {
        self.signal = self.signal.or_else(|| self.waiter.as_ref()?.pending());
        self.signal.is_some()
    }

    fn look(&mut self) -> Event {
        let known = self.record.as_ref().map(|record| record.id.clone()).or_else(|| self.id.clone());
        let ended = known.as_ref().is_some_and(|id| mark::of(self.paths, id).is_some());
        let keeper = self.is_kept();
        let (record, on_record) = match Record::read(&self.paths.state) {
            Ok(None) => (None, OnRecord::Nothing),
            Ok(Some(record)) if known.as_ref().is_none_or(|id| *id == record.id) => {
                (Some(record), OnRecord::Ours)
            }
            Ok(Some(record)) => (Some(record), OnRecord::Another),
            Err(e) => {
                if self.record.is_some() {
                    self.warn(format!("{e}; the fault ends as it was written down"));
                } else {
                    self.error.get_or_insert(e.into());
                }
                (None, OnRecord::Unreadable)
            }
        };
        if matches!(self.machine.role(), Role::Command { .. }) && self.record.is_none() {
            self.error = match &record {
                Some(active) => Some(FaultError::Active(describe(active))),
                None if keeper => Some(FaultError::Active("one whose record was removed".into())),
                None => self.error.take(),
            };
        } else if on_record == OnRecord::Ours {
            // The one on disk may know a newer keeper.
            if self.environment.is_none() {
                self.environment =
                    file::read_trusted(&environment::path(&self.paths.state), 4 << 20).ok().flatten();
            }
            self.record.clone_from(&record);
        }
        Event::Seen(Seen {
            record: on_record,
            ended,
            due: record.as_ref().is_some_and(|record| self.is_due(record)),
            keeper,
            needs_keeper: record.as_ref().is_some_and(|record| record.mode().needs_keeper()),
        })
    }

    /// Whether a keeper is there. One whose fault was just ended goes in a moment: who begins a new one waits for that.
    fn is_kept(&self) -> bool {
        let begins = matches!(self.machine.role(), Role::Command { .. }) && self.record.is_none();
        self.is_kept_for(if begins { GOING } else { Duration::ZERO })
    }

    /// Whether there is still one after `limit`.
    fn is_kept_for(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let kept = arm::is_held(self.paths).unwrap_or(false);
            if !kept || Instant::now() >= end {
                return kept;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn plan(&mut self) -> Event {
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
    fn keep_environment(&mut self) -> Event {
        let path = environment::path(&self.paths.state);
        let kept = environment::keep(&self.paths.state, self.environment.as_deref());
        self.outcome(kept.map_err(|why| FaultError::File { path, why }))
    }

    fn write(&mut self, stage: Stage) -> Event {
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

    fn note(&mut self, noted: Noted) -> Event {
        let Some(record) = &self.record else { return Event::Failed };
        let (event, detail) = match noted {
            Noted::Armed => ("armed", String::new()),
            Noted::Lost => ("lost", self.seen.lost.clone().unwrap_or_default()),
            Noted::Recovered => {
                let mut detail = vec![why_text(self.why()).to_owned()];
                detail.extend(self.seen.differences.iter().map(|d| format!("difference: {d}")));
                ("recovered", detail.join("; "))
            }
            Noted::NotRecovered => {
                ("not_recovered", self.error.as_ref().map_or(String::new(), ToString::to_string))
            }
            Noted::Left => ("left", FaultError::GoingDown.to_string()),
        };
        let appended = history::append(&self.paths.log, record, event, &detail);
        let path = history::path(&self.paths.log);
        match noted {
            Noted::Armed => {
                return self.outcome(appended.map_err(|why| FaultError::File { path, why }));
            }
            Noted::Lost => self.tell_lost(),
            Noted::Recovered => failpoint("recover.noted"),
            Noted::NotRecovered | Noted::Left => {}
        }
        // A log that can't be written is no reason to leave a fault on record that is over.
        if let Err(e) = appended {
            self.warn(format!("{}: {e}", path.display()));
        }
        Event::Done
    }

    fn tell_lost(&mut self) {
        let what = self.seen.lost.clone().unwrap_or_default();
        let effective_ms = self.seen.effective_ms.unwrap_or_default();
        self.step(Step::Lost { effective_ms, what });
    }

    fn start_keeper(&mut self) -> Event {
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

    fn arm_timer(&mut self) -> Event {
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

    fn check(&mut self) -> Event {
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

    fn open(&mut self) -> Event {
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

    fn verify(&mut self) -> Event {
        let target = self.record.as_ref().and_then(|record| record.target());
        let same = target.is_none_or(|target| target.exe.is_run_by(target.master.pid));
        let verified = if same { Ok(()) } else { Err(io::Error::other("it runs another file by now")) };
        self.outcome(verified.map_err(|e| self.not_injected(e)))
    }

    fn inject(&mut self) -> Event {
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

    fn ask_machine(&mut self) -> Event {
        if unit::is_going_down() { self.going_down() } else { Event::Done }
    }

    fn going_down(&mut self) -> Event {
        self.error = Some(FaultError::GoingDown);
        Event::GoingDown
    }

    fn restore(&mut self) -> Event {
        let Some(record) = self.record.clone() else { return Event::Failed };
        let first = self.end_began.is_none();
        let start = *self.end_began.get_or_insert_with(Instant::now);
        if first {
            self.seen.held_ms = self.since_injected();
            if self.seen.lost.is_none() {
                self.seen.effective_ms = self.effect.as_ref().map(|(at, _)| millis(at.elapsed()));
            }
            let why = self.why();
            self.step(Step::Recovering { why });
        }
        failpoint("recover.begun");
        self.end_keeper(&record);
        let rebooted = self.is_of_another_boot(&record);
        let paths = self.paths;
        let shutdown = Shutdown::new(self.waiter.as_ref());
        let restored = match record.target().cloned().map(|t| if rebooted { t.of_another_boot() } else { t })
        {
            Some(target) => {
                // A reboot has taken the rules away.
                let packets = record.mode().touches_packets() && !rebooted;
                let removed = if packets { packets::remove().map_err(|e| e.to_string()) } else { Ok(()) };
                failpoint("recover.removed_rules");
                let is_keeper = |pid| arm::is_keeper(paths, &record, pid);
                removed.and_then(|()| restore(&target, &paths.state, &is_keeper, &|| shutdown.look()))
            }
            None => Ok(Vec::new()),
        };
        failpoint("recover.restored");
        let (told, seen) = (shutdown.told(), shutdown.seen());
        self.hurried |= told;
        if restored.is_err() && seen {
            return self.going_down();
        }
        match restored {
            Ok(differences) => {
                for difference in &differences {
                    self.warn(format!("nginx is not what it was: {difference}"));
                }
                self.seen.differences = differences;
                self.seen.first_ok_after_ms = Some(millis(start.elapsed()));
                self.error = self.error.take().filter(|e| !matches!(e, FaultError::NotRecovered(_)));
                Event::Done
            }
            Err(reason) => {
                self.error = Some(FaultError::NotRecovered(reason));
                Event::Failed
            }
        }
    }

    /// Where the keeper holds nginx or answers for it, its end is the end of that; and one that was told to begin, by a
    /// command that died since, must not begin once nginx was seen to answer.
    fn end_keeper(&self, record: &Record) {
        let us = Identity::ours().ok();
        let keepers = [record.keeper, arm::keeper(self.paths)].into_iter().flatten();
        for keeper in keepers.filter(|keeper| record.mode().needs_keeper() && Some(*keeper) != us) {
            if let Ok(Some(process)) = Handle::open(keeper) {
                let _ = process.signal(rustix::process::Signal::KILL);
                process.wait_end(GOING);
            }
        }
    }

    fn mark(&mut self) -> Event {
        let Some(record) = &self.record else { return Event::Failed };
        let marked = mark::write(
            self.paths,
            record,
            self.seen.first_ok_after_ms.unwrap_or_default(),
            &self.seen.differences,
        );
        if marked.is_ok() { Event::Done } else { Event::Failed }
    }

    fn release(&mut self) {
        if let Some(record) = self.record.clone() {
            if self.end_began.is_some() {
                crate::fault::recovery::recover::health_again(&record);
                let first_ok_after_ms = self.seen.first_ok_after_ms.unwrap_or_default();
                self.step(Step::Recovered { first_ok_after_ms });
            }
            arm::release(self.paths, record.keeper, Identity::ours().ok());
        }
    }

    /// A keeper that is just ending has given its name back already, and holds its lock until it is gone.
    fn ask_keeper(&mut self) -> Event {
        if let Some(Ok(Some(process))) = arm::keeper(self.paths).map(Handle::open) {
            let _ = process.signal(rustix::process::Signal::TERM);
        }
        if self.is_kept_for(KEEPER) { Event::Failed } else { Event::Done }
    }
}

/// A fault in a few words.
pub fn describe(record: &Record) -> String {
    let on = record.target().map_or(String::new(), |t| format!(" on nginx {}", t.master.pid));
    let left = record.deadline().saturating_sub(since_boot()).as_secs();
    format!("{}{on}, started by {} at {}, {left} s left", record.mode().name(), record.by, record.started)
}

fn why_text(why: Why) -> &'static str {
    match why {
        Why::Deadline => "deadline",
        Why::Signal => "signal",
        Why::Asked => "asked",
        Why::NoEffect => "no effect",
        Why::Reboot => "reboot",
        Why::Released => "released",
        Why::Undone => "undone",
        Why::Lost => "lost",
        Why::Unkept => "unkept",
    }
}
