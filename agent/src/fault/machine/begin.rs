//! The command: from nothing to a fault in force, and what it does while that lasts. The order is the promise: on record
//! and synced, then a keeper that was seen, then the timer, and only then is anything touched.

use super::{Action, Cause, Event, Machine, Noted, OnRecord, Patience, Role, Stage, Verdict, Woken};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    Start,
    Locked,
    Looked,
    Planned,
    Environment,
    Written,
    Recorded,
    Noted,
    Kept,
    LeaseWritten,
    LeaseRecorded,
    Timed,
    Checked,
    Opened,
    Verified,
    Begun,
    Injected,
    InForceWritten,
    InForce,
    Unlocked,
    Watched,
    Waited,
    LostNoted,
    LookedAgain,
    LockedAgain,
    LookedLocked,
    Rearmed,
    PutBack,
    PutBackSynced,
    Waiting,
}

impl Machine {
    pub(super) fn begin(&mut self, step: Step, event: Event) -> Action {
        use Step as S;
        match (step, event) {
            (S::Start, _) => self.go(S::Locked, Action::Lock(Patience::Free)),
            (S::Locked, Event::Done) => {
                self.locked = true;
                self.go(S::Looked, Action::Look)
            }
            (S::Locked, Event::Busy) => self.done(Verdict::Active),
            (S::Locked | S::Checked, Event::Signal) => self.undo(Verdict::Signalled),
            (S::Looked, Event::Seen(seen)) => match seen.record {
                OnRecord::Nothing if !seen.keeper => self.go(S::Planned, Action::Plan),
                OnRecord::Unreadable => self.done(Verdict::CannotTell),
                _ => self.done(Verdict::Active),
            },
            (S::Planned, Event::Done) => self.go(S::Environment, Action::KeepEnvironment),
            (S::Environment, Event::Done) => {
                self.knows = true;
                self.go(S::Written, Action::Write(Stage::Armed))
            }
            (S::Written, Event::Done) => self.go(S::Recorded, Action::Sync),
            (S::Recorded, Event::Done) => self.go(S::Noted, Action::Note(Noted::Armed)),
            (S::Noted, Event::Done) => self.go(S::Kept, Action::StartKeeper),
            (S::Kept, Event::Done) => self.go(S::LeaseWritten, Action::Write(Stage::Kept)),
            (S::LeaseWritten, Event::Done) => self.go(S::LeaseRecorded, Action::Sync),
            (S::LeaseRecorded, Event::Done) => self.go(S::Timed, Action::ArmTimer),
            (S::Timed, Event::Done) => self.go(S::Checked, Action::Check),
            (S::Checked, Event::Done) => self.go(S::Opened, Action::Open),
            (S::Opened, Event::Done) => self.go(S::Verified, Action::Verify),
            (S::Verified, Event::Done) if self.needs_keeper => self.go(S::Begun, Action::BeginPart),
            (S::Verified | S::Begun, Event::Done) => self.go(S::Injected, Action::Inject),
            (S::Injected, Event::Done) => self.go(S::InForceWritten, Action::Write(Stage::Injected)),
            (S::InForceWritten, Event::Done) => self.go(S::InForce, Action::Sync),
            (S::InForce, Event::Done) => {
                self.locked = false;
                self.go(S::Unlocked, Action::Unlock)
            }
            (S::Unlocked, _) => self.go(S::Watched, Action::Watch),
            (S::Watched, Event::Done) if self.role == (Role::Command { detach: true }) => {
                self.done(Verdict::Detached)
            }
            (S::Watched, Event::Done) => self.wait(),
            (S::Watched, Event::Signal) => self.end_for(Cause::Signal),
            (S::Waited, Event::Woken(woken)) => self.woken(woken),
            (S::LostNoted, _) => self.end_for(Cause::Lost),
            (S::LookedAgain | S::LookedLocked, Event::Seen(seen)) => match seen.record {
                OnRecord::Nothing if seen.ended => self.done(Verdict::Elsewhere),
                OnRecord::Another => self.done(Verdict::Taken),
                _ if self.needs_keeper && !seen.keeper => self.end_for(Cause::Released),
                // What is put right is put right under the lock: somebody may be ending the fault.
                _ if step == S::LookedAgain => self.go(S::LockedAgain, Action::Lock(Patience::Try)),
                _ if !seen.keeper => self.go(S::Rearmed, Action::StartKeeper),
                // Somebody removed it: the next verb shall find it again.
                OnRecord::Nothing => self.go(S::PutBack, Action::Write(Stage::Kept)),
                _ => self.unlock_and_wait(),
            },
            (S::LockedAgain, Event::Done) => {
                self.locked = true;
                self.go(S::LookedLocked, Action::Look)
            }
            (S::LockedAgain | S::Waiting, _) => self.wait(),
            (S::Rearmed, Event::Done) => self.go(S::PutBack, Action::Write(Stage::Kept)),
            (S::Rearmed, _) => self.end_for(Cause::Unkept),
            // A folder that is gone for good changes nothing: we and the keeper know the fault.
            (S::PutBack, _) => self.go(S::PutBackSynced, Action::Sync),
            (S::PutBackSynced, _) => self.unlock_and_wait(),
            // Something was touched, or may have been.
            (S::Begun | S::Injected | S::InForceWritten | S::InForce, Event::Signal) => {
                self.end_for(Cause::Signal)
            }
            (S::Begun | S::Injected | S::InForceWritten | S::InForce | S::Watched, _) => {
                self.end_for(Cause::NoEffect)
            }
            // Nothing was.
            _ => self.undo(Verdict::Refused),
        }
    }

    fn go(&mut self, step: Step, action: Action) -> Action {
        self.step = super::Step::Begin(step);
        action
    }

    fn unlock_and_wait(&mut self) -> Action {
        self.locked = false;
        self.go(Step::Waiting, Action::Unlock)
    }

    fn wait(&mut self) -> Action {
        self.go(Step::Waited, Action::Wait)
    }

    fn woken(&mut self, woken: Woken) -> Action {
        match woken {
            Woken::Deadline => self.end_for(Cause::Deadline),
            Woken::Signal => self.end_for(Cause::Signal),
            Woken::Lost => self.go(Step::LostNoted, Action::Note(Noted::Lost)),
            Woken::KeeperGone | Woken::RecordGone => self.go(Step::LookedAgain, Action::Look),
        }
    }
}
