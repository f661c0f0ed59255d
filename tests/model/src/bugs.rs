//! What could be wrong with the program: each a step left out, done too early, or believed without a look.

use asg_agent::fault::machine::{Action, Patience};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The record isn't synced before nginx is touched.
    NoSyncOfTheRecord,
    /// The removal of the record isn't synced.
    NoSyncOfTheRemoval,
    /// No keeper is started before nginx is touched.
    NoKeeper,
    /// A keeper is believed to be there as soon as it was started.
    KeeperNotAwaited,
    /// Pids are signalled without looking whose they are.
    NotVerified,
    /// Signals that came before anything was touched are overlooked.
    NoCheck,
    /// The record is removed before nginx was looked at.
    RemovedBeforeTheLook,
    /// nginx is said to be back without a look.
    RestoredUnseen,
    /// No record is taken for the end of the fault.
    NothingIsEnded,
    /// No record is taken for the end of the fault by the keeper alone.
    KeeperTrustsTheFile,
    /// The end isn't under the lock.
    NoLock,
    /// A holder of the lock that was stopped is waited for.
    NoInsistence,
    /// The next verb doesn't look.
    VerbDoesNotLook,
    /// The keeper is deaf to the deadline.
    KeeperWaitsForEver,
    /// The keeper tries once.
    KeeperGivesUp,
    /// No mark is left.
    NoMark,
    /// The deadline is the wall clock's.
    WallClock,
    /// The deadline is that of a clock that stands still while the machine is suspended.
    ClockWithoutSuspend,
    /// A fault of another boot is taken for one of this boot.
    BootIgnored,
    /// Another fault's record is taken for ours.
    AnyRecordIsOurs,
    /// Nobody asks whether the machine is being shut down.
    DeafToShutdown,
    /// A second command begins though a fault is on record.
    SecondBegins,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::NoSyncOfTheRecord,
        Self::NoSyncOfTheRemoval,
        Self::NoKeeper,
        Self::KeeperNotAwaited,
        Self::NotVerified,
        Self::NoCheck,
        Self::RemovedBeforeTheLook,
        Self::RestoredUnseen,
        Self::NothingIsEnded,
        Self::KeeperTrustsTheFile,
        Self::NoLock,
        Self::NoInsistence,
        Self::VerbDoesNotLook,
        Self::KeeperWaitsForEver,
        Self::KeeperGivesUp,
        Self::NoMark,
        Self::WallClock,
        Self::ClockWithoutSuspend,
        Self::BootIgnored,
        Self::AnyRecordIsOurs,
        Self::DeafToShutdown,
        Self::SecondBegins,
    ];

    /// Whether an action is left out and taken for done.
    pub fn skips(self, action: Action, is_over: bool) -> bool {
        match self {
            Self::NoSyncOfTheRecord => action == Action::Sync && !is_over,
            Self::NoSyncOfTheRemoval => action == Action::Sync && is_over,
            Self::NoKeeper => action == Action::StartKeeper,
            Self::NotVerified => action == Action::Verify,
            Self::NoCheck => action == Action::Check,
            Self::NoLock => action == Action::Lock(Patience::Insist),
            Self::NoMark => action == Action::Mark,
            Self::RestoredUnseen => action == Action::Restore,
            Self::DeafToShutdown => action == Action::AskMachine,
            _ => false,
        }
    }
}
