//! What each action of the machine does to the world, and what comes of it. An action that waits has no outcome until what
//! it waits for is there.

use asg_agent::fault::machine::{Action, Event, OnRecord, Patience, Role, Seen, Stage, Verdict, Woken};

use crate::bugs::Bug;
use crate::world::{COMMAND, KEEPER, Kind, LASTS, Rec, World};

/// A world after an action, and what was wrong with it.
pub type After = (World, Option<&'static str>);

/// Everything that can come of what the process at `place` does next.
pub fn outcomes(world: &World, place: usize) -> Vec<After> {
    let Some(proc) = world.procs[place].filter(|p| !p.stopped) else { return Vec::new() };
    let over = proc.machine.cause().is_some();
    if world.bug.is_some_and(|bug| bug.skips(proc.next, over)) {
        let mut world = world.clone();
        if world.bug == Some(Bug::RestoredUnseen) {
            world.set(place, |p| p.saw = false);
        }
        return vec![advance(world, place, Event::Done)];
    }
    let mut all = Vec::new();
    // Without an event the action goes on: nothing came of it yet.
    let mut done = |world: World, event: Option<Event>| {
        all.push(match event {
            Some(event) => advance(world, place, event),
            None => (world, None),
        });
    };
    match proc.next {
        Action::Lock(patience) => lock(world, place, patience, &mut done),
        Action::Unlock => done(world.with(place, |p| p.lock = None), Some(Event::Done)),
        Action::Look => {
            let (world, seen) = look(world, place);
            done(world, Some(Event::Seen(seen)));
        }
        Action::Plan => {
            let well = world.hurt().is_none() && !world.by_owner && world.gone.is_none();
            done(world.clone(), Some(if well { Event::Done } else { Event::Failed }));
        }
        Action::Write(stage) => {
            let mut world = world.clone();
            let stage = match (stage, proc.knows) {
                (Stage::Kept, Some(known)) => known.stage,
                (stage, _) => stage,
            };
            let fresh = Rec { id: proc.id, stage, deadline: world.time + LASTS, boot: world.boot };
            let record = proc.knows.map_or(fresh, |known| Rec { stage, ..known });
            world.record = Some(record);
            world.set(place, |p| p.knows = Some(record));
            done(world, Some(Event::Done));
        }
        Action::Sync => done(World { synced: world.record, ..world.clone() }, Some(Event::Done)),
        Action::StartKeeper => start_keeper(world, place, &mut done),
        Action::ArmTimer => {
            let timer = proc.knows.filter(|_| world.systemd);
            done(World { timer, ..world.clone() }, Some(Event::Done));
        }
        Action::Disarm => done(World { timer: None, ..world.clone() }, Some(Event::Done)),
        Action::Check => {
            let robbed = proc.lock != Some(world.lock_file);
            let late = robbed || world.down || proc.knows.is_none_or(|known| world.is_due(known));
            let event = match proc.signal {
                true => Event::Signal,
                false if late => Event::Failed,
                false => Event::Done,
            };
            done(world.clone(), Some(event));
        }
        Action::Open => done(world.with(place, |p| p.opened = Some(!world.reused)), Some(Event::Done)),
        Action::Verify => {
            let same = proc.opened == Some(true);
            done(world.clone(), Some(if same { Event::Done } else { Event::Failed }));
        }
        Action::BeginPart => begin_part(world, place, &mut done),
        Action::Inject => return inject(world, place),
        Action::Watch => {
            if proc.signal {
                done(world.clone(), Some(Event::Signal));
            }
            done(world.clone(), Some(if world.hurt().is_some() { Event::Done } else { Event::Failed }));
        }
        Action::Wait => wait(world, place, &mut done),
        Action::TakeKeepersLock => {
            let free = !world.is_kept();
            let world = world.with(place, |p| p.keeps = free);
            done(world, Some(if free { Event::Done } else { Event::Busy }));
        }
        Action::SayReady => {
            let mut world = world.with(place, |p| p.ready = true);
            world.kept |= 1 << proc.id;
            done(world, Some(Event::Done));
        }
        Action::Part => {
            if proc.signal {
                done(world.with(place, |p| p.signal = false), Some(Event::Signal));
            }
            if proc.told {
                done(world.with(place, |p| p.holds = true), Some(Event::Done));
            }
            if proc.knows.is_none_or(|known| world.is_due(known)) {
                done(world.clone(), Some(Event::Done));
            }
        }
        Action::LetGo => done(world.with(place, |p| p.holds = false), Some(Event::Done)),
        Action::AskMachine => {
            done(world.clone(), Some(if world.down { Event::GoingDown } else { Event::Done }));
        }
        Action::Restore => return restore(world, place),
        Action::Mark => {
            let marks = world.marks | proc.knows.map_or(0, |r| 1 << r.id);
            done(World { marks, ..world.clone() }, Some(Event::Done));
        }
        Action::Remove => {
            // Only ours.
            let record = world.record.filter(|r| proc.knows.is_some_and(|known| known.id != r.id));
            done(World { record, ..world.clone() }, Some(Event::Done));
        }
        Action::Release => {
            let mut world = world.clone();
            for other in (KEEPER..KEEPER + 2).filter(|other| *other != place) {
                if world.procs[other].is_some_and(|k| Some(k.id) == proc.knows.map(|r| r.id)) {
                    world.set(other, |p| p.signal = true);
                }
            }
            done(world, Some(Event::Done));
        }
        Action::AskKeeper => {
            let keeper = (KEEPER..KEEPER + 2).find(|k| world.procs[*k].is_some_and(|p| p.keeps));
            match keeper {
                Some(keeper) if !world.procs[keeper].is_some_and(|p| p.signal) => {
                    let mut world = world.clone();
                    world.set(keeper, |p| p.signal = true);
                    all.push((world, None));
                }
                Some(keeper) if world.procs[keeper].is_some_and(|p| p.stopped) => {
                    done(world.clone(), Some(Event::Failed));
                }
                Some(_) => {}
                None => done(world.clone(), Some(Event::Done)),
            }
        }
        // `advance` has done these.
        Action::Done(_)
        | Action::KeepEnvironment
        | Action::Note(_)
        | Action::Courtesy
        | Action::Forget
        | Action::Rest => {}
    }
    all
}

/// The machine is told what came of it, and goes on with what nobody else can see: that needs no order among the others.
pub fn advance(mut world: World, place: usize, event: Event) -> After {
    let bug = world.bug;
    let mut event = event;
    loop {
        world.set(place, |p| {
            let before = p.next;
            p.next = p.machine.next(event);
            match (bug, p.machine.role()) {
                (Some(Bug::KeeperGivesUp), Role::Keeper) if p.next == Action::Rest => {
                    p.next = Action::Done(Verdict::NotRecovered);
                }
                (Some(Bug::VerbDoesNotLook), Role::Verb) if before == Action::Look => {
                    p.next = Action::Done(Verdict::Nothing);
                }
                _ => {}
            }
        });
        // The removal comes first, and the look after it.
        if bug == Some(Bug::RemovedBeforeTheLook)
            && world.procs[place].is_some_and(|p| p.next == Action::Restore)
            && world.record.is_some()
        {
            (world.record, world.synced) = (None, None);
        }
        let Some(proc) = world.procs[place] else { return (world, None) };
        match proc.next {
            Action::KeepEnvironment | Action::Note(_) | Action::Courtesy | Action::Forget | Action::Rest => {
                event = Event::Done
            }
            Action::Done(verdict) => {
                let wrong = world.wrong_claim(place, verdict);
                if verdict == Verdict::Recovered
                    && let Some(known) = proc.knows
                {
                    world.over |= 1 << known.id;
                }
                world.end(place);
                return (world, wrong);
            }
            _ => return (world, None),
        }
    }
}

fn lock(world: &World, place: usize, patience: Patience, done: &mut dyn FnMut(World, Option<Event>)) {
    let signal = world.procs[place].is_some_and(|p| p.signal);
    match world.holder() {
        None => {
            let world = world.with(place, |p| p.lock = Some(world.lock_file));
            let heeded = patience == Patience::Free && signal && world.bug != Some(Bug::NoCheck);
            done(world, Some(if heeded { Event::Signal } else { Event::Done }));
        }
        Some(holder) => match patience {
            Patience::Try => done(world.clone(), Some(Event::Busy)),
            Patience::Free if signal => done(world.clone(), Some(Event::Signal)),
            Patience::Free if world.record.is_some() => done(world.clone(), Some(Event::Busy)),
            Patience::Insist
                if world.procs[holder].is_some_and(|p| p.stopped) && world.bug != Some(Bug::NoInsistence) =>
            {
                let mut world = world.clone();
                world.end(holder);
                let file = world.lock_file;
                done(world.with(place, |p| p.lock = Some(file)), Some(Event::Done));
            }
            _ => {}
        },
    }
}

fn look(world: &World, place: usize) -> (World, Seen) {
    let Some(proc) = world.procs[place] else { return (world.clone(), nothing()) };
    let begins = matches!(proc.machine.role(), Role::Command { .. }) && proc.knows.is_none();
    let meant = proc.knows.map(|r| r.id).or((proc.id != 0 && !begins).then_some(proc.id));
    let any = world.bug == Some(Bug::AnyRecordIsOurs);
    let trusts = match world.bug {
        Some(Bug::NothingIsEnded) => true,
        Some(Bug::KeeperTrustsTheFile) => proc.machine.role() == Role::Keeper,
        _ => false,
    };
    let mut on_record = match world.record {
        None => OnRecord::Nothing,
        Some(record) if any || meant.is_none_or(|id| id == record.id) => OnRecord::Ours,
        Some(_) => OnRecord::Another,
    };
    if begins && world.bug == Some(Bug::SecondBegins) {
        on_record = OnRecord::Nothing;
    }
    let seen = Seen {
        record: on_record,
        ended: meant.is_some_and(|id| world.marks & 1 << id != 0 || (trusts && world.record.is_none())),
        due: world.record.is_some_and(|record| world.is_due(record)),
        keeper: world.is_kept() && !(begins && world.bug == Some(Bug::SecondBegins)),
        needs_keeper: world.kind == Kind::Held && world.record.is_some(),
    };
    let record = world.record.filter(|_| on_record == OnRecord::Ours && !begins);
    let found = world.is_for(place);
    (world.with(place, |p| (p.knows, p.found) = (record.or(p.knows), found)), seen)
}

fn nothing() -> Seen {
    Seen { record: OnRecord::Nothing, ended: false, due: false, keeper: false, needs_keeper: false }
}

fn start_keeper(world: &World, place: usize, done: &mut dyn FnMut(World, Option<Event>)) {
    let Some(proc) = world.procs[place] else { return };
    if !proc.starting {
        let Some(free) = (KEEPER..KEEPER + 2).find(|k| world.procs[*k].is_none()) else {
            return done(world.clone(), Some(Event::Failed));
        };
        let mut world = world.clone();
        world.spawn(free, Role::Keeper, proc.knows.map_or(proc.id, |r| r.id));
        world.set(place, |p| {
            p.starting = true;
            p.keeper = u8::try_from(free).ok();
        });
        if world.bug == Some(Bug::KeeperNotAwaited) {
            world.set(place, |p| p.starting = false);
            return done(world, Some(Event::Done));
        }
        return done(world, None);
    }
    let keeper = proc.keeper.and_then(|keeper| world.procs[usize::from(keeper)]);
    match keeper {
        Some(keeper) if keeper.ready => done(world.with(place, |p| p.starting = false), Some(Event::Done)),
        // Not for ever: a keeper that was stopped is taken for none.
        Some(keeper) if keeper.stopped => {
            let mut world = world.with(place, |p| p.starting = false);
            if let Some(keeper) = proc.keeper {
                world.end(usize::from(keeper));
            }
            done(world, Some(Event::Failed));
        }
        Some(_) => {}
        None => done(world.with(place, |p| (p.starting, p.keeper) = (false, None)), Some(Event::Failed)),
    }
}

fn begin_part(world: &World, place: usize, done: &mut dyn FnMut(World, Option<Event>)) {
    let keeper = world.procs[place].and_then(|p| p.keeper).map(usize::from);
    match keeper.and_then(|keeper| Some((keeper, world.procs[keeper]?))) {
        Some((_, keeper)) if keeper.holds => done(world.clone(), Some(Event::Done)),
        Some((at, keeper)) if !keeper.told && keeper.next == Action::Part => {
            let mut world = world.clone();
            world.set(at, |p| p.told = true);
            done(world, None);
        }
        Some((_, keeper)) if keeper.next == Action::Part && !keeper.stopped => {}
        Some((_, keeper)) if !keeper.told && matches!(keeper.next, Action::SayReady) => {}
        _ => done(world.clone(), Some(Event::Failed)),
    }
}

fn inject(world: &World, place: usize) -> Vec<After> {
    let Some(proc) = world.procs[place] else { return Vec::new() };
    let mut after = world.clone();
    let id = proc.id;
    let record = proc.knows;
    match world.kind {
        Kind::Gone => after.gone = Some(id),
        Kind::Rules => after.rules = record,
        Kind::Held | Kind::Record => {}
    }
    after.set(place, |p| p.saw = false);
    after.late |= record.is_some_and(|r| world.is_due(r)) || proc.lock != Some(world.lock_file);
    let on_record = world.synced.is_some_and(|r| r.id == id);
    let wrong = if proc.opened != Some(true) {
        Some("a stranger was signalled")
    } else if !on_record && !world.robbed && !world.robbed_run {
        Some("injected, and a power cut would make everybody forget it")
    } else if world.kept & 1 << id == 0 {
        Some("injected without a lease")
    } else if proc.early {
        Some("injected after a signal that came while the lock was waited for")
    } else if world.holder() != Some(place) && !world.robbed_run {
        Some("injected without the lock")
    } else if let Some(hurt) = world.hurt().filter(|hurt| hurt.id != id) {
        let _ = hurt;
        Some("injected into another fault")
    } else {
        None
    };
    vec![also(advance(after, place, Event::Done), wrong)]
}

fn also((world, wrong): After, first: Option<&'static str>) -> After {
    (world, first.or(wrong))
}

fn restore(world: &World, place: usize) -> Vec<After> {
    let Some(proc) = world.procs[place] else { return Vec::new() };
    let id = proc.knows.map_or(proc.id, |r| r.id);
    let mut wrong = None;
    if world.over & 1 << id != 0 && !world.robbed_run {
        wrong = Some("nginx was touched for a fault that is over");
    }
    if world.holder().is_some_and(|holder| holder != place) && !world.robbed_run {
        wrong = Some("two at once bring nginx back");
    }
    if proc.id != 0 && proc.id != id {
        wrong = Some("another's fault is ended");
    }
    if world.down && proc.tried {
        wrong = Some("somebody goes on trying, and the machine waits for him");
    }
    let mut all = Vec::new();
    if world.down {
        // Nothing can be started any more; whoever waited for it sees why, or gives up.
        let tried = world.with(place, |p| p.tried = true);
        all.push(also(advance(tried.clone(), place, Event::GoingDown), wrong));
        all.push(also(advance(tried, place, Event::Failed), wrong));
        if world.kind == Kind::Gone {
            return all;
        }
    } else if world.budget.restarts > 0 {
        let mut failed = world.clone();
        failed.budget.restarts -= 1;
        all.push(also(advance(failed, place, Event::Failed), wrong));
    }
    let mut after = world.clone();
    if after.gone == Some(id) || after.gone.is_some() && proc.id == 0 {
        after.gone = None;
    }
    after.rules = None;
    if world.kind == Kind::Held {
        // Nobody but the tracer can let nginx go, and the kernel does when it dies; nor may one that was told to begin
        // begin later.
        for keeper in (KEEPER..KEEPER + 2).filter(|keeper| *keeper != place) {
            if after.procs[keeper].is_some_and(|p| p.id == id) {
                after.end(keeper);
            }
        }
    }
    if after.procs[place].is_none() {
        return all;
    }
    after.set(place, |p| p.saw = true);
    all.push(also(advance(after, place, Event::Done), wrong));
    all
}

fn wait(world: &World, place: usize, done: &mut dyn FnMut(World, Option<Event>)) {
    let Some(proc) = world.procs[place] else { return };
    let Some(known) = proc.knows else { return };
    let deaf = world.bug == Some(Bug::KeeperWaitsForEver) && proc.machine.role() == Role::Keeper;
    if world.is_due(known) && !deaf {
        done(world.clone(), Some(Event::Woken(Woken::Deadline)));
    }
    if proc.signal {
        done(world.with(place, |p| p.signal = false), Some(Event::Woken(Woken::Signal)));
    }
    // Where no command watches the effect, the keeper does.
    let alone = proc.machine.role() == Role::Keeper && world.procs[COMMAND].is_none_or(|p| p.id != known.id);
    let in_force = world.record.is_some_and(|r| r.id == known.id && r.stage == Stage::Injected);
    if alone && in_force && world.hurt().is_none() && !world.is_due(known) {
        done(world.clone(), Some(Event::Woken(Woken::Lost)));
    }
    if let Role::Command { .. } = proc.machine.role() {
        let keeper = proc.keeper.is_some_and(|keeper| world.procs[usize::from(keeper)].is_some());
        if !keeper {
            done(world.clone(), Some(Event::Woken(Woken::KeeperGone)));
        }
        if world.record.is_none_or(|record| record.id != known.id) {
            done(world.clone(), Some(Event::Woken(Woken::RecordGone)));
        }
        if world.hurt().is_none() && !world.is_due(known) {
            done(world.clone(), Some(Event::Woken(Woken::Lost)));
        }
    }
}

impl World {
    /// Changes a process, where there is one.
    pub fn set(&mut self, place: usize, change: impl FnOnce(&mut crate::world::Proc)) {
        if let Some(proc) = &mut self.procs[place] {
            change(proc);
        }
    }

    fn with(&self, place: usize, change: impl FnOnce(&mut crate::world::Proc)) -> Self {
        let mut world = self.clone();
        world.set(place, change);
        world
    }
}
