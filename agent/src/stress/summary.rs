//! What a run came to, for programs and for people, and whether that is what was asked for.

use serde::Serialize;

use super::alarm::{Alarm, Verdict};
use super::minutes::{Bucket, Datapoint, hundredths};
use super::plan::{Aim, Plan, Priority};
use super::run::{Ended, Outcome};

/// How far the mean over the run may be from what was asked for, in percentage points.
pub const TOLERANCE: f64 = 2.0;

/// The last JSON line.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    event: &'static str,
    /// Threads that burned.
    pub workers: u32,
    /// How long.
    pub elapsed_ms: u64,
    /// Each worker's share of one CPU that was asked for, on average over the run; `null` with a target.
    pub requested_load_pct: Option<f64>,
    /// Each worker's share of one CPU, from the workers' own CPU clocks.
    pub achieved_load_pct: f64,
    /// The host's share that was asked for, on average over the run; `null` without a target.
    pub requested_target_pct: Option<f64>,
    /// The whole host, as CloudWatch counts.
    pub host_busy_pct: f64,
    /// Withheld by the hypervisor.
    pub host_steal_pct: f64,
    /// By the minutes of the clock.
    pub minutes: Vec<Datapoint>,
    /// As basic monitoring has them.
    pub five_minutes: Vec<Datapoint>,
    /// The policy's alarm, where one was named.
    pub alarm: Option<Verdict>,
    /// Seconds for which a cgroup quota stopped the workers, summed over CPUs.
    pub throttled_secs: f64,
    /// `deadline` or `signal`.
    pub ended: &'static str,
    /// Whether the load was what was asked for, within 2 points.
    pub reached: bool,
    /// Why not.
    pub reason: Option<String>,
}

impl Summary {
    /// Sums up a run that might use `allowed` CPUs.
    pub fn of(plan: &Plan, outcome: &Outcome, allowed: u32, alarm: Option<Alarm>) -> Self {
        let elapsed = outcome.elapsed.as_secs_f64();
        let workers = f64::from(plan.workers);
        let achieved = 100.0 * outcome.worker_secs / elapsed.max(1e-9) / workers;
        let requested = 100.0 * plan.aim.curve().mean(elapsed);
        let busy = outcome.host.busy_pct();
        let (load, target, missed) = match plan.aim {
            Aim::Load(_) => {
                // Workers that nobody gave a share want what there is, as in stress.
                let fit = (f64::from(allowed) / workers).min(1.0);
                let possible = if plan.explicit { 1.0 } else { fit };
                // In points of the CPUs that they run on, however many share one.
                (Some(requested), None, (requested * possible - achieved) / fit)
            }
            Aim::Target(_) => (None, Some(requested), requested - busy),
        };
        let reached = missed.abs() <= TOLERANCE;
        let datapoints = |buckets: &mut dyn Iterator<Item = Bucket>| buckets.map(|b| b.datapoint()).collect();
        Self {
            event: "summary",
            workers: plan.workers,
            elapsed_ms: u64::try_from(outcome.elapsed.as_millis()).unwrap_or(u64::MAX),
            requested_load_pct: load.map(hundredths),
            achieved_load_pct: hundredths(achieved),
            requested_target_pct: target.map(hundredths),
            host_busy_pct: hundredths(busy),
            host_steal_pct: hundredths(outcome.host.steal_pct()),
            minutes: datapoints(&mut outcome.minutes.iter().copied()),
            five_minutes: datapoints(&mut outcome.minutes.by_five().into_iter()),
            alarm: alarm.map(|alarm| alarm.verdict(&outcome.minutes)),
            throttled_secs: hundredths(outcome.throttled_secs),
            ended: match outcome.ended {
                Ended::Deadline => "deadline",
                Ended::Signal(_) => "signal",
            },
            reached,
            reason: (!reached).then(|| reason(plan, outcome, allowed, missed)),
        }
    }
}

