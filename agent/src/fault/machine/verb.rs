//! Any verb that root runs, and `recover`: they know no fault but the one on record.

use super::{Action, Cause, Event, Machine, OnRecord, Patience, Role, Stage, Verdict};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    Start,
    Looked,
    Locked,
    LookedLocked,
    Kept,
    Written,
    Synced,
    Timed,
    Asked,
    LookedAfter,
}

impl Machine {
    pub(super) fn verb(&mut self, step: Step, event: Event) -> Action {
        use Step as S;
        match (step, event) {
            (S::Start, _) => self.on(S::Looked, Action::Look),
            (S::Looked, Event::Seen(seen)) => match (seen.record, self.role) {
                (OnRecord::Unreadable, _) => self.done(Verdict::CannotTell),
                (OnRecord::Nothing, Role::Recover) if seen.keeper => self.on(S::Asked, Action::AskKeeper),
                (OnRecord::Nothing, _) => self.done(Verdict::Nothing),
                (_, Role::Recover) => self.end_for(Cause::Asked),
                _ if seen.due => self.end_for(Cause::Deadline),
                _ => self.on(S::Locked, Action::Lock(Patience::Try)),
            },
            (S::Locked, Event::Done) => {
                self.locked = true;
                self.on(S::LookedLocked, Action::Look)
            }
            // Whoever holds it is at it.
            (S::Locked, _) => self.done(Verdict::Nothing),
            (S::LookedLocked, Event::Seen(seen)) => match seen.record {
                OnRecord::Nothing | OnRecord::Another => self.done(Verdict::Nothing),
                OnRecord::Unreadable => self.done(Verdict::CannotTell),
                OnRecord::Ours if seen.due => self.end_for(Cause::Deadline),
                OnRecord::Ours if seen.keeper => self.done(Verdict::Nothing),
                // The kernel let go of nginx when the keeper died; and nobody answers in its place.
                OnRecord::Ours if seen.needs_keeper => self.end_for(Cause::Released),
                OnRecord::Ours => self.on(S::Kept, Action::StartKeeper),
            },
            (S::Kept, Event::Done) => self.on(S::Written, Action::Write(Stage::Kept)),
            (S::Kept, _) => self.end_for(Cause::Unkept),
            (S::Written, _) => self.on(S::Synced, Action::Sync),
            (S::Synced, _) => self.on(S::Timed, Action::ArmTimer),
            (S::Timed, _) => self.done(Verdict::Nothing),
            (S::Asked, _) => self.on(S::LookedAfter, Action::Look),
            (S::LookedAfter, Event::Seen(seen)) => match seen.record {
                OnRecord::Nothing if seen.ended => self.done(Verdict::Elsewhere),
                OnRecord::Nothing if seen.keeper => self.done(Verdict::NotRecovered),
                OnRecord::Nothing => self.done(Verdict::Nothing),
                _ => self.end_for(Cause::Asked),
            },
            (S::Looked | S::LookedLocked | S::LookedAfter, _) => self.done(Verdict::CannotTell),
        }
    }

    fn on(&mut self, step: Step, action: Action) -> Action {
        self.step = super::Step::Verb(step);
        action
    }
}
