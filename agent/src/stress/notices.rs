//! "Will the group notice?": what is said before a run, one line each, when it is true.

use std::time::Duration;

use jiff::Timestamp;

use super::alarm::Alarm;
use super::plan::{Aim, Plan};
use crate::config::Span;
use crate::sys::cgroup::Quota;

/// Three one-minute datapoints and the part of a minute before the first: target tracking with detailed monitoring.
const DETAILED: Duration = Duration::from_secs(240);
/// Two five-minute datapoints and the part before the first: basic monitoring.
const BASIC: Duration = Duration::from_secs(900);

/// What the notices are drawn from.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What will be done.
    pub plan: &'a Plan,
    /// CPUs of the host, over which CloudWatch averages.
    pub host_cpus: u32,
    /// CPUs that we may use.
    pub allowed: u32,
    /// The quota that binds us.
    pub quota: Option<&'a Quota>,
    /// The policy's alarm.
    pub alarm: Option<Alarm>,
    /// The wall clock.
    pub now: Timestamp,
}

/// The notices that are true.
pub fn notices(facts: &Facts<'_>) -> Vec<String> {
    [reach(facts), room(facts), quota(facts), length(facts), scale_in(facts), alarm(facts)]
        .into_iter()
        .flatten()
        .collect()
}

fn reach(facts: &Facts<'_>) -> Option<String> {
    let (workers, cpus) = (facts.plan.workers, facts.host_cpus);
    let most = 100.0 * f64::from(workers) / f64::from(cpus);
    let is = if workers == 1 { "1 worker loads".to_owned() } else { format!("{workers} workers load") };
    match facts.plan.aim {
        Aim::Load(_) if workers < cpus => Some(format!(
            "{is} {workers} of {cpus} CPUs: CPUUtilization averages over all of them, so this adds {:.1} % at most; \
             --cpu all loads every CPU.",
            most * facts.plan.aim.curve().peak()
        )),
        Aim::Target(_) if 100.0 * facts.plan.aim.curve().peak() > most => Some(format!(
            "{is} {workers} of {cpus} CPUs, {most:.1} % of the host: without others the target is out of reach."
        )),
        _ => None,
    }
}

fn room(facts: &Facts<'_>) -> Option<String> {
    let (plan, allowed) = (facts.plan, facts.allowed);
    let need = f64::from(plan.workers) * plan.aim.curve().peak();
    let tight = matches!(plan.aim, Aim::Load(_)) && plan.explicit && need > f64::from(allowed) + 0.001;
    tight.then(|| {
        format!(
            "{} workers need {need:.1} CPUs and {allowed} may be used: they won't reach it.",
            plan.workers
        )
    })
}

fn quota(facts: &Facts<'_>) -> Option<String> {
    let quota = facts.quota.filter(|quota| quota.cpus < f64::from(facts.allowed))?;
    Some(format!(
        "A cgroup quota allows {:.2} of {} CPUs ({}).",
        quota.cpus,
        facts.allowed,
        quota.at.display()
    ))
}

fn length(facts: &Facts<'_>) -> Option<String> {
    let secs = facts.plan.secs?;
    if secs < DETAILED {
        return Some(format!(
            "{} is too short to scale out: target tracking takes 3 full one-minute datapoints, at least 240 s with \
             detailed monitoring; with basic (five-minute) monitoring take 900 s, for two datapoints.",
            Span(secs)
        ));
    }
    (secs < BASIC).then(|| {
        format!(
            "{} scales out with detailed (one-minute) monitoring; with basic (five-minute) monitoring take 900 s.",
            Span(secs)
        )
    })
}

fn scale_in(facts: &Facts<'_>) -> Option<String> {
    facts.plan.secs.is_none_or(|secs| secs >= DETAILED).then(|| {
        "Scale-in afterwards takes 15 minutes below 0.7 × the policy's target (observed in public labs, not documented)."
            .to_owned()
    })
}

