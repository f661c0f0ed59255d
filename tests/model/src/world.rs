//! The state of the world: what is on disk and what of it survives a power cut, who lives and what he is about to do.

use asg_agent::fault::machine::{Action, Event, Machine, Role, Stage, Verdict};

use crate::bugs::Bug;

/// Where time ends: a tick after the deadline.
pub const END: u8 = 2;
/// How long a fault lasts.
pub const LASTS: u8 = 1;

/// What holds the effect of the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `stop`, `crash`: nginx is gone until it is started.
    Gone,
    /// `hang`: the keeper holds nginx.
    Held,
    /// `drop`, `reject`: rules that the kernel takes away at the deadline.
    Rules,
    /// `unhealthy`, `slow`: what the record says until its deadline.
    Record,
}

/// Places of processes.
pub const COMMAND: usize = 0;
/// A second command.
pub const SECOND: usize = 1;
/// The first of two keepers.
pub const KEEPER: usize = 2;
/// What the timer starts.
pub const TIMER: usize = 4;
/// Any verb, or the unit at boot.
pub const VERB: usize = 5;
/// `recover`.
pub const RECOVER: usize = 6;
/// How many places there are.
pub const PLACES: usize = 7;

/// The record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rec {
    /// Which fault.
    pub id: u8,
    /// How far it is.
    pub stage: Stage,
    /// When it ends.
    pub deadline: u8,
    /// In which boot.
    pub boot: u8,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Proc {
    /// What decides for it.
    pub machine: Machine,
    /// What it does next.
    pub next: Action,
    /// The fault it means, where it means one.
    pub id: u8,
    /// That fault, in memory.
    pub knows: Option<Rec>,
    /// The generation of the lock it holds.
    pub lock: Option<u8>,
    /// Whether it holds the keepers' lock.
    pub keeps: bool,
    /// The keeper it has started.
    pub keeper: Option<u8>,
    /// Whether that one was started and isn't there yet.
    pub starting: bool,
    /// It is a keeper that has said that it keeps the fault.
    pub ready: bool,
    /// It is a keeper that was told to begin its part.
    pub told: bool,
    /// It is a keeper that holds nginx.
    pub holds: bool,
    /// Stopped: it does nothing any more.
    pub stopped: bool,
    /// A signal is pending.
    pub signal: bool,
    /// The signal came before the lock was had.
    pub early: bool,
    /// What its descriptor is of: nginx, or a stranger.
    pub opened: Option<bool>,
    /// Whether it saw nginx answer since the fault.
    pub saw: bool,
    /// Whether it has tried to bring nginx back while the machine was going down.
    pub tried: bool,
    /// Whether, when it looked last, there was a fault for it to end, and nobody at it.
    pub found: bool,
}

/// How much more may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Of anything.
    pub any: u8,
    /// Kills.
    pub kills: u8,
    /// Processes that are stopped.
    pub stops: u8,
    /// Power cuts.
    pub cuts: u8,
    /// Removals of the record.
    pub records: u8,
    /// Removals of the run folder.
    pub runs: u8,
    /// Suspensions.
    pub suspensions: u8,
    /// Steps of the wall clock.
    pub steps: u8,
    /// Pids that are used again.
    pub pids: u8,
    /// Restarts of nginx that fail.
    pub restarts: u8,
    /// Signals to the command.
    pub signals: u8,
    /// Verbs, beside those that come after the end of time.
    pub verbs: u8,
    /// `recover`s.
    pub recovers: u8,
    /// Second commands.
    pub commands: u8,
    /// nginx stopped by its owner after the fault.
    pub admins: u8,
    /// Shutdowns.
    pub shutdowns: u8,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// What holds the effect.
    pub kind: Kind,
    /// Whether systemd runs the machine.
    pub systemd: bool,
    /// What is wrong with the program.
    pub bug: Option<Bug>,
    /// Time since boot, suspensions and all.
    pub time: u8,
    /// Of that, what was suspended.
    pub suspended: u8,
    /// What the wall clock is behind.
    pub behind: u8,
    /// Which boot it is.
    pub boot: u8,
    /// The record as processes see it.
    pub record: Option<Rec>,
    /// As it is after a power cut.
    pub synced: Option<Rec>,
    /// The marks of the faults that were ended (bits).
    pub marks: u8,
    /// The generation of the lock's file.
    pub lock_file: u8,
    /// systemd's timer: the fault and its end.
    pub timer: Option<Rec>,
    /// nginx is gone, for which fault.
    pub gone: Option<u8>,
    /// The kernel's rules, for which fault and until when.
    pub rules: Option<Rec>,
    /// Whether nginx's pid is a stranger's by now.
    pub reused: bool,
    /// nginx was stopped by its owner.
    pub by_owner: bool,
    /// Whether the machine is being shut down.
    pub down: bool,
    /// The processes.
    pub procs: [Option<Proc>; PLACES],
    /// How much more may go wrong.
    pub budget: Budget,
    /// Whether somebody removed the record.
    pub robbed: bool,
    /// Whether somebody removed the run folder.
    pub robbed_run: bool,
    /// Whether something was injected when its time was over, or its lock gone: since the last look at both.
    pub late: bool,
    /// Whether a keeper was killed, stopped, or lost its boot.
    pub keeper_lost: bool,
    /// The faults that are over, as somebody said (bits).
    pub over: u8,
    /// The faults that a keeper was ready for (bits).
    pub kept: u8,
}

