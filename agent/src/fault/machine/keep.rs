//! The keeper, and the timer's stand-in for it.

use super::{Action, Cause, Event, Machine, Noted, OnRecord, Role, Verdict, Woken};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    Start,
    KeepersLocked,
    Looked,
    Ready,
    Part,
    Waited,
    LetGo(Cause),
    LostNoted,
    LookedAgain,
    Courtesy,
    LookedAtEnd(Cause),
    Rested,
}

impl Machine {
    pub(super) fn keep(&mut self, step: Step, event: Event) -> Action {
        use Step as S;
        match (step, event) {
            (S::Start, _) if self.role == Role::Keeper => self.at(S::KeepersLocked, Action::TakeKeepersLock),
            (S::Start | S::Rested, _) => self.at(S::Looked, Action::Look),
            (S::KeepersLocked, Event::Done) => self.at(S::Looked, Action::Look),
            (S::Looked, Event::Seen(seen)) => match seen.record {
                OnRecord::Ours => {
                    self.knows = true;
                    self.needs_keeper = seen.needs_keeper;
                    if self.role == Role::Keeper {
                        self.at(S::Ready, Action::SayReady)
                    } else {
                        self.at(S::Waited, Action::Wait)
                    }
                }
                OnRecord::Unreadable if self.role == Role::Timer => self.at(S::Rested, Action::Rest),
                _ => self.done(Verdict::Nothing),
            },
            (S::Ready, _) if self.needs_keeper => self.at(S::Part, Action::Part),
            // Before anything was touched: the command sees us go.
            (S::Part, Event::Signal) => self.done(Verdict::Nothing),
            (S::Ready | S::Part, _) => self.at(S::Waited, Action::Wait),
            (S::Waited, Event::Woken(woken)) => match woken {
                Woken::Deadline => self.at(S::LetGo(Cause::Deadline), Action::LetGo),
                Woken::Signal => self.at(S::LookedAgain, Action::Look),
                Woken::Lost => self.at(S::LostNoted, Action::Note(Noted::Lost)),
                // Not what a keeper waits for.
                Woken::KeeperGone | Woken::RecordGone => self.at(S::Waited, Action::Wait),
            },
            (S::LostNoted, _) => self.at(S::LetGo(Cause::Lost), Action::LetGo),
            // Told by whoever has ended the fault, or by somebody who wants it ended.
            (S::LookedAgain, Event::Seen(seen)) => match seen.record {
                OnRecord::Nothing if seen.ended => self.done(Verdict::Elsewhere),
                OnRecord::Another => self.done(Verdict::Taken),
                _ => self.at(S::LetGo(Cause::Asked), Action::LetGo),
            },
            (S::LetGo(Cause::Deadline), _) if self.role == Role::Keeper => {
                self.at(S::Courtesy, Action::Courtesy)
            }
            (S::Courtesy, _) => self.at(S::LookedAtEnd(Cause::Deadline), Action::Look),
            // Ended already: then not even the lock is waited for.
            (S::LookedAtEnd(_), Event::Seen(seen)) if seen.ended && seen.record == OnRecord::Nothing => {
                self.done(Verdict::Elsewhere)
            }
            (S::LetGo(cause) | S::LookedAtEnd(cause), _) => self.end_for(cause),
            (S::KeepersLocked, _) => self.done(Verdict::Busy),
            (S::Waited | S::Looked | S::LookedAgain, _) => self.end_for(Cause::Asked),
        }
    }

    fn at(&mut self, step: Step, action: Action) -> Action {
        self.step = super::Step::Keep(step);
        action
    }
}
