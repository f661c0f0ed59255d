//! The policy's scale-out alarm, as target tracking makes it: the group's average above the target in 3 of 3
//! one-minute datapoints. AWS documents that target tracking makes and owns its alarms
//! (<https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html>); how many datapoints
//! they take is what the alarms show that it makes.

use jiff::Timestamp;
use serde::Serialize;

use super::host::Share;
use super::minutes::{Bucket, Minutes, hundredths};
use super::plan::{Aim, Plan};
use crate::sys::clock::rfc3339;

/// Datapoints above the target, in a row.
pub const DATAPOINTS: usize = 3;

/// What the alarm looks at, were the group's average this host and its idle others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alarm {
    /// The policy's target, in percent.
    pub target_pct: f64,
    /// Other instances in the group, all idle.
    pub fleet: u32,
}

/// The alarm as programs read it.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The policy's target.
    pub target_pct: f64,
    /// Idle others in the group.
    pub fleet: u32,
    /// What this host must exceed.
    pub host_needs_pct: f64,
    /// When the datapoint that makes the alarm fire is complete; `null` when none did.
    pub fires: Option<String>,
}

impl Alarm {
    /// What this host must exceed for the group's average to exceed the target.
    pub fn host_needs_pct(&self) -> f64 {
        self.target_pct * (f64::from(self.fleet) + 1.0)
    }

    /// The end of the minute whose datapoint makes the alarm fire, as seconds since the epoch. Minutes of which we saw
    /// only a part don't count: what CloudWatch reads in them isn't known.
    pub fn fires<'a>(&self, minutes: impl Iterator<Item = &'a Bucket>) -> Option<i64> {
        let (mut in_a_row, mut next) = (0, 0);
        for minute in minutes {
            let above = minute.is_whole_minute() && minute.share.busy_pct() > self.host_needs_pct();
            in_a_row = match above {
                true if minute.start == next => in_a_row + 1,
                true => 1,
                false => 0,
            };
            next = minute.start + 60;
            if in_a_row == DATAPOINTS {
                return Some(next);
            }
        }
        None
    }

    /// The same for a plan that starts at `now` on a host of `cpus` CPUs, if nothing else loads it.
    pub fn forecast(&self, plan: &Plan, cpus: u32, now: Timestamp) -> Option<i64> {
        // Any load that can be planned has shown itself within a day.
        let secs = plan.secs.map_or(86_400.0, |secs| secs.as_secs_f64());
        let start = now.as_millisecond() as f64 / 1000.0;
        let of_host = match plan.aim {
            Aim::Load(_) => f64::from(plan.workers.min(cpus)) / f64::from(cpus.max(1)),
            Aim::Target(_) => 1.0,
        };
        let curve = plan.aim.curve();
        let first = (start / 60.0).ceil() as i64;
        let last = ((start + secs) / 60.0).floor() as i64;
        let minutes: Vec<Bucket> = (first..last)
            .map(|minute| {
                let at = minute as f64 * 60.0 - start;
                let busy = of_host * (curve.area(at + 60.0) - curve.area(at));
                Bucket { start: minute * 60, secs: 60.0, share: Share { busy, steal: 0.0, total: 60.0 } }
            })
            .collect();
        self.fires(minutes.iter())
    }

    /// What became of it.
    pub fn verdict(&self, minutes: &Minutes) -> Verdict {
        let fires = self.fires(minutes.iter()).and_then(|end| Timestamp::from_second(end).ok());
        Verdict {
            target_pct: self.target_pct,
            fleet: self.fleet,
            host_needs_pct: hundredths(self.host_needs_pct()),
            fires: fires.map(rfc3339),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::curve::Curve;
    use super::super::plan::Priority;
    use super::*;
    use std::time::Duration;

    fn minute(number: i64, busy_pct: f64, secs: f64) -> Bucket {
        Bucket { start: number * 60, secs, share: Share { busy: busy_pct, steal: 0.0, total: 100.0 } }
    }

    const FIFTY: Alarm = Alarm { target_pct: 50.0, fleet: 0 };

    #[test]
    fn three_whole_minutes_above_the_target_in_a_row_fire() {
        let fires = |minutes: &[Bucket]| FIFTY.fires(minutes.iter());
        assert_eq!(fires(&[minute(7, 51.0, 60.0), minute(8, 90.0, 60.0), minute(9, 51.0, 59.9)]), Some(600));
        assert_eq!(fires(&[minute(7, 51.0, 60.0), minute(8, 50.0, 60.0), minute(9, 51.0, 60.0)]), None);
        assert_eq!(fires(&[minute(7, 51.0, 20.0), minute(8, 90.0, 60.0), minute(9, 51.0, 60.0)]), None);
        assert_eq!(fires(&[minute(7, 51.0, 60.0), minute(9, 90.0, 60.0), minute(10, 51.0, 60.0)]), None);
    }

    #[test]
    fn idle_others_raise_what_this_host_must_reach() {
        let two = Alarm { fleet: 1, target_pct: 30.0 };
        assert_eq!(two.host_needs_pct(), 60.0);
        let minutes: Vec<_> = (1..4).map(|n| minute(n, 59.0, 60.0)).collect();
        assert_eq!(two.fires(minutes.iter()), None);
    }

    #[test]
    fn a_plan_is_forecast_from_its_first_whole_minute_on() {
        let now = Timestamp::from_second(1_000_000_030).unwrap();
        let plan = |aim, secs| Plan {
            workers: 1,
            secs: Some(Duration::from_secs(secs)),
            aim,
            explicit: true,
            priority: Priority::Idle,
        };
        let full = || Aim::Load(Curve::constant(1.0));
        let minute = now.as_second() - now.as_second() % 60;
        assert_eq!(FIFTY.forecast(&plan(full(), 240), 1, now), Some(minute + 240));
        assert_eq!(FIFTY.forecast(&plan(full(), 200), 1, now), None, "two whole minutes only");
        assert_eq!(FIFTY.forecast(&plan(full(), 600), 2, now), None, "one of two CPUs is 50 %, not above it");
        let ramp = Aim::Target(Curve::ramp(0.8, Duration::from_secs(300)));
        assert_eq!(FIFTY.forecast(&plan(ramp, 1200), 4, now), Some(minute + 360));
    }
}