impl World {
    /// A machine with one command that is about to begin.
    pub fn new(kind: Kind, bug: Option<Bug>, budget: Budget) -> Self {
        let mut world = Self {
            kind,
            systemd: false,
            bug,
            time: 0,
            suspended: 0,
            behind: 0,
            boot: 0,
            record: None,
            synced: None,
            marks: 0,
            lock_file: 0,
            timer: None,
            gone: None,
            rules: None,
            reused: false,
            by_owner: false,
            down: false,
            procs: [None; PLACES],
            budget,
            robbed: false,
            robbed_run: false,
            late: false,
            keeper_lost: false,
            over: 0,
            kept: 0,
        };
        world.spawn(COMMAND, Role::Command { detach: false }, 1);
        world
    }

    /// Starts a process.
    pub fn spawn(&mut self, place: usize, role: Role, id: u8) {
        let mut machine = Machine::new(role, self.kind == Kind::Held);
        let next = machine.next(Event::Start);
        self.procs[place] = Some(Proc {
            machine,
            next,
            id,
            knows: None,
            lock: None,
            keeps: false,
            keeper: None,
            starting: false,
            ready: false,
            told: false,
            holds: false,
            stopped: false,
            // Who begins while everybody is told to end is told so, too.
            signal: self.down,
            early: false,
            opened: None,
            saw: false,
            tried: false,
            found: false,
        });
    }

    /// Whether nginx, or `/health`, fails because of a fault; which.
    pub fn hurt(&self) -> Option<Rec> {
        let unknown = |id| Rec { id, stage: Stage::Injected, deadline: LASTS, boot: 0 };
        match self.kind {
            Kind::Gone => self.gone.map(|id| self.any_record(id).unwrap_or_else(|| unknown(id))),
            Kind::Held => self.procs.iter().flatten().find(|p| p.holds).and_then(|p| p.knows),
            Kind::Rules => self.rules.filter(|rules| self.time < rules.deadline),
            Kind::Record => self
                .record
                .filter(|r| r.stage == Stage::Injected && r.boot == self.boot && self.time < r.deadline),
        }
    }

    fn any_record(&self, id: u8) -> Option<Rec> {
        let known = self.procs.iter().flatten().filter_map(|p| p.knows);
        [self.record, self.synced].into_iter().flatten().chain(known).find(|r| r.id == id)
    }

    /// Whether a fault is past its deadline, as the program reads its clock.
    pub fn is_due(&self, record: Rec) -> bool {
        let now = match self.bug {
            Some(Bug::WallClock) => self.time.saturating_sub(self.behind),
            Some(Bug::ClockWithoutSuspend) => self.time - self.suspended,
            _ => self.time,
        };
        (record.boot != self.boot && self.bug != Some(Bug::BootIgnored)) || now >= record.deadline
    }

