//! The chain of causes in a drill of scaling, each link measured beside predicted: the CPU of this host, the datapoints, the
//! alarm, the new instance, its share, the alarm below, and that it goes. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::bounds;
use super::predict::Range;
use super::verdict::{Answer, Verdict, secs, yes};
use crate::stress::forecast::{Certainty, DATAPOINTS, Forecast, PUBLICATION};
use crate::stress::minutes::Datapoint;

/// Datapoints below the target, in a row, after which target tracking lets an instance go: what the alarms show that it makes
/// (15 out of 15; AWS documents that it makes and owns them, not how many they take:
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html>, 2026-11-27).
const DATAPOINTS_BELOW: u32 = 15;
/// How long a controlled load takes to reach its target.
const SETTLES: Duration = Duration::from_secs(15);
/// So far below its target a load counts as there, in points.
const NEAR: f64 = 5.0;

/// One link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Step {
    /// In words.
    pub what: String,
    /// Since the load began; `None`: it isn't to happen, or nothing says when.
    pub predicted: Option<Range>,
    /// Since the load began; `None`: not seen.
    pub measured_ms: Option<f64>,
    /// Whether it is as predicted, where both are known.
    pub answer: Option<Answer>,
}

impl Step {
    /// The prediction in words.
    pub fn predicted_text(&self) -> String {
        self.predicted.as_ref().map_or_else(|| "–".to_owned(), bounds)
    }
}

/// A look at the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Point {
    /// Since the start.
    pub from_ms: f64,
    /// Since the start.
    pub to_ms: f64,
    /// CPUUtilization of this host.
    pub busy_pct: f64,
}

/// What is known of the causes.
#[derive(Debug, Clone)]
pub struct Causes<'a> {
    /// When the load began, by the clock on the wall.
    pub started: Timestamp,
    /// The load's target, in percent.
    pub target_pct: f64,
    /// How long it really lasted.
    pub lasted: Duration,
    /// What the alarm was said to do as the load began; `None` where no alarm is named.
    pub forecast: Option<&'a Forecast>,
    /// From the alarm to the first answer of a new instance, at most.
    pub launch: Duration,
    /// The group's instance warm-up, else its default cooldown.
    ///
    /// "If demand decreases, the intention is to scale in conservatively to protect your application's availability. This blocks
    /// scale-in activities initiated by scaling policies until the instances finish warming up"; without a default instance
    /// warm-up, target tracking policies "use the value set for the default cooldown as the default warmup time" ("Set the
    /// default instance warmup",
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-default-instance-warmup.html>, 2026-11-27).
    pub warmup: Duration,
    /// The looks at the CPU.
    pub curve: &'a [Point],
    /// When the load began, since the start.
    pub load_ms: f64,
    /// The full minutes.
    pub minutes: &'a [Datapoint],
    /// The first answer of a new instance, since the load began.
    pub out_after_ms: Option<f64>,
    /// The last answer of the last new instance, since the load began.
    pub gone_after_ms: Option<f64>,
}

