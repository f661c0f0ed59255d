//! Whether a run was what was asked for, and if not, why: by what was measured. Pure.

use super::forecast::{Capacity, Certainty, Forecast, Load};
use super::plan::{Aim, Plan, Priority};
use super::run::Outcome;

/// How far a mean may be from what was asked for, in percentage points.
pub const TOLERANCE: f64 = 2.0;

/// What the counters of idle time may be off by, in CPU seconds: they are told in steps of 10 ms, at the beginning and at
/// the end. In a run of a second that is a point.
const RESOLUTION_SECS: f64 = 0.02;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What was asked for.
    Yes,
    /// Not.
    No,
    /// It depends on what nobody saw.
    CannotTell,
}

/// The judgement of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Success {
    /// What the exit code says.
    pub answer: Answer,
    /// Whether each worker had the share of a CPU that was asked for; `None` with a target, which asks for none.
    pub worker_reached: Option<bool>,
    /// Whether the host was as busy as that makes it, or more.
    pub host_reached: bool,
    /// Why the answer isn't yes.
    pub reason: Option<String>,
    /// What is worth knowing although it is.
    pub note: Option<String>,
}

/// What was missing, in CPU seconds over the run, and what it is missing from.
#[derive(Debug, Clone, Copy)]
struct Missing {
    secs: f64,
    /// Whether others' load is a cause: of a worker's share it is, of the host's it can't be.
    beside_others: bool,
}

impl Success {
    /// Judges a run of `plan` that might use `allowed` CPUs; `alarm` is what the policy's alarm does, where one was named.
    pub fn of(plan: &Plan, outcome: &Outcome, allowed: u32, alarm: Option<&Forecast>) -> Self {
        let seen = Seen { plan, outcome, allowed: f64::from(allowed) };
        let (below, above) = (seen.host_below(), seen.host_above());
        let tolerance = TOLERANCE + 100.0 * RESOLUTION_SECS / outcome.host.total.max(RESOLUTION_SECS);
        let host_reached = below <= tolerance;
        let worker_reached = seen.worker_missed().map(|missed| missed.abs() <= TOLERANCE);
        let by_host = matches!(plan.aim, Aim::Target(_)) || !plan.explicit;
        let too_high = plan.exact && above > tolerance;
        let load_reached = if by_host { host_reached && !too_high } else { worker_reached == Some(true) };
        let answer = match alarm.map(|alarm| alarm.verdict) {
            Some(Certainty::Certain) => Answer::Yes,
            Some(Certainty::Possible) => Answer::CannotTell,
            Some(Certainty::Impossible) => Answer::No,
            None if load_reached => Answer::Yes,
            None => Answer::No,
        };
        let why = || {
            if too_high && host_reached {
                return "others kept the host above the target (--exact)".to_owned();
            }
            let secs = if by_host { below / 100.0 * outcome.host.total } else { seen.worker_secs_missed() };
            seen.reason(Missing { secs, beside_others: !by_host })
        };
        Self {
            answer,
            worker_reached,
            host_reached,
            reason: (!load_reached).then(why),
            note: if load_reached { seen.note(by_host, worker_reached, above) } else { None },
        }
    }
}

struct Seen<'a> {
    plan: &'a Plan,
    outcome: &'a Outcome,
    allowed: f64,
}

