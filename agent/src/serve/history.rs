//! The last hour in cells of five seconds, one load-balancer probe each: what the host, `/health`, nginx, a fault, a
//! stress and each node's probes did. Pure: time and observations are handed in. The daemon keeps one for whoever
//! opens the view later, and `agent watch` goes on with it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::sys::cpu::CpuShare;

/// A cell's length in seconds.
pub const CELL_SECS: i64 = 5;
/// How many are kept: an hour.
const CELLS: usize = 720;
/// More nodes than a load balancer has are forged.
const NODES: usize = 32;
/// Of a node that was long away so many probes are marked at once.
const MISSING: usize = 10;

/// What a node's probe was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It came, and was answered 2xx.
    Came,
    /// It came, and was answered something else.
    NotOk,
    /// One was due and did not come.
    Missing,
}

/// Five seconds. Where something changed within them, the worse counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cell {
    /// Their start, in seconds since the epoch.
    pub at: i64,
    /// What CloudWatch's CPUUtilization counts, in percent of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_pct: Option<f32>,
    /// What the hypervisor withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal_pct: Option<f32>,
    /// Whether `/health` said 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<bool>,
    /// Whether nginx answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nginx: Option<bool>,
    /// The mode of the fault that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Whether a stress ran.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stress: bool,
    /// By the place of a node in [`History::nodes`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<(u8, Mark)>,
}

impl Cell {
    /// What a node's probe was in it; the worst of several.
    pub fn mark(&self, node: usize) -> Option<Mark> {
        self.probes.iter().filter(|(n, _)| usize::from(*n) == node).map(|(_, mark)| *mark).max()
    }
}

/// What is counted of a node since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeCount {
    /// Its address.
    pub node: String,
    /// Its probes.
    pub probes: u64,
    /// Those that were answered something else than 2xx.
    pub not_ok: u64,
    /// Those that did not come.
    pub missed: u64,
}

/// What is seen at one moment.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Seconds since the epoch.
    pub at: i64,
    /// What became of the CPU time since the observation before.
    pub cpu: Option<CpuShare>,
    /// Whether `/health` says 200.
    pub health: Option<bool>,
    /// Whether nginx answers.
    pub nginx: Option<bool>,
    /// The mode of the fault in force.
    pub fault: Option<String>,
    /// Whether a stress runs.
    pub stress: bool,
    /// The nodes' counts.
    pub nodes: Vec<NodeCount>,
}

/// The last hour.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct History {
    /// The load balancer's nodes, in the order in which they were seen.
    pub nodes: Vec<String>,
    /// The cells, oldest first; where nothing was observed there is none.
    pub cells: VecDeque<Cell>,
    #[serde(skip)]
    counts: Vec<NodeCount>,
    /// How many shares of CPU time are in the last cell.
    #[serde(skip)]
    shares: f32,
}

impl History {
    /// Enters what is seen now.
    pub fn observe(&mut self, seen: &Observation) {
        let marks = self.marks(&seen.nodes);
        let at = seen.at.div_euclid(CELL_SECS) * CELL_SECS;
        if self.cells.back().is_none_or(|last| last.at != at) {
            // The clock was set back: what comes after now isn't so.
            self.cells.retain(|cell| cell.at < at);
            if self.cells.len() == CELLS {
                self.cells.pop_front();
            }
            self.cells.push_back(Cell { at, ..Cell::default() });
            self.shares = 0.0;
        }
        let shares = self.shares;
        let Some(cell) = self.cells.back_mut() else { return };
        if let Some(cpu) = seen.cpu {
            let mean = |old: Option<f32>, new: f64| {
                Some((old.unwrap_or(0.0) * shares + new as f32) / (shares + 1.0))
            };
            cell.busy_pct = mean(cell.busy_pct, cpu.busy_pct);
            cell.steal_pct = mean(cell.steal_pct, cpu.steal_pct);
            self.shares += 1.0;
        }
        let worse = |old: Option<bool>, new: Option<bool>| match (old, new) {
            (Some(old), Some(new)) => Some(old && new),
            (old, new) => old.or(new),
        };
        cell.health = worse(cell.health, seen.health);
        cell.nginx = worse(cell.nginx, seen.nginx);
        cell.fault = seen.fault.clone().or(cell.fault.take());
        cell.stress |= seen.stress;
        cell.probes.extend(marks.into_iter().take(NODES * MISSING));
    }

