//! The actions that change something, or look at it.

use super::Actor;
use crate::fault::error::FaultError;
use crate::fault::event::{Step, Why};
use crate::fault::failpoint::failpoint;
use crate::fault::history;
use crate::fault::lease::record::Record;
use crate::fault::lease::{arm, lock, mark, timer};
use crate::fault::machine::{Action, Event, Noted, OnRecord, Patience, Role, Seen};
use crate::fault::plan::unit;
use crate::fault::recovery::environment;
use crate::sys::clock::since_boot;
use crate::sys::file;
use std::time::{Duration, Instant};

/// How long another command is waited for that is starting or ending a fault.
const OTHERS: Duration = Duration::from_secs(10);
/// How long a keeper may take to end whose fault is over.
pub(super) const GOING: Duration = Duration::from_secs(2);

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
    pub(super) fn is_kept_for(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let kept = arm::is_held(self.paths).unwrap_or(false);
            if !kept || Instant::now() >= end {
                return kept;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn note(&mut self, noted: Noted) -> Event {
        let Some(record) = &self.record else { return Event::Failed };
        let (event, detail) = match noted {
            Noted::Armed => ("armed", String::new()),
            Noted::Lost => ("lost", self.seen.lost.clone().unwrap_or_default()),
            Noted::Recovered => {
                let mut detail = vec![why_text(self.why()).to_owned()];
                detail.extend(self.seen.differences.iter().map(|d| format!("difference: {d}")));
                (history::RECOVERED, detail.join("; "))
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
