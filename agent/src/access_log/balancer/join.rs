//! Each check of the load balancer beside the request in the target's own log. Pure.
//!
//! A node of an internet-facing load balancer writes its public address into its file's name and probes from its private
//! one, so which is which is found by their times: the pair that fits best belongs together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use super::Check;

/// How far the two clocks may differ, beside what stamps and latencies say.
const SLACK_MS: i64 = 500;

/// A probe in the target's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Arrived {
    /// The node's address, as the target saw it.
    #[cfg_attr(test, schemars(with = "String"))]
    pub node: IpAddr,
    /// When it was logged, at its end, milliseconds since 1970.
    pub at_ms: i64,
    /// It ended at most so much later.
    pub resolution_ms: i64,
    /// How long nginx took, where the log says.
    pub took_ms: Option<i64>,
    /// How nginx answered.
    pub status: Option<u16>,
}

/// A probe on both sides, or on one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    /// As the load balancer logged it.
    pub check: Option<Check>,
    /// As the target logged it.
    pub arrived: Option<Arrived>,
}

impl Row {
    /// When it was sent, or, where only the target knows of it, logged.
    pub fn at_ms(&self) -> i64 {
        let arrived = self.arrived.map(|a| a.at_ms);
        self.check.as_ref().map(|check| check.sent_ms).or(arrived).unwrap_or(0)
    }

    /// Which side lost it; `None` where both have it.
    pub fn lost(&self) -> Option<&'static str> {
        match (&self.check, &self.arrived) {
            (Some(_), Some(_)) | (None, None) => None,
            (None, Some(_)) => Some("only in the target's log: the load balancer's log lacks it"),
            (Some(check), None) => Some(match check.reason_code.as_str() {
                _ if check.passed => "it was answered: the target's log lacks it",
                "ConnectionTimedOut" => "lost before the target: no connection",
                "ConnectionReset" => "lost at the target: the connection was refused or reset",
                "RequestTimedOut" => "lost at the target: no answer in time, and nginx logged nothing",
                _ => "not in the target's log",
            }),
        }
    }
}

/// Both sides together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Joined {
    /// The target whose checks these are, `IP:port` once for each port.
    pub targets: BTreeSet<String>,
    /// Every probe of the time that both logs cover.
    pub rows: Vec<Row>,
    /// Checks of other targets in the same log.
    pub of_others: u64,
    /// From when to when both logs are there, milliseconds since 1970.
    pub from_ms: i64,
    /// The end of that time.
    pub to_ms: i64,
}