impl Seen<'_> {
    fn load(&self) -> (Load<'_>, Capacity) {
        let cpus = f64::from(self.outcome.host_cpus);
        // The quota is no excuse: without it CloudWatch would read more.
        (Load { plan: self.plan, started: self.outcome.began }, Capacity { cpus, usable: self.allowed })
    }

    /// What the host should have read between two moments, in percent.
    fn due(&self, from: f64, until: f64) -> f64 {
        let (load, host) = self.load();
        match self.plan.aim {
            Aim::Load(_) => 100.0 * load.planned(&host, from, until),
            Aim::Target(_) => 100.0 * load.asked(from, until),
        }
    }

    /// Of each full minute, or of a run without one, what was due and what it was, in percent.
    fn minutes(&self) -> Vec<(f64, f64)> {
        let began = self.outcome.began;
        let full: Vec<(f64, f64)> = (self.outcome.minutes.by(60).iter())
            .filter(|minute| minute.is_whole(60))
            .map(|minute| {
                let start = minute.start as f64;
                (self.due(start.max(began), start + 60.0), minute.share.busy_pct())
            })
            .collect();
        if full.is_empty() {
            let end = began + self.outcome.elapsed.as_secs_f64();
            return vec![(self.due(began, end), self.outcome.host.busy_pct())];
        }
        full
    }

    /// By how many points the worst minute was below what was due,
    fn host_below(&self) -> f64 {
        self.minutes().iter().map(|(due, was)| due - was).fold(f64::MIN, f64::max)
    }

    /// and the highest above it.
    fn host_above(&self) -> f64 {
        self.minutes().iter().map(|(due, was)| was - due).fold(f64::MIN, f64::max)
    }

    /// By how many points of the CPUs that they run on the workers missed their share.
    fn worker_missed(&self) -> Option<f64> {
        let Aim::Load(curve) = &self.plan.aim else { return None };
        let (elapsed, workers) = (self.outcome.elapsed.as_secs_f64(), f64::from(self.plan.workers));
        let asked = 100.0 * curve.mean(elapsed);
        let achieved = 100.0 * self.outcome.worker_secs / elapsed.max(1e-9) / workers;
        // Workers that nobody gave a share want what there is, as in stress.
        let fit = (self.allowed / workers).min(1.0);
        let possible = if self.plan.explicit { 1.0 } else { fit };
        Some((asked * possible - achieved) / fit)
    }

    fn worker_secs_missed(&self) -> f64 {
        let elapsed = self.outcome.elapsed.as_secs_f64();
        (self.plan.aim.curve().area(elapsed) * f64::from(self.plan.workers) - self.outcome.worker_secs)
            .max(0.0)
    }

    fn others_secs(&self) -> f64 {
        (self.outcome.host.busy - self.outcome.worker_secs).max(0.0)
    }

    /// What explains most of what is missing. Each cause was measured, and explains no more than what those before it
    /// leave: a hypervisor that withholds 2.7 % of a host that others keep busy is not why a worker got nothing.
    fn reason(&self, missing: Missing) -> String {
        let (plan, outcome) = (self.plan, self.outcome);
        let elapsed = outcome.elapsed.as_secs_f64();
        let mean = plan.aim.curve().mean(elapsed);
        let wanted = mean * f64::from(plan.workers);
        if matches!(plan.aim, Aim::Load(_)) && plan.explicit && wanted > self.allowed + 0.01 {
            let Self { allowed, .. } = self;
            return format!(
                "{} workers at {:.0} % need {wanted:.1} CPUs, {allowed:.0} may be used",
                plan.workers,
                100.0 * mean
            );
        }
        let reach = self.allowed.min(f64::from(plan.workers));
        let mut left = missing.secs;
        let mut take = |most: f64| {
            let part = most.clamp(0.0, left);
            left -= part;
            part
        };
        let stopped = take(outcome.stopped_secs * reach);
        let throttled = take(outcome.throttled_secs);
        let others = take(if missing.beside_others { self.others_secs() } else { 0.0 });
        let steal = take(outcome.host.steal);
        let causes = [
            (stopped, format!("the process was stopped for {:.1} s (SIGSTOP, Ctrl-Z)", outcome.stopped_secs)),
            (throttled, format!("a cgroup quota stopped the workers for {:.1} s", outcome.throttled_secs)),
            (others, self.others()),
            (
                steal,
                format!("the hypervisor withheld {:.1} % of the CPU time (steal)", outcome.host.steal_pct()),
            ),
        ];
        let most = causes.iter().map(|cause| cause.0).fold(0.0, f64::max);
        // Less than a quarter of it explained is not explained.
        if most < missing.secs / 4.0 {
            return match plan.aim {
                Aim::Target(_) if f64::from(plan.workers) < f64::from(outcome.host_cpus) => {
                    let s = if plan.workers == 1 { "" } else { "s" };
                    format!("{} worker{s} cannot load {} CPUs further", plan.workers, outcome.host_cpus)
                }
                _ => "the workers got less CPU time than the host had: none of quota, steal and others explains it".to_owned(),
            };
        }
        let told = causes
            .iter()
            .filter(|cause| cause.0 > 0.0 && cause.0 >= most / 2.0)
            .map(|cause| cause.1.as_str());
        told.collect::<Vec<_>>().join("; ")
    }

    fn others(&self) -> String {
        match self.plan.priority {
            Priority::Idle => {
                "others were busier and came first; --priority normal competes with them".to_owned()
            }
            Priority::Normal => "others were busier".to_owned(),
        }
    }

    fn note(&self, by_host: bool, worker_reached: Option<bool>, above: f64) -> Option<String> {
        if !by_host {
            return None;
        }
        let (elapsed, workers) = (self.outcome.elapsed.as_secs_f64(), f64::from(self.plan.workers));
        let busy = self.outcome.host.busy_pct();
        let each = 100.0 * self.outcome.worker_secs / elapsed.max(1e-9) / workers;
        let who = if self.plan.workers == 1 { "the worker itself" } else { "each worker" };
        match self.plan.aim {
            Aim::Load(_) if worker_reached == Some(false) => Some(format!(
                "CPUUtilization was {busy:.1} %, asked {:.1} %; {who} had {each:.1} % of a CPU, as others came first",
                self.due(self.outcome.began, self.outcome.began + elapsed)
            )),
            Aim::Target(_) if above > TOLERANCE => Some(format!(
                "CPUUtilization was {busy:.1} %, above the target, because of others; --exact makes that a failure"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::curve::Curve;
    use super::super::host::Share;
    use super::super::minutes::Minutes;
    use super::super::plan::Of;
    use super::super::run::Ended;
    use super::*;

    fn plan(workers: u32, aim: Aim, explicit: bool) -> Plan {
        Plan { workers, secs: None, aim, explicit, exact: false, priority: Priority::Idle, of: Of::Host }
    }

    fn bare(workers: u32) -> Plan {
        plan(workers, Aim::Load(Curve::constant(1.0)), false)
    }

    fn load(workers: u32, share: f64) -> Plan {
        plan(workers, Aim::Load(Curve::constant(share)), true)
    }

    fn target(share: f64) -> Plan {
        plan(2, Aim::Target(Curve::constant(share)), true)
    }

    /// Ten seconds on two CPUs.
    fn outcome(worker_secs: f64, busy: f64, steal: f64) -> Outcome {
        Outcome {
            elapsed: Duration::from_secs(10),
            worker_secs,
            host: Share { busy, steal, total: 20.0 },
            host_cpus: 2,
            began: 1_800_000_000.0,
            minutes: Minutes::default(),
            throttled_secs: 0.0,
            stopped_secs: 0.0,
            ended: Ended::Deadline,
        }
    }

    fn judged(plan: &Plan, outcome: &Outcome) -> (Answer, Option<bool>, bool) {
        let success = Success::of(plan, outcome, 2, None);
        (success.answer, success.worker_reached, success.host_reached)
    }

    #[test]
    fn a_plain_load_is_reached_when_the_host_is_as_busy_as_it_makes_it_whoever_does_it() {
        assert_eq!(judged(&bare(1), &outcome(0.1, 19.98, 0.0)), (Answer::Yes, Some(false), true));
        assert_eq!(judged(&bare(1), &outcome(10.0, 10.0, 0.0)), (Answer::Yes, Some(true), true));
        assert_eq!(judged(&bare(2), &outcome(10.0, 10.0, 0.0)), (Answer::No, Some(false), false));
        assert_eq!(judged(&bare(8), &outcome(19.9, 20.0, 0.0)), (Answer::Yes, Some(true), true));
        let note = Success::of(&bare(1), &outcome(0.1, 19.98, 0.0), 2, None).note.unwrap();
        assert_eq!(
            note,
            "CPUUtilization was 99.9 %, asked 50.0 %; the worker itself had 1.0 % of a CPU, as others came first"
        );
    }

    #[test]
    fn each_full_minute_is_judged() {
        let mut busy = outcome(180.0, 240.0, 0.0);
        busy.elapsed = Duration::from_secs(180);
        for minute in 0..3_i64 {
            let secs = if minute == 1 { 0.4 } else { 0.8 };
            for second in 1..=60 {
                let until = jiff::Timestamp::from_second(1_800_000_000 + minute * 60 + second).unwrap();
                busy.minutes.add(until, 1.0, Share { busy: 2.0 * secs, steal: 0.0, total: 2.0 });
            }
        }
        assert_eq!(judged(&bare(1), &busy).0, Answer::No, "the second minute read 40 %");
    }

    #[test]
    fn a_set_load_is_each_workers_own_share() {
        assert_eq!(judged(&load(1, 0.5), &outcome(4.81, 5.0, 0.0)).0, Answer::Yes);
        assert_eq!(judged(&load(1, 0.5), &outcome(4.7, 19.9, 0.0)), (Answer::No, Some(false), true));
        let named = Success::of(&load(8, 0.5), &outcome(20.0, 20.0, 0.0), 2, None);
        assert_eq!(named.reason.unwrap(), "8 workers at 50 % need 4.0 CPUs, 2 may be used");
    }

    #[test]
    fn a_target_that_others_exceed_is_reached_unless_it_is_to_be_exact() {
        assert_eq!(judged(&target(0.4), &outcome(3.0, 8.2, 0.0)), (Answer::Yes, None, true));
        let over = Success::of(&target(0.4), &outcome(0.0, 12.0, 0.0), 2, None);
        assert_eq!(over.answer, Answer::Yes);
        assert!(over.note.unwrap().contains("because of others"));
        let exact = Success::of(&Plan { exact: true, ..target(0.4) }, &outcome(0.0, 12.0, 0.0), 2, None);
        assert_eq!((exact.answer, exact.host_reached), (Answer::No, true));
        assert_eq!(exact.reason.unwrap(), "others kept the host above the target (--exact)");
        assert_eq!(judged(&target(0.8), &outcome(12.0, 12.0, 0.0)).0, Answer::No);
    }

    #[test]
    fn the_reason_is_what_explains_most_of_what_is_missing() {
        let reason = |plan: &Plan, outcome: &Outcome| Success::of(plan, outcome, 2, None).reason.unwrap();
        // 5 % asked on a host that others keep at 97 %, 2.7 % stolen.
        assert!(reason(&load(1, 0.05), &outcome(0.1, 19.4, 0.54)).starts_with("others were busier"));
        // Spent credits: hardly anybody else there.
        assert!(reason(&load(1, 1.0), &outcome(1.0, 1.1, 18.0)).contains("withheld 90.0 %"));
        let both = reason(&load(2, 1.0), &outcome(6.0, 13.0, 7.0));
        assert!(both.contains("others were busier") && both.contains("withheld 35.0 %"), "{both}");
        let quota = Outcome { throttled_secs: 7.0, ..outcome(3.0, 3.1, 0.0) };
        assert_eq!(reason(&load(1, 1.0), &quota), "a cgroup quota stopped the workers for 7.0 s");
        let stopped = Outcome { stopped_secs: 5.0, ..outcome(5.0, 19.0, 0.0) };
        assert!(reason(&load(1, 1.0), &stopped).starts_with("the process was stopped for 5.0 s"));
        assert!(reason(&bare(2), &outcome(2.0, 2.0, 18.0)).contains("steal"));
        let one = plan(1, Aim::Target(Curve::constant(0.8)), true);
        assert_eq!(reason(&one, &outcome(10.0, 10.0, 0.0)), "1 worker cannot load 2 CPUs further");
    }
}
