//! What a run came to, for programs and for people.

use serde::{Deserialize, Serialize};

use super::forecast::Forecast;
use super::minutes::{Bucket, Datapoint, hundredths};
use super::plan::{Aim, Plan};
use super::run::{Ended, Outcome};
use super::success::{Answer, Success};

/// The last JSON line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
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
    /// What the policy's alarm does, where one was named.
    pub alarm: Option<Forecast>,
    /// Seconds for which a cgroup quota stopped the workers, summed over CPUs.
    pub throttled_secs: f64,
    /// Seconds for which the process was stopped (SIGSTOP, Ctrl-Z).
    pub stopped_secs: f64,
    /// Whether its time was over or a signal ended it.
    pub ended: Ending,
    /// Whether its time was over because the alarm was decided (`--until-alarm`).
    pub ended_by_alarm: bool,
    /// What the exit code says of a run that wasn't interrupted.
    pub reached: bool,
    /// Whether each worker had its share, within 2 points; `null` with a target.
    pub worker_reached: Option<bool>,
    /// Whether the host was as busy as was asked for or busier, within 2 points, in each full minute.
    pub host_reached: bool,
    /// Why the load wasn't what was asked for.
    pub reason: Option<String>,
    /// What is worth knowing although it was.
    pub note: Option<String>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Its time.
    Deadline,
    /// SIGINT, SIGTERM or SIGHUP.
    Signal,
}

impl Summary {
    /// Sums up a run.
    pub fn of(plan: &Plan, outcome: &Outcome, success: &Success, alarm: Option<Forecast>) -> Self {
        let elapsed = outcome.elapsed.as_secs_f64();
        let achieved = 100.0 * outcome.worker_secs / elapsed.max(1e-9) / f64::from(plan.workers);
        let requested = hundredths(100.0 * plan.aim.curve().mean(elapsed));
        let (load, target) = match plan.aim {
            Aim::Load(_) => (Some(requested), None),
            Aim::Target(_) => (None, Some(requested)),
        };
        let datapoints =
            |length| outcome.minutes.by(length).iter().map(|b: &Bucket| b.datapoint(length)).collect();
        Self {
            workers: plan.workers,
            elapsed_ms: u64::try_from(outcome.elapsed.as_millis()).unwrap_or(u64::MAX),
            requested_load_pct: load,
            achieved_load_pct: hundredths(achieved),
            requested_target_pct: target,
            host_busy_pct: hundredths(outcome.host.busy_pct()),
            host_steal_pct: hundredths(outcome.host.steal_pct()),
            minutes: datapoints(60),
            five_minutes: datapoints(300),
            alarm,
            throttled_secs: hundredths(outcome.throttled_secs),
            stopped_secs: hundredths(outcome.stopped_secs),
            ended: match outcome.ended {
                Ended::Deadline | Ended::Alarm => Ending::Deadline,
                Ended::Signal(_) => Ending::Signal,
            },
            ended_by_alarm: outcome.ended == Ended::Alarm,
            reached: success.answer == Answer::Yes,
            worker_reached: success.worker_reached,
            host_reached: success.host_reached,
            reason: success.reason.clone(),
            note: success.note.clone(),
        }
    }
}
