//! Every state that can be reached, breadth first, so that what is found is found by the shortest way.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::adversary::{Move, moves};
use crate::perform::outcomes;
use crate::world::{PLACES, World};

/// What was found to be wrong, and how it comes to it.
#[derive(Debug)]
pub struct Wrong {
    /// What.
    pub what: &'static str,
    /// The way to it.
    pub way: Vec<String>,
}

/// What was gone through.
#[derive(Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// The first thing that is wrong, if anything is.
    pub wrong: Option<Wrong>,
    /// Whether all states were seen, and not only as many as were allowed.
    pub complete: bool,
}

/// FNV-1a's idea on words: states are told apart by 64 bits of it.
#[derive(Default, Clone, Copy)]
struct Words(u64);

impl Hasher for Words {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x0100_0000_01B3_5F7D);
        self.0 ^= self.0 >> 31;
    }
}

fn print(world: &World) -> u64 {
    let mut hasher = Words::default();
    world.hash(&mut hasher);
    hasher.finish()
}

type Seen = HashMap<u64, (u64, Move), BuildHasherDefault<Words>>;

/// Goes through all states that can be reached from `start`, at most `limit` of them, until something is wrong.
pub fn explore(start: World, limit: usize) -> Explored {
    let mut seen = Seen::default();
    let root = print(&start);
    seen.insert(root, (root, Move::Tick));
    let mut queue = VecDeque::from([(start, root)]);
    while let Some((world, at)) = queue.pop_front() {
        let mut next: Vec<(Move, World)> = Vec::new();
        let mut wrong = world.wrong_state().map(|what| (what, None));
        for place in 0..PLACES {
            for (after, what) in outcomes(&world, place) {
                wrong = wrong.or(what.map(|what| (what, Some(Move::Act(place)))));
                next.push((Move::Act(place), after));
            }
        }
        let stuck = next.iter().all(|(_, after)| *after == world);
        if stuck {
            wrong = wrong.or(world.wrong_end().map(|what| (what, None)));
        }
        if let Some((what, last)) = wrong {
            let way = way(&seen, &world, at, last);
            return Explored { states: seen.len(), wrong: Some(Wrong { what, way }), complete: false };
        }
        next.extend(moves(&world));
        for (what, after) in next {
            let print = print(&after);
            if let std::collections::hash_map::Entry::Vacant(new) = seen.entry(print) {
                new.insert((at, what));
                queue.push_back((after, print));
            }
        }
        if seen.len() >= limit {
            return Explored { states: seen.len(), wrong: None, complete: false };
        }
    }
    Explored { states: seen.len(), wrong: None, complete: true }
}

fn way(seen: &Seen, end: &World, at: u64, last: Option<Move>) -> Vec<String> {
    let mut moves: Vec<String> = last.into_iter().map(|last| format!("{last:?}")).collect();
    moves.push(format!("{end:?}"));
    let mut at = at;
    while let Some((from, what)) = seen.get(&at).copied().filter(|(from, _)| *from != at) {
        moves.push(format!("{what:?}"));
        at = from;
    }
    moves.reverse();
    moves
}
