//! The life of a fault as one pure state machine: whoever acts (the command, the keeper, the timer, the next verb,
//! `recover`) is a [`Machine`]; it is told what came of its last action and says the next. `actor` performs the actions
//! and decides nothing; `tests/model` goes through every order in which they can happen, be cut short, or be undone.
//! `agent/ARCHITECTURE.md` draws it.

mod begin;
mod end;
mod keep;
mod verb;

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `agent fail`: makes the fault, watches it, ends it.
    Command {
        /// Returns once the effect was seen.
        detach: bool,
    },
    /// Holds the lease: ends the fault when nobody else does.
    Keeper,
    /// Started by systemd's timer at the deadline.
    Timer,
    /// Any verb that root runs, before its own work; also the unit at boot.
    Verb,
    /// `agent recover`.
    Recover,
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Take the lock that whoever changes a fault must hold.
    Lock(Patience),
    /// Give it back.
    Unlock,
    /// Read the record and the mark of the last fault that was ended, and look whether a keeper is there.
    Look,
    /// Find the nginx that is meant, and whether it is safe.
    Plan,
    /// Keep nginx's environment beside the record that is about to be written.
    KeepEnvironment,
    /// Put the record in the place of the one there is: its bytes are synced before the name.
    Write(Stage),
    /// Sync the state folder: what was written or removed stays so through a power cut.
    Sync,
    /// Append to the history.
    Note(Noted),
    /// Start a keeper, and see it hold the keepers' lock in a session of its own.
    StartKeeper,
    /// Arm systemd's timer, where there is systemd, and see it armed.
    ArmTimer,
    /// Look for a signal that came meanwhile, at the clock, and whether the lock is still there.
    Check,
    /// Open a descriptor of nginx's master.
    Open,
    /// See that the process behind the descriptor is still the one meant.
    Verify,
    /// Let the keeper begin what only it can do.
    BeginPart,
    /// Make nginx fail.
    Inject,
    /// See the effect.
    Watch,
    /// Wait for the deadline, a signal, the end of the keeper, or the next look at the effect and the record.
    Wait,
    /// The keeper takes the keepers' lock.
    TakeKeepersLock,
    /// The keeper says that it keeps the fault.
    SayReady,
    /// The keeper waits until it is told to begin its part, and begins it.
    Part,
    /// The keeper lets go of nginx, where it holds it.
    LetGo,
    /// The keeper leaves the end to a command that lives, for a moment.
    Courtesy,
    /// Ask whether this machine is being shut down: then nothing can be started any more.
    AskMachine,
    /// Bring nginx back by what is observed, and see it answer.
    Restore,
    /// Write the mark: this fault was ended, nginx was seen to answer.
    Mark,
    /// Remove the environment that was kept.
    Forget,
    /// Remove the record.
    Remove,
    /// Tell the keeper that there is nothing to keep.
    Release,
    /// Take systemd's timer away.
    Disarm,
    /// Wait before the next try.
    Rest,
    /// Tell a keeper whose record is gone to end its fault now, and wait for it.
    AskKeeper,
    /// Nothing more to do.
    Done(Verdict),
}

/// How long the lock is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Patience {
    /// Until it is free, a fault is on record, or a signal comes.
    Free,
    /// Not at all.
    Try,
    /// Until it is free; a holder that is stopped or takes longer than any recovery is ended.
    Insist,
}

/// How far the record says that a fault has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing is touched yet.
    Armed,
    /// As before, with the keeper that holds the lease now.
    Kept,
    /// In force.
    Injected,
}

/// Lines of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Noted {
    /// It is about to begin.
    Armed,
    /// Its effect went before its time.
    Lost,
    /// It is over.
    Recovered,
    /// nginx did not come back.
    NotRecovered,
    /// It is left to the next boot.
    Left,
}

/// What came of the last action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// The actor begins.
    Start,
    /// It is done: taken, written, seen.
    Done,
    /// It could not be done, or was seen not to be so.
    Failed,
    /// Somebody else has the lock.
    Busy,
    /// A signal came.
    Signal,
    /// This machine is being shut down.
    GoingDown,
    /// Of [`Action::Look`].
    Seen(Seen),
    /// Of [`Action::Wait`].
    Woken(Woken),
}