/// Joins the two logs. `ours` are this machine's addresses; where no check is of one of them, the target whose checks
/// fit this log best is taken.
pub fn join(checks: &[Check], arrived: &[Arrived], ours: &[IpAddr]) -> Joined {
    let address =
        |check: &Check| check.target.rsplit_once(':').map_or(check.target.clone(), |(ip, _)| ip.to_owned());
    let mut by_target: BTreeMap<String, Vec<&Check>> = BTreeMap::new();
    checks.iter().for_each(|check| by_target.entry(address(check)).or_default().push(check));
    let is_ours = |ip: &str| ip.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ours.contains(&ip));
    let own = by_target.keys().find(|ip| is_ours(ip)).cloned();
    let best = || {
        let fit = |checks: &[&Check]| pairs(checks, &arrived.iter().collect::<Vec<_>>()).len();
        by_target.iter().max_by_key(|(_, checks)| fit(checks)).map(|(ip, _)| ip.clone())
    };
    let Some(target) = own.or_else(best) else { return Joined::default() };
    let own: Vec<&Check> = by_target.remove(&target).unwrap_or_default();
    // Of a time of which one side has no log, nothing can be said.
    let span = |times: &mut dyn Iterator<Item = i64>| {
        times.fold((i64::MAX, i64::MIN), |(from, to), at| (from.min(at), to.max(at)))
    };
    let (sent_from, sent_to) = span(&mut own.iter().map(|check| check.sent_ms));
    let (logged_from, logged_to) = span(&mut arrived.iter().map(|a| a.at_ms));
    let (from_ms, to_ms) = (sent_from.max(logged_from), sent_to.min(logged_to));
    let covered = |at_ms: i64| (from_ms - SLACK_MS..=to_ms + SLACK_MS).contains(&at_ms);
    let mut rows: Vec<Row> = Vec::new();
    let mut left: BTreeSet<usize> = (0..arrived.len()).collect();
    for (checks, node) in assigned(&own, arrived) {
        let pool: Vec<usize> =
            left.iter().copied().filter(|at| node.is_none_or(|node| arrived[*at].node == node)).collect();
        let found = pairs(&checks, &pool.iter().map(|at| &arrived[*at]).collect::<Vec<_>>());
        for (at, check) in checks.iter().enumerate() {
            let partner = found.get(&at).and_then(|partner| pool.get(*partner)).copied();
            if let Some(partner) = partner {
                left.remove(&partner);
            }
            rows.push(Row { check: Some((*check).clone()), arrived: partner.map(|at| arrived[at]) });
        }
    }
    rows.extend(left.into_iter().map(|at| Row { check: None, arrived: Some(arrived[at]) }));
    rows.retain(|row| row.lost().is_none() || covered(row.at_ms()));
    rows.sort_by_key(Row::at_ms);
    let of_others = (checks.len() - own.len()) as u64;
    let targets = own.iter().map(|check| check.target.clone()).collect();
    Joined { targets, rows, of_others, from_ms, to_ms }
}