/// The links, and whether they are as predicted; no verdict where nothing was predicted.
pub fn steps(causes: &Causes<'_>) -> (Vec<Step>, Option<Verdict>) {
    let busy = causes.curve.iter().find(|point| point.busy_pct >= causes.target_pct - NEAR);
    let reached = busy.map(|point| (point.to_ms - causes.load_ms).max(0.0));
    let mut all =
        vec![judged("CPU of this host at its target", Some(Range::new(Duration::ZERO, SETTLES)), reached)];
    let Some(forecast) = causes.forecast else {
        all.push(seen("first answer of a new instance", causes.out_after_ms));
        all.push(seen("last answer of a new instance", causes.gone_after_ms));
        return (all, None);
    };
    let since = |time: &Option<String>| {
        let at: Timestamp = time.as_ref()?.parse().ok()?;
        Some(Duration::try_from(at.duration_since(causes.started)).unwrap_or_default())
    };
    let period = Duration::from_secs(forecast.period_secs.unsigned_abs());
    let fires = since(&forecast.fires).or_else(|| since(&forecast.earliest));
    let breached = breached(causes, forecast);
    let may = forecast.verdict != Certainty::Impossible;
    let alarm = fires.filter(|_| may).map(|least| Range::new(least, least + PUBLICATION));
    let datapoints = fires.filter(|_| may).map(|at| Range::new(at.saturating_sub(period), at + period));
    all.push(judged(
        &format!("{DATAPOINTS} datapoints above {:.0} % in a row", forecast.target_pct),
        datapoints,
        breached,
    ));
    let first = alarm.map(|alarm| Range::new(alarm.least, alarm.most + causes.launch));
    all.push(Step {
        what: "the alarm fires (CloudWatch)".to_owned(),
        predicted: alarm,
        measured_ms: None,
        answer: None,
    });
    all.push(judged("first answer of a new instance", first, causes.out_after_ms));
    let below = causes.lasted + period * DATAPOINTS_BELOW;
    let below = first.map(|_| Range::new(below, below + period + PUBLICATION));
    all.push(Step {
        what: "the alarm below fires (CloudWatch)".to_owned(),
        predicted: below,
        measured_ms: None,
        answer: None,
    });
    // An instance that is in service isn't let go before it has warmed up; it is in service between the alarm and its first
    // answer.
    let warm = alarm
        .zip(first)
        .map(|(alarm, first)| Range::new(alarm.least + causes.warmup, first.most + causes.warmup));
    let gone = below.zip(warm).map(|(below, warm)| {
        Range::new(below.least.max(warm.least), below.most.max(warm.most) + causes.launch)
    });
    all.push(judged("last answer of a new instance", gone, causes.gone_after_ms));
    let mut verdict = Verdict::default();
    if !may {
        let held = yes(causes.out_after_ms.is_none());
        verdict.say(
            "alarm",
            held,
            "the alarm can\u{2019}t fire with this load: no new instance was predicted",
        );
    }
    for step in &all {
        let Some(answer) = step.answer else { continue };
        let found = step
            .measured_ms
            .map_or_else(|| "not seen".to_owned(), |ms| secs(Duration::from_secs_f64(ms / 1e3)));
        verdict.say("step", answer, format!("{}: {found}, predicted {}", step.what, step.predicted_text()));
    }
    (all, Some(verdict))
}

/// When the last of enough datapoints above the alarm's need had ended.
fn breached(causes: &Causes<'_>, forecast: &Forecast) -> Option<f64> {
    let mut row = 0;
    for minute in causes.minutes {
        row = if minute.busy_pct > forecast.host_needs_pct && minute.seen_secs > 59.0 { row + 1 } else { 0 };
        if row >= DATAPOINTS {
            let start: Timestamp = minute.start.parse().ok()?;
            let since = start.duration_since(causes.started).as_secs_f64() + 60.0;
            return Some(since * 1e3);
        }
    }
    None
}

fn seen(what: &str, measured_ms: Option<f64>) -> Step {
    Step { what: what.to_owned(), predicted: None, measured_ms, answer: None }
}