fn alarm(facts: &Facts<'_>) -> Option<String> {
    let alarm = facts.alarm?;
    let needs = alarm.host_needs_pct();
    let goal = match alarm.fleet {
        0 => format!("above {needs:.1} %"),
        1 => format!("above {needs:.1} % on this host (beside 1 idle other)"),
        n => format!("above {needs:.1} % on this host (beside {n} idle others)"),
    };
    if needs >= 100.0 {
        return Some(format!("The scale-out alarm needs {goal}: this host alone can't make it fire."));
    }
    Some(match alarm.forecast(facts.plan, facts.host_cpus, facts.now) {
        Some(end) => {
            format!("The scale-out alarm needs 3 full minutes {goal}; as planned it fires at {}.", clock(end))
        }
        None => {
            format!("The scale-out alarm needs 3 full minutes {goal}; this load alone won't make it fire.")
        }
    })
}

/// A time of the day, to the minute.
pub fn clock(seconds: i64) -> String {
    let at = Timestamp::from_second(seconds).unwrap_or_default();
    format!("{} UTC", at.to_string().get(11..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::curve::Curve;
    use super::super::plan::Priority;
    use super::*;

    fn plan(workers: u32, secs: u64, aim: Aim) -> Plan {
        let secs = (secs > 0).then(|| Duration::from_secs(secs));
        Plan { workers, secs, aim, explicit: true, priority: Priority::Idle }
    }

    fn said(plan: &Plan, alarm: Option<Alarm>) -> String {
        let now = Timestamp::from_second(1_800_000_000).unwrap(); // a full minute
        notices(&Facts { plan, host_cpus: 2, allowed: 2, quota: None, alarm, now }).join("\n")
    }

    fn full() -> Aim {
        Aim::Load(Curve::constant(1.0))
    }

    #[test]
    fn one_cpu_of_two_is_half_of_cloudwatch() {
        assert!(said(&plan(1, 1000, full()), None).contains("this adds 50.0 % at most"));
        assert!(!said(&plan(2, 1000, full()), None).contains("adds"));
        let target = Aim::Target(Curve::constant(0.6));
        assert!(said(&plan(1, 1000, target), None).contains("out of reach"));
    }

    #[test]
    fn a_run_that_is_too_short_for_the_alarm_is_told() {
        let full = |secs| said(&plan(2, secs, full()), None);
        assert!(full(239).contains("too short to scale out") && !full(239).contains("Scale-in"));
        assert!(full(240).contains("240 s") || full(240).contains("4m scales out with detailed"));
        assert!(!full(900).contains("monitoring") && full(900).contains("Scale-in"));
        assert!(!full(0).contains("monitoring"));
    }

    #[test]
    fn more_work_than_cpus_is_told() {
        assert!(
            said(&plan(8, 1000, Aim::Load(Curve::constant(0.5))), None)
                .contains("need 4.0 CPUs and 2 may be")
        );
        let bare = Plan { explicit: false, ..plan(8, 1000, full()) };
        assert!(!said(&bare, None).contains("may be used"));
    }

    #[test]
    fn the_alarm_is_forecast_to_the_minute() {
        let alarm = |target_pct, fleet| Some(Alarm { target_pct, fleet });
        let full = plan(2, 1000, full());
        assert!(
            said(&full, alarm(50.0, 0)).contains("fires at 08:03 UTC"),
            "{}",
            said(&full, alarm(50.0, 0))
        );
        assert!(said(&full, alarm(30.0, 2)).contains("above 90.0 % on this host (beside 2 idle others)"));
        assert!(said(&full, alarm(50.0, 1)).contains("this host alone can't"));
        assert!(
            said(&plan(1, 1000, Aim::Load(Curve::constant(0.9))), alarm(50.0, 0))
                .contains("won't make it fire")
        );
    }

    #[test]
    fn a_quota_is_told_with_its_place() {
        let quota = Quota { cpus: 0.5, at: "/sys/fs/cgroup/a.slice".into() };
        let plan = plan(2, 1000, full());
        let facts = Facts {
            plan: &plan,
            host_cpus: 2,
            allowed: 2,
            quota: Some(&quota),
            alarm: None,
            now: Timestamp::UNIX_EPOCH,
        };
        assert!(
            notices(&facts)
                .contains(&"A cgroup quota allows 0.50 of 2 CPUs (/sys/fs/cgroup/a.slice).".to_owned())
        );
    }
}
