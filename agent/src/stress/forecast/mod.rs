//! What the scaling policy's alarm will read: one model, used before, during and after a load. Pure.
//!
//! ```text
//! plan × host × fleet × period × what was seen  →  bounds of each datapoint  →  certain, possible, impossible
//! ```
//!
//! [`Forecast::of`] answers a [`Question`]: [`points()`] bounds each datapoint, [`missing`] has CloudWatch's rules, and
//! [`words`] says it for people. Nothing else may tell what an alarm does, so that no two lines can contradict.
//!
//! A [`Question`] without a load asks for what was seen alone: after a run, or on a host that somebody else loads.

pub mod missing;
mod period;
pub mod points;
mod verdict;
pub mod words;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use period::{DATAPOINTS, PUBLICATION, Period};
pub use points::{Point, points};
pub use verdict::{Certainty, Expected, Forecast, Reason};

use super::minutes::Minutes;
use super::plan::{Aim, Plan};

/// A policy's scale-out alarm: the group's average above the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alarm {
    /// The policy's target, in percent.
    pub target_pct: f64,
    /// Other instances in the group, all idle.
    pub fleet: u32,
}

impl Alarm {
    /// What this host must exceed for the group's average to exceed the target, in percent.
    pub fn host_needs_pct(&self) -> f64 {
        self.target_pct * (f64::from(self.fleet) + 1.0)
    }
}

/// What the load has to work with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// CPUs of the host, over which CloudWatch averages.
    pub cpus: f64,
    /// Those of them that we may use, by affinity, cpuset and quota; may be a fraction.
    pub usable: f64,
}

/// A load that runs or will run.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// What it does.
    pub plan: &'a Plan,
    /// Its first moment, in seconds since the epoch.
    pub started: f64,
}

/// The time in which a fresh instance's metrics don't count for the group: "Set the default instance warmup"
/// (<https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-default-instance-warmup.html>).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warmup {
    /// Its end, in seconds since the epoch, counted from the boot: the instance came into service a little later.
    pub until: f64,
    /// Whether somebody named it; else it is what AWS assumes where the group says nothing (300 s, its cooldown), and
    /// nothing before its end is certain.
    pub named: bool,
}

/// What AWS assumes: without a default instance warmup the policy's is the group's default cooldown, 300 s
/// (`EstimatedInstanceWarmup` of `PutScalingPolicy`).
pub const USUAL_WARMUP: Duration = Duration::from_secs(300);

/// What is asked of the model.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The host.
    pub host: Capacity,
    /// The load; `None` once it is over.
    pub load: Option<Load<'a>>,
    /// How long a datapoint is.
    pub period: Period,
    /// What was seen so far.
    pub seen: &'a Minutes,
    /// The time, in seconds since the epoch.
    pub now: f64,
    /// Until when the metrics don't count.
    pub warmup: Option<Warmup>,
}

impl Load<'_> {
    /// Its last moment; `None` until it is interrupted.
    pub fn ends(&self) -> Option<f64> {
        self.plan.secs.map(|secs| self.started + secs.as_secs_f64())
    }

    /// The share that is asked for between two moments, on average: of each worker's CPU, or with a target of the host.
    pub fn asked(&self, from: f64, until: f64) -> f64 {
        let curve = self.plan.aim.curve();
        let (from, until) = (from - self.started, until - self.started);
        if until > from { (curve.area(until) - curve.area(from)) / (until - from) } else { curve.at(from) }
    }

    /// What the load alone makes of the host between two moments, as a share from 0 to 1.
    pub fn planned(&self, host: &Capacity, from: f64, until: f64) -> f64 {
        let workers = f64::from(self.plan.workers);
        // The most that one unit of the curve is of the host, and what the host allows.
        let (whole, most) = match self.plan.aim {
            Aim::Load(_) => (workers / host.cpus, host.usable.min(workers) / host.cpus),
            Aim::Target(_) => (1.0, host.usable.min(workers) / host.cpus),
        };
        if self.plan.aim.curve().peak() * whole <= most + 1e-9 {
            return whole * self.asked(from, until);
        }
        // Cut off where it is out of reach: second by second, as it may be so for a part of the time only.
        let steps = (until - from).ceil().clamp(1.0, 300.0);
        let step = (until - from) / steps;
        let at =
            |number: f64| (whole * self.asked(from + number * step, from + (number + 1.0) * step)).min(most);
        (0..steps as u32).map(|number| at(f64::from(number))).sum::<f64>() / steps
    }
}