fn judged(what: &str, predicted: Option<Range>, measured_ms: Option<f64>) -> Step {
    let answer = match (&predicted, measured_ms) {
        (None, _) => None,
        (Some(_), None) => Some(Answer::No),
        (Some(range), Some(ms)) => {
            let off = Duration::from_secs(5);
            Some(yes(range.holds(Duration::from_secs_f64(ms / 1e3), off, off)))
        }
    };
    Step { what: what.to_owned(), predicted, measured_ms, answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STARTED: &str = "2026-11-27T10:00:30Z";

    fn forecast(verdict: &str, fires: Option<&str>) -> Forecast {
        serde_json::from_value(json!({
            "target_pct": 50.0, "fleet": 1, "host_needs_pct": 60.0, "period_secs": 60, "datapoints_needed": 3,
            "verdict": verdict, "reason": null, "fires": fires, "earliest": fires, "seen_by": fires,
            "certain_in_a_row": 3, "datapoints": [], "at_most_pct": 90.0
        }))
        .unwrap()
    }

    fn minute(start: &str, busy_pct: f64) -> Datapoint {
        let (low_pct, high_pct) = (busy_pct, busy_pct);
        Datapoint { start: start.to_owned(), seen_secs: 60.0, busy_pct, low_pct, high_pct, steal_pct: 0.0 }
    }

    /// A load of ten minutes from 10:00:30 on, with an alarm that fires at 10:04:00.
    fn told(
        forecast: Option<&Forecast>,
        out_secs: Option<f64>,
        gone_secs: Option<f64>,
        warmup: u64,
    ) -> (Vec<Step>, Option<Verdict>) {
        let minutes =
            ["10:01", "10:02", "10:03", "10:04"].map(|at| minute(&format!("2026-11-27T{at}:00Z"), 88.0));
        let curve = [Point { from_ms: 5000.0, to_ms: 15_000.0, busy_pct: 89.0 }];
        steps(&Causes {
            started: STARTED.parse().unwrap(),
            target_pct: 90.0,
            lasted: Duration::from_secs(600),
            forecast,
            launch: Duration::from_secs(120),
            warmup: Duration::from_secs(warmup),
            curve: &curve,
            load_ms: 5000.0,
            minutes: &minutes,
            out_after_ms: out_secs.map(|secs| secs * 1e3),
            gone_after_ms: gone_secs.map(|secs| secs * 1e3),
        })
    }

    #[test]
    fn each_step_is_measured_beside_its_prediction() {
        let forecast = forecast("certain", Some("2026-11-27T10:04:00Z"));
        // The alarm 210 s after the load began, the instance 300 s; the alarm below 15 minutes after the load's end.
        let (steps, verdict) = told(Some(&forecast), Some(300.0), Some(1600.0), 300);
        let answers: Vec<_> = steps.iter().map(|step| step.answer).collect();
        let yes = Some(Answer::Yes);
        assert_eq!(answers, [yes, yes, None, yes, None, yes], "{steps:#?}");
        assert_eq!(steps[0].measured_ms, Some(10_000.0));
        assert_eq!(steps[1].measured_ms, Some(210_000.0), "the third full minute ends at 10:04:00");
        assert_eq!(steps[3].predicted, Some(Range::new(Duration::from_secs(210), Duration::from_secs(450))));
        assert_eq!(verdict.unwrap().answer, Answer::Yes);
    }

    #[test]
    fn what_comes_too_early_or_never_is_a_no() {
        let forecast = forecast("certain", Some("2026-11-27T10:04:00Z"));
        for (out, gone) in
            [(Some(30.0), Some(1600.0)), (None, None), (Some(300.0), None), (Some(300.0), Some(700.0))]
        {
            assert_eq!(
                told(Some(&forecast), out, gone, 300).1.unwrap().answer,
                Answer::No,
                "{out:?} {gone:?}"
            );
        }
    }

    #[test]
    fn nobody_goes_before_having_warmed_up() {
        let forecast = forecast("certain", Some("2026-11-27T10:04:00Z"));
        let gone = |warmup| told(Some(&forecast), Some(300.0), Some(1600.0), warmup).0[5].clone();
        let range = |least, most| Some(Range::new(Duration::from_secs(least), Duration::from_secs(most)));
        assert_eq!(gone(300).predicted, range(1500, 1800));
        // Half an hour from the alarm (210 s) to the first answer (450 s) on.
        assert_eq!((gone(1800).predicted, gone(1800).answer), (range(2010, 2370), Some(Answer::No)));
    }

    #[test]
    fn an_alarm_that_cannot_fire_predicts_nobody() {
        let forecast = forecast("impossible", None);
        assert_eq!(told(Some(&forecast), None, None, 300).1.unwrap().answer, Answer::Yes);
        assert_eq!(told(Some(&forecast), Some(300.0), None, 300).1.unwrap().answer, Answer::No);
        assert_eq!(told(None, Some(300.0), None, 300).1, None, "without an alarm nothing is predicted");
    }
}
