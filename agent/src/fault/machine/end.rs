//! The end of a fault, the same for everybody who may come to it. Whoever holds the lock ends it; the others find its
//! mark. The mark and the removal come after nginx was seen to answer, and in this order: who finds neither record nor
//! mark knows that nobody has looked.

use super::{Action, Cause, Event, Machine, Noted, OnRecord, Patience, Role, Stage, Verdict};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    Locked,
    Looked,
    PutBack,
    PutBackSynced,
    Asked,
    Restored,
    Marked,
    Noted,
    Forgotten,
    Removed,
    Synced,
    Released,
    Disarmed,
    FailureNoted,
    FailureKept,
    FailureUnlocked,
    Kept,
    KeptSynced,
    LeftNoted,
    Rested,
    Unlocked(Verdict),
    UndoForgotten(Verdict),
    UndoRemoved(Verdict),
    UndoSynced(Verdict),
    UndoReleased(Verdict),
    UndoDisarmed(Verdict),
}

impl Machine {
    /// Begins the end, whether or not we hold the lock.
    pub(super) fn end_for(&mut self, cause: Cause) -> Action {
        self.cause = Some(cause);
        if self.locked { self.to(Step::Looked, Action::Look) } else { self.take_lock() }
    }

    /// Takes back what was prepared for a fault that nothing was touched for.
    pub(super) fn undo(&mut self, verdict: Verdict) -> Action {
        if self.knows { self.to(Step::UndoForgotten(verdict), Action::Forget) } else { self.done(verdict) }
    }

    pub(super) fn end(&mut self, step: Step, event: Event) -> Action {
        use Step as S;
        match (step, event) {
            (S::Locked, Event::Done) => {
                self.locked = true;
                self.to(S::Looked, Action::Look)
            }
            (S::Locked, _) => self.failed(Verdict::Busy),
            (S::Looked, Event::Seen(seen)) => {
                self.needs_keeper |= seen.needs_keeper;
                match seen.record {
                    OnRecord::Ours => {
                        self.knows = true;
                        self.to(S::Asked, Action::AskMachine)
                    }
                    OnRecord::Another => self.done(Verdict::Taken),
                    OnRecord::Nothing if seen.ended => self.done(Verdict::Elsewhere),
                    // Removed by somebody, without a look at nginx: should we die now, others must know.
                    OnRecord::Nothing if self.knows => self.to(S::PutBack, Action::Write(Stage::Kept)),
                    OnRecord::Nothing => self.done(Verdict::Nothing),
                    OnRecord::Unreadable if self.knows => self.to(S::Asked, Action::AskMachine),
                    OnRecord::Unreadable => self.failed(Verdict::CannotTell),
                }
            }
            (S::PutBack, _) => self.to(S::PutBackSynced, Action::Sync),
            (S::PutBackSynced, _) => self.to(S::Asked, Action::AskMachine),
            // Whoever went on trying would keep the machine from going down. What the next boot needs is on disk.
            (S::Asked | S::Restored, Event::GoingDown) => self.to(S::Kept, Action::Write(Stage::Kept)),
            (S::Kept, _) => self.to(S::KeptSynced, Action::Sync),
            (S::KeptSynced, _) => self.to(S::LeftNoted, Action::Note(Noted::Left)),
            (S::LeftNoted, _) => self.done(Verdict::Left),
            (S::Asked, _) => self.to(S::Restored, Action::Restore),
            (S::Restored, Event::Done) => self.to(S::Marked, Action::Mark),
            (S::Restored, _) => self.to(S::FailureNoted, Action::Note(Noted::NotRecovered)),
            // Without its mark (a full disk) it ends all the same: the others look for themselves.
            (S::Marked, _) => self.to(S::Noted, Action::Note(Noted::Recovered)),
            // First, so that no secret is left behind without a record; nginx runs and needs it no more.
            (S::Noted, _) => self.to(S::Forgotten, Action::Forget),
            (S::Forgotten, Event::Done) => self.to(S::Removed, Action::Remove),
            (S::Removed, Event::Done) => self.to(S::Synced, Action::Sync),
            (S::Forgotten | S::Removed, _) => self.to(S::FailureNoted, Action::Note(Noted::NotRecovered)),
            (S::Synced, _) => self.to(S::Released, Action::Release),
            (S::Released, _) => self.to(S::Disarmed, Action::Disarm),
            (S::Disarmed, _) => self.done(Verdict::Recovered),
            // Its end began with the end of its keeper: another one shall try again.
            (S::FailureNoted, _) if self.needs_keeper && !self.tries_again() => {
                self.to(S::FailureKept, Action::StartKeeper)
            }
            (S::FailureNoted | S::FailureKept, _) => {
                self.locked = false;
                self.to(S::FailureUnlocked, Action::Unlock)
            }
            (S::FailureUnlocked, _) => self.failed(Verdict::NotRecovered),
            (S::Rested, _) => self.take_lock(),
            (S::UndoForgotten(v), _) => self.to(S::UndoRemoved(v), Action::Remove),
            (S::UndoRemoved(v), _) => self.to(S::UndoSynced(v), Action::Sync),
            (S::UndoSynced(v), _) => self.to(S::UndoReleased(v), Action::Release),
            (S::UndoReleased(v), _) => self.to(S::UndoDisarmed(v), Action::Disarm),
            (S::UndoDisarmed(v), _) => self.done(v),
            (S::Unlocked(verdict), _) => self.done(verdict),
            (S::Looked, _) => self.failed(Verdict::CannotTell),
        }
    }

    /// Who must not give up tries again; the others say so.
    fn failed(&mut self, verdict: Verdict) -> Action {
        if !self.tries_again() {
            return self.done(verdict);
        }
        if self.locked {
            self.locked = false;
            return self.to(Step::FailureUnlocked, Action::Unlock);
        }
        self.to(Step::Rested, Action::Rest)
    }

    fn tries_again(&self) -> bool {
        matches!(self.role, Role::Keeper | Role::Timer)
    }

    fn take_lock(&mut self) -> Action {
        self.to(Step::Locked, Action::Lock(Patience::Insist))
    }

    fn to(&mut self, step: Step, action: Action) -> Action {
        self.step = super::Step::End(step);
        action
    }
}
