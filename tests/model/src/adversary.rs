//! What goes wrong in the world, between any two actions.

use asg_agent::fault::machine::{Action, Role};

use crate::perform::outcomes;
use crate::world::{COMMAND, END, KEEPER, PLACES, RECOVER, SECOND, TIMER, VERB, World};

/// A misfortune, or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// The process at this place does what it does next.
    Act(usize),
    /// Time passes.
    Tick,
    /// The machine is suspended for a while.
    Suspend,
    /// The wall clock is set back.
    StepClock,
    /// SIGKILL.
    Kill(usize),
    /// SIGSTOP, for good.
    Stop(usize),
    /// Somebody removes the record.
    RemoveRecord,
    /// Somebody removes the run folder: locks and mark.
    RemoveRun,
    /// Everything ends; what wasn't synced is lost, or isn't.
    PowerCut {
        /// Whether it is.
        lost: bool,
    },
    /// Ctrl-C to the command.
    Signal,
    /// Any verb is run; after a power cut it is the unit at boot.
    Verb,
    /// `recover` is run.
    Recover,
    /// `fail` is run again.
    SecondCommand,
    /// systemd's timer fires.
    Fire,
    /// nginx was restarted by its owner, and a stranger has got its pid.
    ReusePid,
    /// The machine is being shut down: everybody is told to end, and nothing can be started any more.
    ShutDown,
    /// nginx is stopped by its owner, after the fault.
    OwnerStops,
}

/// Takes a move that may happen, and what it changes.
type May<'a> = &'a mut dyn FnMut(Move, &dyn Fn(&mut World));

/// What may happen in this world, beside what the actors do.
pub fn moves(world: &World) -> Vec<(Move, World)> {
    let mut all = Vec::new();
    let mut may = |what: Move, change: &dyn Fn(&mut World)| {
        let mut after = world.clone();
        change(&mut after);
        all.push((what, after));
    };
    if world.time < END && is_time_seen(world) {
        may(Move::Tick, &|w| w.time += 1);
    }
    let verb = world.procs[VERB].is_none() && (world.budget.verbs > 0 || world.time >= END);
    if verb {
        may(Move::Verb, &|w| {
            w.budget.verbs = w.budget.verbs.saturating_sub(1);
            begin(w, VERB, Role::Verb, 0);
        });
    }
    if let Some(timer) = world.timer.filter(|timer| world.is_due(*timer) && world.procs[TIMER].is_none()) {
        may(Move::Fire, &|w| {
            w.timer = None;
            begin(w, TIMER, Role::Timer, timer.id);
        });
    }
    if world.budget.recovers > 0 && world.procs[RECOVER].is_none() {
        may(Move::Recover, &|w| {
            w.budget.recovers -= 1;
            begin(w, RECOVER, Role::Recover, 0);
        });
    }
    if world.budget.commands > 0 && world.time < END {
        may(Move::SecondCommand, &|w| {
            w.budget.commands -= 1;
            begin(w, SECOND, Role::Command { detach: true }, 2);
        });
    }
    // A machine that is shut down comes up again.
    if world.down {
        may(Move::PowerCut { lost: false }, &|w| w.boots(false));
    }
    if world.budget.any == 0 {
        return all;
    }
    misfortunes(world, &mut may);
    all
}

/// Whether anybody reads a clock next, or nobody can do anything: the order of time and of all else says nothing.
fn is_time_seen(world: &World) -> bool {
    let mut live = world.procs.iter().flatten().filter(|p| !p.stopped).peekable();
    live.peek().is_none()
        || live.any(|p| {
            use Action::{Check, Lock, Look, Part, Wait, Watch};
            matches!(p.next, Check | Lock(_) | Look | Part | Wait | Watch)
        })
}

/// A process that begins: what it does first is done, as before that nobody sees it.
fn begin(world: &mut World, place: usize, role: Role, id: u8) {
    world.spawn(place, role, id);
    let first = outcomes(world, place).into_iter().next();
    if let Some((after, None)) = first {
        *world = after;
    }
}

fn misfortunes(world: &World, may: May<'_>) {
    let budget = world.budget;
    let spend = |w: &mut World| w.budget.any -= 1;
    let lives = |place: &usize| world.procs[*place].is_some();
    let is_keeper = |place: usize| (KEEPER..KEEPER + 2).contains(&place);
    if budget.kills > 0 {
        for place in (0..PLACES).filter(lives) {
            may(Move::Kill(place), &|w| {
                spend(w);
                w.budget.kills -= 1;
                w.keeper_lost |= is_keeper(place);
                w.end(place);
            });
        }
    }
    if budget.stops > 0 {
        for place in (0..PLACES).filter(lives).filter(|p| world.procs[*p].is_some_and(|p| !p.stopped)) {
            may(Move::Stop(place), &|w| {
                spend(w);
                w.budget.stops -= 1;
                w.keeper_lost |= is_keeper(place);
                w.set(place, |p| p.stopped = true);
            });
        }
    }
    if budget.records > 0 && world.record.is_some() {
        may(Move::RemoveRecord, &|w| {
            spend(w);
            w.budget.records -= 1;
            w.record = None;
            w.robbed = true;
        });
    }
    if budget.runs > 0 {
        may(Move::RemoveRun, &|w| {
            spend(w);
            w.budget.runs -= 1;
            w.lock_file += 1;
            w.marks = 0;
            w.robbed_run = true;
            (0..PLACES).for_each(|place| w.set(place, |p| p.keeps = false));
        });
    }
    if budget.cuts > 0 {
        for lost in [false, true] {
            may(Move::PowerCut { lost }, &|w| {
                spend(w);
                w.budget.cuts -= 1;
                w.boots(lost);
            });
        }
    }
    if budget.shutdowns > 0 {
        may(Move::ShutDown, &|w| {
            spend(w);
            w.budget.shutdowns -= 1;
            // Its timer ends with systemd's other units; a keeper is told to end, and does.
            (w.down, w.timer, w.keeper_lost) = (true, None, true);
            (0..PLACES).for_each(|place| w.set(place, |p| p.signal = true));
        });
    }
    if budget.suspensions > 0 && world.time < END {
        may(Move::Suspend, &|w| {
            spend(w);
            w.budget.suspensions -= 1;
            w.time += 1;
            w.suspended += 1;
        });
    }
    if budget.steps > 0 {
        may(Move::StepClock, &|w| {
            spend(w);
            w.budget.steps -= 1;
            w.behind += END + 1;
        });
    }
    let command = world.procs[COMMAND].filter(|p| !p.signal);
    if budget.signals > 0
        && let Some(command) = command
    {
        may(Move::Signal, &|w| {
            spend(w);
            w.budget.signals -= 1;
            let early = matches!(command.next, Action::Lock(_)) && command.machine.cause().is_none();
            w.set(COMMAND, |p| (p.signal, p.early) = (true, early));
        });
    }
    let planned = command.is_some_and(|p| p.knows.is_some() && p.machine.cause().is_none());
    if budget.pids > 0 && planned && world.hurt().is_none() {
        may(Move::ReusePid, &|w| {
            spend(w);
            w.budget.pids -= 1;
            w.reused = true;
        });
    }
    if budget.admins > 0 && world.over != 0 && world.hurt().is_none() {
        may(Move::OwnerStops, &|w| {
            spend(w);
            w.budget.admins -= 1;
            w.by_owner = true;
        });
    }
}