/// The checks of each of the load balancer's nodes, with the address that the target saw it under: `None` for any.
fn assigned<'a>(own: &[&'a Check], arrived: &[Arrived]) -> Vec<(Vec<&'a Check>, Option<IpAddr>)> {
    let mut by_node: BTreeMap<Option<IpAddr>, Vec<&Check>> = BTreeMap::new();
    own.iter().for_each(|check| by_node.entry(check.balancer_node).or_default().push(check));
    let seen: BTreeSet<IpAddr> = arrived.iter().map(|a| a.node).collect();
    let mut scores = Vec::new();
    for (label, checks) in by_node.iter().filter_map(|(node, checks)| Some(((*node)?, checks))) {
        for node in &seen {
            let theirs: Vec<&Arrived> = arrived.iter().filter(|a| a.node == *node).collect();
            let same = if label == *node { usize::MAX / 2 } else { 0 };
            scores.push((same + pairs(checks, &theirs).len(), label, *node));
        }
    }
    scores.sort_by(|a, b| b.cmp(a));
    let (mut known, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (score, label, node) in scores {
        if score > 0 && !known.contains_key(&label) && taken.insert(node) {
            known.insert(label, node);
        }
    }
    let mut all: Vec<_> = by_node
        .into_iter()
        .map(|(label, checks)| (checks, label.and_then(|label| known.get(&label).copied())))
        .collect();
    // Those of whom nothing is known take what is left.
    all.sort_by_key(|(_, node)| node.is_none());
    all
}

/// Which check is which request: by number, each once, in the order of time.
fn pairs(checks: &[&Check], arrived: &[&Arrived]) -> BTreeMap<usize, usize> {
    let mut found = BTreeMap::new();
    let mut next = 0;
    for (at, check) in checks.iter().enumerate() {
        // What ended before this check was sent is nobody's any more.
        while arrived.get(next).is_some_and(|a| a.at_ms + a.resolution_ms < check.sent_ms - SLACK_MS) {
            next += 1;
        }
        if arrived.get(next).is_some_and(|a| fits(check, a)) {
            found.insert(at, next);
            next += 1;
        }
    }
    found
}

/// Whether a request can be this check: it began when that was sent, or ended when that did and was answered alike.
fn fits(check: &Check, arrived: &Arrived) -> bool {
    let latency_ms = check.latency_ms.unwrap_or(0);
    let answered_alike = match check.status_code.parse::<u16>() {
        Ok(code) => arrived.status.is_none_or(|status| status == code),
        // The load balancer hung up: nginx's own 499.
        Err(_) => matches!(arrived.status, None | Some(0 | 499)),
    };
    let (from, to) = match arrived.took_ms {
        Some(took_ms) => (arrived.at_ms - took_ms, arrived.at_ms + arrived.resolution_ms - took_ms),
        None if answered_alike => {
            let (from, to) = (arrived.at_ms - latency_ms, arrived.at_ms + arrived.resolution_ms);
            (from, to)
        }
        None => return false,
    };
    from <= check.sent_ms + SLACK_MS && to >= check.sent_ms - SLACK_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(node: &str, sent_ms: i64, passed: bool) -> Check {
        Check {
            balancer_node: node.parse().ok(),
            sent_ms,
            latency_ms: Some(if passed { 3 } else { 5000 }),
            target: "10.0.0.9:80".into(),
            target_group: "t".into(),
            passed,
            status_code: if passed { "200" } else { "-" }.into(),
            reason_code: if passed { "-" } else { "RequestTimedOut" }.into(),
        }
    }

    fn arrived(node: &str, at_ms: i64) -> Arrived {
        Arrived { node: node.parse().unwrap(), at_ms, resolution_ms: 1000, took_ms: None, status: Some(200) }
    }

    #[test]
    fn public_nodes_find_their_private_addresses_and_each_side_its_losses() {
        let mut checks: Vec<Check> = (0..10).map(|n| check("52.1.1.1", n * 5000 + 300, true)).collect();
        checks.extend((0..10).map(|n| check("52.2.2.2", n * 5000 + 2700, n != 4)));
        checks.sort_by_key(|check| check.sent_ms);
        let mut log: Vec<Arrived> =
            (0..10).filter(|n| *n != 6).map(|n| arrived("10.0.1.1", n * 5000)).collect();
        log.extend((0..10).filter(|n| *n != 4).map(|n| arrived("10.0.2.2", n * 5000 + 2000)));
        log.push(arrived("10.0.2.2", 41_000));
        log.sort_by_key(|a| a.at_ms);
        let joined = join(&checks, &log, &[]);
        let both = joined.rows.iter().filter(|row| row.lost().is_none()).count();
        assert_eq!((both, joined.rows.len()), (18, 21), "{joined:?}");
        for row in joined.rows.iter().filter(|row| row.lost().is_none()) {
            let (check, arrived) = (row.check.as_ref().unwrap(), row.arrived.unwrap());
            assert_eq!(
                check.balancer_node.unwrap().to_string() == "52.1.1.1",
                arrived.node.to_string() == "10.0.1.1"
            );
        }
        let lost: Vec<_> = joined.rows.iter().filter_map(|row| Some((row.at_ms(), row.lost()?))).collect();
        assert!(lost[0].0 == 22_700 && lost[0].1.contains("no answer in time"), "{lost:?}");
        assert!(lost[1].0 == 30_300 && lost[1].1.contains("the target's log lacks it"), "{lost:?}");
        assert!(lost[2].0 == 41_000 && lost[2].1.contains("the load balancer's log lacks it"), "{lost:?}");
    }

    #[test]
    fn other_targets_and_times_that_one_side_lacks_do_not_count() {
        let other = Check { target: "10.0.0.8:80".into(), ..check("10.0.1.1", 400, true) };
        let checks = [other, check("10.0.1.1", 5300, true), check("10.0.1.1", 10_300, true)];
        let log = [arrived("10.0.1.1", 10_000), arrived("10.0.1.1", 60_000)];
        let joined = join(&checks, &log, &["10.0.0.9".parse().unwrap()]);
        assert_eq!((joined.of_others, joined.rows.len()), (1, 1), "{joined:?}");
        assert_eq!(join(&[], &log, &[]), Joined::default());
    }
}