/// What a look at the record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen {
    /// The record.
    pub record: OnRecord,
    /// Whether the mark says that the fault we know was ended.
    pub ended: bool,
    /// Whether the fault on record is past its deadline, or of another boot.
    pub due: bool,
    /// Whether a keeper is there.
    pub keeper: bool,
    /// Whether the effect of the fault on record goes with its keeper.
    pub needs_keeper: bool,
}

/// Which fault is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OnRecord {
    /// None.
    Nothing,
    /// The one that we know; any, where we know none.
    Ours,
    /// Another one than the one that we know.
    Another,
    /// There is something that can't be read or understood.
    Unreadable,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Woken {
    /// The deadline.
    Deadline,
    /// A signal.
    Signal,
    /// The keeper is gone.
    KeeperGone,
    /// The record isn't ours any more, or isn't there.
    RecordGone,
    /// The effect is gone.
    Lost,
}

/// Why a fault is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Its time is over.
    Deadline,
    /// A signal to the command.
    Signal,
    /// Somebody asked for it.
    Asked,
    /// It could not be injected, or had no effect.
    NoEffect,
    /// Its effect went before its time.
    Lost,
    /// Its keeper died, and the effect with it.
    Released,
    /// Its keeper died and could not be replaced.
    Unkept,
}

/// How an actor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// There was nothing to do for it.
    Nothing,
    /// Refused, or not possible: nothing was touched.
    Refused,
    /// A signal came before anything was touched.
    Signalled,
    /// A fault is on record already, or another command is at it.
    Active,
    /// The lock was not to be had.
    Busy,
    /// The effect was seen, the keeper has the rest.
    Detached,
    /// It is over: we saw nginx answer.
    Recovered,
    /// It is over: another saw nginx answer, and left its mark.
    Elsewhere,
    /// Another fault is on record: ours was taken off by somebody.
    Taken,
    /// nginx did not come back; it stays on record.
    NotRecovered,
    /// This machine is being shut down; it stays on record for the next boot.
    Left,
    /// Whether there is a fault can't be told.
    CannotTell,
}

/// An actor of the life of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Machine {
    role: Role,
    /// Whether the effect goes with the keeper (`hang`, `error`).
    needs_keeper: bool,
    /// Whether we know the fault ourselves, whatever becomes of the record.
    knows: bool,
    locked: bool,
    cause: Option<Cause>,
    step: Step,
}

/// Which action's outcome is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    Begin(begin::Step),
    Keep(keep::Step),
    Verb(verb::Step),
    End(end::Step),
}

impl Machine {
    /// An actor that has done nothing yet; `needs_keeper` is known to the command and to the keeper.
    pub fn new(role: Role, needs_keeper: bool) -> Self {
        let step = match role {
            Role::Command { .. } => Step::Begin(begin::Step::Start),
            Role::Keeper | Role::Timer => Step::Keep(keep::Step::Start),
            Role::Verb | Role::Recover => Step::Verb(verb::Step::Start),
        };
        Self { role, needs_keeper, knows: false, locked: false, cause: None, step }
    }

    /// Why the fault is being ended, once it is.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// Who acts.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it knows the fault itself, whatever becomes of the record.
    pub fn knows(&self) -> bool {
        self.knows
    }

    /// What to do after what came of the last action.
    pub fn next(&mut self, event: Event) -> Action {
        match self.step {
            Step::Begin(step) => self.begin(step, event),
            Step::Keep(step) => self.keep(step, event),
            Step::Verb(step) => self.verb(step, event),
            Step::End(step) => self.end(step, event),
        }
    }

    fn done(&mut self, verdict: Verdict) -> Action {
        if self.locked {
            self.step = Step::End(end::Step::Unlocked(verdict));
            self.locked = false;
            return Action::Unlock;
        }
        Action::Done(verdict)
    }
}