    /// Takes the cells of another history that are older than those here.
    pub fn join(&mut self, other: Self) {
        let first = self.cells.front().map_or(i64::MAX, |cell| cell.at);
        let mut names = other.nodes;
        names.truncate(NODES);
        // The other's names come first, so that its cells hold as they are.
        let renumbered: Vec<Option<u8>> = self
            .nodes
            .iter()
            .map(|name| {
                let known = names.iter().position(|n| n == name);
                if known.is_none() && names.len() < NODES {
                    names.push(name.clone());
                }
                u8::try_from(known.unwrap_or(names.len() - 1)).ok()
            })
            .collect();
        for cell in &mut self.cells {
            cell.probes.retain_mut(|(node, _)| match renumbered.get(usize::from(*node)) {
                Some(Some(new)) => {
                    *node = *new;
                    true
                }
                _ => false,
            });
        }
        self.nodes = names;
        for cell in other.cells.into_iter().rev().filter(|cell| cell.at < first) {
            if self.cells.len() < CELLS {
                self.cells.push_front(cell);
            }
        }
    }

    /// A node's place among the names. A load balancer's nodes change over the months: a place that no cell names any
    /// more is given away.
    fn place(&mut self, node: &str, current: &[NodeCount]) -> Option<u8> {
        let known = self.nodes.iter().position(|name| name == node);
        let place = match known {
            Some(place) => place,
            None if self.nodes.len() < NODES => {
                self.nodes.push(node.to_owned());
                self.nodes.len() - 1
            }
            None => {
                let free = |place: &usize| {
                    let named = |cell: &Cell| cell.probes.iter().any(|(n, _)| usize::from(*n) == *place);
                    let listed = |count: &NodeCount| self.nodes.get(*place) == Some(&count.node);
                    !current.iter().any(listed) && !self.cells.iter().any(named)
                };
                let place = (0..NODES).find(free)?;
                *self.nodes.get_mut(place)? = node.to_owned();
                place
            }
        };
        u8::try_from(place).ok()
    }

    /// What the counts have gained since the observation before.
    fn marks(&mut self, nodes: &[NodeCount]) -> Vec<(u8, Mark)> {
        let mut marks = Vec::new();
        for now in nodes.iter().take(NODES) {
            let Some(place) = self.place(&now.node, nodes) else { continue };
            // Of a node that is new to us nothing is known to have come just now.
            let before = self.counts.iter().find(|count| count.node == now.node);
            let Some(before) = before else { continue };
            let not_ok = now.not_ok > before.not_ok;
            let came = now.probes.saturating_sub(before.probes) > now.not_ok.saturating_sub(before.not_ok);
            let missing = if came || not_ok { 0 } else { now.missed.saturating_sub(before.missed) };
            marks.extend(came.then_some((place, Mark::Came)));
            marks.extend(not_ok.then_some((place, Mark::NotOk)));
            let missing = usize::try_from(missing).unwrap_or(MISSING).min(MISSING);
            marks.extend(std::iter::repeat_n((place, Mark::Missing), missing));
        }
        self.counts = nodes.iter().take(NODES).cloned().collect();
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: i64) -> Observation {
        Observation { at, ..Observation::default() }
    }

    fn node(probes: u64, not_ok: u64, missed: u64) -> Vec<NodeCount> {
        vec![NodeCount { node: "10.0.0.1".into(), probes, not_ok, missed }]
    }

