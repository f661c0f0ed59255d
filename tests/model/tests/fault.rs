//! Every order in which a fault can go, with everything that can go wrong: it ends, and nobody lies about it.

use std::time::Instant;

use model::bugs::Bug;
use model::check::{Explored, explore};
use model::world::{Budget, Kind, World};

const KINDS: [Kind; 4] = [Kind::Gone, Kind::Held, Kind::Rules, Kind::Record];

/// So many states of each scene: mostly two things go wrong late.
const LIMIT: usize = 100_000;

/// Who comes beside the command and its keepers, and how much goes wrong altogether.
struct Scene {
    name: &'static str,
    systemd: bool,
    verbs: u8,
    recovers: u8,
    commands: u8,
}

const SCENES: [Scene; 4] = [
    Scene { name: "any verb", systemd: false, verbs: 1, recovers: 0, commands: 0 },
    Scene { name: "recover", systemd: false, verbs: 0, recovers: 1, commands: 0 },
    Scene { name: "systemd's timer", systemd: true, verbs: 0, recovers: 0, commands: 0 },
    Scene { name: "a second command", systemd: false, verbs: 0, recovers: 0, commands: 1 },
];

/// Each of the misfortunes once or twice, and so many altogether.
fn world(scene: &Scene, kind: Kind, bug: Option<Bug>, any: u8) -> World {
    let budget = Budget {
        any,
        kills: 2,
        stops: 1,
        cuts: 1,
        records: 1,
        // Two commands without a lock to keep them apart are beyond what a record can hold.
        runs: 1 - scene.commands,
        suspensions: 1,
        steps: u8::from(bug == Some(Bug::WallClock)),
        pids: 1,
        restarts: 1,
        signals: 1,
        verbs: scene.verbs,
        recovers: scene.recovers,
        commands: scene.commands,
        admins: 1,
        shutdowns: u8::from(matches!(bug, None | Some(Bug::DeafToShutdown))),
    };
    World { systemd: scene.systemd, ..World::new(kind, bug, budget) }
}

/// Goes through everything; says how many states that were, and whether they were all.
fn sound(start: World, limit: usize) -> (usize, bool) {
    let Explored { states, wrong, complete } = explore(start.clone(), limit);
    let found = wrong.map(|w| format!("{}:\n{}", w.what, w.way.join("\n")));
    assert_eq!(found, None, "{:?} after {states} states", start.kind);
    (states, complete)
}

#[test]
#[allow(clippy::print_stderr)] // how much was gone through is what a reader wants to know
fn a_fault_ends_whatever_goes_wrong_in_whatever_order() {
    let start = Instant::now();
    let mut all = 0;
    for scene in &SCENES {
        for (kind, any) in KINDS.into_iter().flat_map(|kind| [(kind, 0), (kind, 1)]) {
            let (states, complete) = sound(world(scene, kind, None, any), LIMIT);
            let (name, secs) = (scene.name, start.elapsed().as_secs_f64());
            eprintln!("{name}, {kind:?}, {any}: {states} states, complete: {complete}, {secs:.1} s");
            all += states;
        }
    }
    eprintln!("{all} states");
    assert!(all >= 1_000_000, "{all}");
}

#[test]
fn a_machine_that_is_shut_down_waits_for_nobody_and_its_next_boot_ends_the_fault() {
    let none = Budget {
        any: 1,
        kills: 0,
        stops: 0,
        cuts: 0,
        records: 0,
        runs: 0,
        suspensions: 0,
        steps: 0,
        pids: 0,
        restarts: 0,
        signals: 0,
        verbs: 0,
        recovers: 0,
        commands: 0,
        admins: 0,
        shutdowns: 1,
    };
    for (scene, kind) in SCENES[..3].iter().flat_map(|scene| KINDS.map(|kind| (scene, kind))) {
        let Scene { verbs, recovers, commands, .. } = *scene;
        let budget = Budget { verbs, recovers, commands, ..none };
        let start = World { systemd: scene.systemd, ..World::new(kind, None, budget) };
        let (states, complete) = sound(start, 400_000);
        assert!(complete, "{}, {kind:?}: more than {states} states", scene.name);
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn each_bug_is_found() {
    let mut hidden = Vec::new();
    for bug in Bug::ALL {
        let scenes = [(0, 50_000), (1, 600_000)].into_iter().flat_map(|(any, limit)| {
            // Where a second command is needed, that scene first.
            let second = matches!(bug, Bug::AnyRecordIsOurs | Bug::SecondBegins);
            let scenes = SCENES.iter().cycle().skip(if second { 3 } else { 0 }).take(SCENES.len());
            scenes.flat_map(move |scene| KINDS.map(|kind| (scene, kind, any, limit)))
        });
        let found = { scenes }.find_map(|(scene, kind, any, limit)| {
            let Explored { states, wrong, .. } = explore(world(scene, kind, Some(bug), any), limit);
            let name = scene.name;
            wrong.map(|wrong| format!("{bug:?}: {name}, {kind:?}, {states} states: {}", wrong.what))
        });
        match found {
            Some(found) => eprintln!("{found}"),
            None => hidden.push(bug),
        }
    }
    assert!(hidden.is_empty(), "{hidden:?}");
}
