//! The load balancer without clocks and sockets: the same states and routes, in time that only counts. Pure.

use std::time::Duration;

use super::State;
use super::routing::{Route, route};
use super::settings::{Check, Group};
use super::state::{Outcome, Tracker, Trouble};
use super::weight::Weight;

/// How a target fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// It refuses probes and requests.
    Refuses,
    /// It answers neither until it recovers.
    Hangs,
    /// It fails probes; requests are answered.
    Unhealthy,
}

/// A story to be played: the first of the targets fails for a while.
#[derive(Debug, Clone)]
pub struct Story {
    /// The health check.
    pub check: Check,
    /// The target group.
    pub group: Group,
    /// When each node's first probe comes.
    pub phases: Vec<Duration>,
    /// How many targets each node has.
    pub targets: usize,
    /// Cross-zone load balancing is off: each node has targets of its own, and only the first node's first one fails.
    pub zones: bool,
    /// How long after its zone became unhealthy, or well, the address of the first node is looked up so. The name's record lives
    /// for 60 s ("Target group health",
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health.html>, 2026-11-27); a health
    /// check of the zone that takes time of its own isn't documented.
    pub name_lags: Duration,
    /// How the first fails.
    pub failing: Failing,
    /// When it begins to.
    pub from: Duration,
    /// When it is well again.
    pub until: Duration,
    /// The end of the story.
    pub end: Duration,
    /// From one request to the next, at each node.
    pub period: Duration,
    /// How long a client waits for an answer.
    pub deadline: Duration,
}

/// A request in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// When it was sent.
    pub at: Duration,
    /// How long the client waited.
    pub took: Duration,
    /// The node.
    pub node: usize,
    /// The target that answered, by its number at its node; `None` for an error.
    pub by: Option<usize>,
}

/// Every request of the story.
pub fn play(story: &Story) -> Vec<Asked> {
    (0..story.phases.len()).flat_map(|node| at_node(story, node)).collect()
}

fn at_node(story: &Story, node: usize) -> Vec<Asked> {
    let mut trackers: Vec<(Tracker, State)> =
        (0..story.targets).map(|_| (Tracker::new(), State::Initial)).collect();
    // One probe of every target, so that the story begins with healthy ones.
    trackers.iter_mut().for_each(|one| _ = take(one, &story.check, Ok(200)));
    let mut weights = vec![Weight::default(); story.targets];
    let fails = Fails { story, node };
    let mut name = Name { story, node, changes: Vec::new() };
    let mut probes: Vec<(Duration, usize, Outcome)> = (0..)
        .map(|count| story.phases[node] + story.check.interval * count)
        .take_while(|due| *due < story.end)
        .flat_map(|due| (0..story.targets).map(move |target| (due, target)))
        .map(|(due, target)| {
            let (end, outcome) = fails.probe(target, due);
            (end, target, outcome)
        })
        .collect();
    probes.sort_by_key(|(end, ..)| *end);
    let mut probes = probes.into_iter().peekable();
    let mut asked = Vec::new();
    let mut at = story.period * u32::try_from(node).unwrap_or(0) / 2;
    for turn in 0.. {
        if at >= story.end {
            return asked;
        }
        while let Some((end, target, outcome)) = probes.next_if(|(end, ..)| *end <= at) {
            let changed = take(&mut trackers[target], &story.check, outcome);
            if changed == Some(State::Healthy) {
                weights[target].healthy(end);
            }
            if changed.is_some() {
                let healthy = trackers.iter().filter(|(_, state)| *state == State::Healthy).count();
                name.changed(end, healthy);
            }
        }
        if !name.has(at) {
            at += story.period;
            continue;
        }
        let states: Vec<State> = trackers.iter().map(|(_, state)| *state).collect();
        let healthy = states.iter().filter(|state| **state == State::Healthy).count();
        let shares: Vec<f64> = weights.iter().map(|one| one.at(&story.group, at, healthy)).collect();
        let target = match route(&states, &shares, &story.group, turn) {
            Route::To { place, .. } => Some(place),
            Route::Nowhere => None,
        };
        let (by, took) = fails.answer(target, at);
        if let Some(target) = target {
            weights[target].took(by.is_some());
        }
        asked.push(Asked { at, took, node, by });
        at += story.period;
    }
    asked
}

/// Takes a probe's outcome in: the state, where it changed.
fn take((tracker, state): &mut (Tracker, State), check: &Check, outcome: Outcome) -> Option<State> {
    let changed = tracker.take(check, outcome)?.state;
    *state = changed;
    Some(changed)
}

/// Whether the name has the address of a node.
struct Name<'a> {
    story: &'a Story,
    node: usize,
    /// Since when its zone is well, or isn't.
    changes: Vec<(Duration, bool)>,
}

impl Name<'_> {
    fn changed(&mut self, at: Duration, healthy: usize) {
        let well = self.story.group.dns_min.is_none_or(|least| healthy >= least);
        if self.changes.last().is_none_or(|(_, before)| *before) != well {
            self.changes.push((at, well));
        }
    }

    /// With cross-zone load balancing all zones are unhealthy together, and then the name keeps them all.
    fn has(&self, now: Duration) -> bool {
        let alone = self.story.zones && self.story.phases.len() > 1 && self.node == 0;
        let seen = self.changes.iter().rev().find(|(at, _)| *at + self.story.name_lags <= now);
        !alone || seen.is_none_or(|(_, well)| *well)
    }
}

/// What the failure does to probes and requests of one node.
struct Fails<'a> {
    story: &'a Story,
    node: usize,
}

impl Fails<'_> {
    fn at(&self, target: usize, at: Duration) -> bool {
        let here = self.node == 0 || !self.story.zones;
        here && target == 0 && at >= self.story.from && at < self.story.until
    }

    /// When a probe ends and what it brings.
    fn probe(&self, target: usize, due: Duration) -> (Duration, Outcome) {
        let story = self.story;
        if !self.at(target, due) {
            return (due, Ok(200));
        }
        let given_up = due + story.check.timeout;
        match story.failing {
            Failing::Refuses => (due, Err(Trouble::Failed)),
            Failing::Unhealthy => (due, Ok(503)),
            Failing::Hangs if story.until <= given_up => (story.until, Ok(200)),
            Failing::Hangs => (given_up, Err(Trouble::Timeout)),
        }
    }

    fn answer(&self, target: Option<usize>, at: Duration) -> (Option<usize>, Duration) {
        const PROMPT: Duration = Duration::from_millis(2);
        let story = self.story;
        let Some(target) = target else { return (None, PROMPT) };
        if !self.at(target, at) {
            return (Some(target), PROMPT);
        }
        match story.failing {
            Failing::Unhealthy => (Some(target), PROMPT),
            Failing::Refuses => (None, PROMPT),
            Failing::Hangs if story.until <= at + story.deadline => (Some(target), story.until - at),
            Failing::Hangs => (None, story.deadline),
        }
    }
}
