//! What clients get through the load balancer, by node and by instance, in the same cells as everything else.

use std::collections::VecDeque;

use crate::serve::history::CELL_SECS;

const CELLS: usize = 720;
/// More addresses or instances than a group has are not told apart.
const NAMES: usize = 32;

/// One request as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Seconds since the epoch, of its end.
    pub at: i64,
    /// The load balancer's address.
    pub node: String,
    /// The instance that says it answered.
    pub instance: Option<String>,
    /// Why it is no success: `502`, `timeout`, …
    pub error: Option<String>,
}

/// A row of answers.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The node's address, or the instance's id.
    pub name: String,
    /// When it was first seen, in seconds since the epoch.
    pub since: i64,
    /// Answers and failures a cell, oldest first.
    cells: VecDeque<(i64, u16, u16)>,
    /// The last failure, and how many there were in this outage.
    pub failing: Option<(String, u64)>,
    /// When the last answer came.
    pub last: i64,
}

impl Row {
    /// Answers and failures in the cells that start from `from` on and before `to`.
    pub fn sum(&self, from: i64, to: i64) -> (u32, u32) {
        let within = self.cells.iter().filter(|(at, ..)| (from..to).contains(at));
        within.fold((0, 0), |(ok, bad), (_, o, b)| (ok + u32::from(*o), bad + u32::from(*b)))
    }

    fn add(&mut self, at: i64, ok: bool) {
        let cell = at.div_euclid(CELL_SECS) * CELL_SECS;
        if self.cells.back().is_none_or(|(last, ..)| *last < cell) {
            if self.cells.len() == CELLS {
                self.cells.pop_front();
            }
            self.cells.push_back((cell, 0, 0));
        }
        if let Some((_, good, bad)) = self.cells.back_mut() {
            let count = if ok { good } else { bad };
            *count = count.saturating_add(1);
        }
        self.last = self.last.max(at);
    }
}

/// All rows.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    /// The load balancer's addresses.
    pub nodes: Vec<Row>,
    /// The instances that answered.
    pub instances: Vec<Row>,
    /// When the present outage began: the first failure after which every answer of some node failed.
    pub outage_since: Option<i64>,
}

impl Clients {
    /// Enters an answer; says whether the instance is a new one.
    pub fn enter(&mut self, answer: &Answer) -> bool {
        let ok = answer.error.is_none();
        if let Some((row, _)) = row(&mut self.nodes, &answer.node, answer.at) {
            row.add(answer.at, ok);
            row.failing = match (&answer.error, row.failing.take()) {
                (None, _) => None,
                (Some(error), before) => Some((error.clone(), before.map_or(0, |(_, n)| n) + 1)),
            };
        }
        let failing = self.nodes.iter().any(|row| row.failing.is_some());
        self.outage_since = failing.then(|| self.outage_since.unwrap_or(answer.at));
        let Some(name) = &answer.instance else { return false };
        match row(&mut self.instances, name, answer.at) {
            Some((row, new)) => {
                row.add(answer.at, ok);
                new
            }
            None => false,
        }
    }

    /// The share of failures in the last minute, in percent.
    pub fn error_pct(&self, now: i64) -> Option<f64> {
        let sums = self.nodes.iter().map(|row| row.sum(now - 60, now + CELL_SECS));
        let (ok, bad) = sums.fold((0, 0), |(a, b), (ok, bad)| (a + ok, b + bad));
        (ok + bad > 0).then(|| 100.0 * f64::from(bad) / f64::from(ok + bad))
    }
}

fn row<'a>(rows: &'a mut Vec<Row>, name: &str, at: i64) -> Option<(&'a mut Row, bool)> {
    let known = rows.iter().position(|row| row.name == name);
    if known.is_none() {
        if rows.len() == NAMES {
            return None;
        }
        rows.push(Row { name: name.to_owned(), since: at, ..Row::default() });
    }
    let place = known.unwrap_or(rows.len() - 1);
    rows.get_mut(place).map(|row| (row, known.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(at: i64, node: &str, error: Option<&str>) -> Answer {
        let instance = error.is_none().then(|| "i-1".to_owned());
        Answer { at, node: node.into(), instance, error: error.map(str::to_owned) }
    }

    #[test]
    fn an_outage_lasts_until_every_node_answers_again() {
        let mut clients = Clients::default();
        assert!(clients.enter(&answer(1, "a", None)));
        clients.enter(&answer(1, "b", None));
        clients.enter(&answer(2, "a", Some("502")));
        clients.enter(&answer(3, "a", Some("502")));
        clients.enter(&answer(3, "b", Some("502")));
        clients.enter(&answer(4, "a", None));
        assert_eq!(clients.outage_since, Some(2));
        assert_eq!(clients.nodes[1].failing, Some(("502".into(), 1)));
        assert!(!clients.enter(&answer(5, "b", None)));
        assert_eq!(clients.outage_since, None);
        assert_eq!(clients.nodes[0].sum(0, 5), (2, 2));
        assert_eq!(clients.error_pct(5).map(f64::round), Some(43.0));
    }

    #[test]
    fn names_without_end_are_bounded() {
        let mut clients = Clients::default();
        for n in 0..1000 {
            clients.enter(&answer(n, &format!("n{n}"), None));
        }
        assert_eq!(clients.nodes.len(), NAMES);
    }
}