/// Why the load was `missed` points below (above, when negative) what was asked for.
fn reason(plan: &Plan, outcome: &Outcome, allowed: u32, missed: f64) -> String {
    let elapsed = outcome.elapsed.as_secs_f64();
    let wanted = plan.aim.curve().mean(elapsed) * f64::from(plan.workers);
    let (cpus, steal) = (f64::from(allowed), outcome.host.steal_pct());
    if missed < 0.0 {
        return "others kept the host busier than the target".to_owned();
    }
    if matches!(plan.aim, Aim::Load(_)) && plan.explicit && wanted > cpus + 0.01 {
        return format!(
            "{} workers at {:.0} % need {wanted:.1} CPUs, {} may be used",
            plan.workers,
            100.0 * plan.aim.curve().mean(elapsed),
            allowed
        );
    }
    if outcome.throttled_secs > 0.01 * elapsed {
        return format!("a cgroup quota stopped the workers for {:.1} s", outcome.throttled_secs);
    }
    if steal >= 1.0 && steal * 2.0 >= missed {
        return format!("the hypervisor withheld {steal:.1} % of the CPU time (steal)");
    }
    match plan.aim {
        Aim::Target(_) if f64::from(plan.workers) < cpus => {
            format!("{} workers cannot load {} CPUs further", plan.workers, allowed)
        }
        _ if plan.priority == Priority::Idle => {
            "others were busier and came first; --priority normal competes with them".to_owned()
        }
        _ => "others were busier".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::curve::Curve;
    use super::super::host::Share;
    use super::super::minutes::Minutes;
    use super::*;
    use std::time::Duration;

    fn plan(workers: u32, aim: Aim, explicit: bool) -> Plan {
        Plan { workers, secs: None, aim, explicit, priority: Priority::Idle }
    }

    fn load(workers: u32, share: f64) -> Plan {
        plan(workers, Aim::Load(Curve::constant(share)), true)
    }

    fn outcome(worker_secs: f64, busy: f64, steal: f64) -> Outcome {
        Outcome {
            elapsed: Duration::from_secs(10),
            worker_secs,
            host: Share { busy, steal, total: 20.0 },
            minutes: Minutes::default(),
            throttled_secs: 0.0,
            ended: Ended::Deadline,
        }
    }

    #[test]
    fn two_points_off_is_reached_and_three_is_not() {
        assert!(Summary::of(&load(1, 0.5), &outcome(4.81, 5.0, 0.0), 2, None).reached);
        let missed = Summary::of(&load(1, 0.5), &outcome(4.7, 5.0, 0.0), 2, None);
        assert_eq!((missed.achieved_load_pct, missed.reached), (47.0, false));
        assert!(missed.reason.unwrap().starts_with("others were busier"));
    }

    #[test]
    fn more_workers_than_cpus_reach_what_there_is_unless_a_share_was_named() {
        let bare = plan(8, Aim::Load(Curve::constant(1.0)), false);
        assert!(Summary::of(&bare, &outcome(19.9, 20.0, 0.0), 2, None).reached);
        assert!(!Summary::of(&bare, &outcome(19.0, 20.0, 0.0), 2, None).reached, "95 % of each CPU");
        let named = Summary::of(&load(8, 0.5), &outcome(20.0, 20.0, 0.0), 2, None);
        assert_eq!(named.reason.unwrap(), "8 workers at 50 % need 4.0 CPUs, 2 may be used");
    }

    #[test]
    fn the_reason_is_what_was_seen() {
        let reason = |outcome: Outcome| Summary::of(&load(1, 1.0), &outcome, 2, None).reason.unwrap();
        let quota = Outcome { throttled_secs: 4.0, ..outcome(5.0, 5.0, 0.0) };
        assert_eq!(reason(quota), "a cgroup quota stopped the workers for 4.0 s");
        assert!(reason(outcome(5.0, 5.0, 6.0)).contains("withheld 30.0 %"));
    }

    #[test]
    fn a_target_is_judged_by_the_host_from_both_sides() {
        let target = plan(2, Aim::Target(Curve::constant(0.4)), true);
        assert!(Summary::of(&target, &outcome(3.0, 8.2, 0.0), 2, None).reached);
        let over = Summary::of(&target, &outcome(0.0, 12.0, 0.0), 2, None);
        assert_eq!(over.reason.unwrap(), "others kept the host busier than the target");
        assert_eq!((over.requested_load_pct, over.requested_target_pct), (None, Some(40.0)));
    }
}