    /// Who holds the lock.
    pub fn holder(&self) -> Option<usize> {
        (0..PLACES).find(|place| self.procs[*place].is_some_and(|p| p.lock == Some(self.lock_file)))
    }

    /// Whether a keeper is there.
    pub fn is_kept(&self) -> bool {
        self.procs.iter().flatten().any(|p| p.keeps)
    }

    /// The machine comes up again; what wasn't synced may be lost. Memory is: the mark, systemd's transient timer, the
    /// rules, and all processes.
    pub fn boots(&mut self, lost: bool) {
        self.boot += 1;
        self.record = if lost { self.synced } else { self.record };
        self.synced = self.record;
        self.procs = [None; PLACES];
        (self.marks, self.timer, self.rules) = (0, None, None);
        (self.keeper_lost, self.down) = (true, false);
    }

    /// A process ends.
    pub fn end(&mut self, place: usize) {
        self.procs[place] = None;
    }

    /// Whether a verb, or `recover`, that looks now finds a fault to end, and nobody at it.
    pub fn is_for(&self, place: usize) -> bool {
        let Some(proc) = self.procs[place] else { return false };
        let due = |hurt: &Rec| self.time >= hurt.deadline || hurt.boot != self.boot;
        let hurt = match proc.machine.role() {
            Role::Verb => self.hurt().filter(due),
            Role::Recover => self.hurt(),
            _ => None,
        };
        let holder = self.holder().filter(|holder| *holder != place);
        let at_it = holder.is_some_and(|holder| self.procs[holder].is_some_and(|p| !p.stopped));
        let removed = self.robbed || self.robbed_run && self.record.is_none();
        hurt.is_some() && !at_it && !removed
    }

    /// How an actor's claim is wrong, if it is.
    pub fn wrong_claim(&self, place: usize, verdict: Verdict) -> Option<&'static str> {
        let proc = self.procs[place]?;
        let ours = self.hurt().filter(|hurt| proc.id == 0 || hurt.id == proc.id);
        match verdict {
            Verdict::Recovered if !proc.saw => Some("recovered, says who has not looked at nginx"),
            // Without a lock to keep them apart, one may inject while another ends it; both end it in the end.
            Verdict::Recovered | Verdict::Elsewhere if ours.is_some() && !self.robbed_run => {
                Some("recovered, says somebody, and nginx still fails")
            }
            Verdict::Left if !self.down => Some("the machine is going down, says somebody, and it isn't"),
            Verdict::Left if !(self.robbed || self.robbed_run || self.is_on_disk(proc.knows)) => {
                Some("left to the next boot, which knows nothing of it")
            }
            Verdict::Nothing if proc.found && ours.is_some() => {
                Some("somebody has passed by a fault that was his to end")
            }
            _ => None,
        }
    }

    fn is_on_disk(&self, known: Option<Rec>) -> bool {
        known.is_some_and(|known| self.synced.is_some_and(|synced| synced.id == known.id))
    }

    /// What must never be, whoever is about to do what.
    pub fn wrong_state(&self) -> Option<&'static str> {
        let hurt = self.hurt()?;
        let known = self.procs.iter().flatten().any(|p| p.knows.is_some_and(|r| r.id == hurt.id));
        if !known && !self.robbed && !self.robbed_run && self.record.is_none_or(|r| r.id != hurt.id) {
            return Some("nginx fails, and nobody knows why");
        }
        None
    }

    /// What must not be when nobody can do anything any more and time has ended.
    pub fn wrong_end(&self) -> Option<&'static str> {
        if self.down && self.procs.iter().flatten().any(|p| !p.stopped) {
            return Some("the machine goes down, and somebody waits for something");
        }
        let hurt = self.hurt()?;
        // Without a lock to keep them apart, the keeper may have ended it before it was injected.
        let apart = !(self.robbed_run && self.late);
        (apart
            && self.time >= END
            && hurt.deadline <= LASTS
            && !self.keeper_lost
            && self.kept & 1 << hurt.id != 0)
            .then_some("the keeper was left alone, and the fault is still there after its deadline")
    }
}