    #[test]
    fn the_worse_of_five_seconds_counts_and_shares_are_averaged() {
        let mut history = History::default();
        let share = |busy_pct| Some(CpuShare { busy_pct, steal_pct: 1.0 });
        history.observe(&Observation { health: Some(true), cpu: share(10.0), ..seen(100) });
        history.observe(&Observation { health: Some(false), cpu: share(30.0), ..seen(102) });
        history.observe(&Observation { health: Some(true), cpu: share(50.0), ..seen(104) });
        history.observe(&Observation { health: Some(true), ..seen(105) });
        let [first, second] = [&history.cells[0], &history.cells[1]];
        assert_eq!((first.at, first.health, first.busy_pct), (100, Some(false), Some(30.0)));
        assert_eq!((second.at, second.health, second.busy_pct), (105, Some(true), None));
    }

    #[test]
    fn a_probe_is_marked_by_what_its_node_has_gained() {
        let mut history = History::default();
        for (at, nodes) in [
            (0, node(7, 0, 0)),
            (5, node(8, 0, 0)),
            (10, node(9, 1, 0)),
            (15, node(9, 1, 1)),
            (20, node(9, 1, 1)),
        ] {
            history.observe(&Observation { nodes, ..seen(at) });
        }
        let marks: Vec<_> = history.cells.iter().map(|cell| cell.mark(0)).collect();
        assert_eq!(marks, [None, Some(Mark::Came), Some(Mark::NotOk), Some(Mark::Missing), None]);
        // Two that were told at once are two.
        history.observe(&Observation { nodes: node(9, 1, 3), ..seen(25) });
        assert_eq!(history.cells.back().unwrap().probes, [(0, Mark::Missing); 2]);
    }

    #[test]
    fn an_hour_is_kept_and_a_clock_set_back_takes_away_what_is_later() {
        let mut history = History::default();
        (0..1000).for_each(|n| history.observe(&seen(n * CELL_SECS)));
        assert_eq!((history.cells.len(), history.cells[0].at), (CELLS, 280 * CELL_SECS));
        history.observe(&seen(300 * CELL_SECS));
        assert_eq!(history.cells.back().unwrap().at, 300 * CELL_SECS);
        assert!(history.cells.iter().map(|cell| cell.at).is_sorted());
    }

    #[test]
    fn an_older_history_goes_before_what_was_seen_since() {
        let mut kept = History::default();
        let two = |probes| {
            let count = |node: &str| NodeCount { node: node.into(), probes, ..NodeCount::default() };
            vec![count("b"), count("a")]
        };
        (0..4).for_each(|n| kept.observe(&Observation { nodes: two(n), ..seen(n as i64 * CELL_SECS) }));
        let mut new = History::default();
        for n in 3..6 {
            let nodes = vec![NodeCount { node: "a".into(), probes: n, ..NodeCount::default() }];
            new.observe(&Observation { nodes, ..seen(n as i64 * CELL_SECS) });
        }
        new.join(kept);
        assert_eq!(new.nodes, ["b", "a"]);
        assert_eq!(new.cells.iter().map(|cell| cell.at / CELL_SECS).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        let a: Vec<bool> = new.cells.iter().map(|cell| cell.mark(1).is_some()).collect();
        assert_eq!(a, [false, true, true, false, true, true]);
    }

    #[test]
    fn a_node_that_comes_after_many_others_has_its_marks() {
        let mut history = History::default();
        for at in (0..100_000).step_by(5) {
            // Another address every half hour.
            let node = format!("n{}", at / 1800);
            let nodes = vec![NodeCount { node, probes: at as u64, ..NodeCount::default() }];
            history.observe(&Observation { nodes, ..seen(at) });
        }
        let place = history.nodes.iter().position(|name| name == "n55").unwrap();
        assert_eq!(history.cells.back().unwrap().mark(place), Some(Mark::Came));
        assert_eq!(history.nodes.len(), NODES);
    }

    #[test]
    fn forged_nodes_are_bounded() {
        let mut history = History::default();
        for n in 0..10_000_u64 {
            let nodes = vec![NodeCount { node: format!("n{n}"), probes: n, ..NodeCount::default() }];
            history.observe(&Observation { nodes, ..seen(0) });
        }
        assert_eq!((history.nodes.len(), history.counts.len()), (NODES, 1));
    }
}
