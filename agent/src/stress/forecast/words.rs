//! The forecast for people: one sentence, the same words before, during and after a run.

use jiff::Timestamp;

use super::Question;
use super::period::{DATAPOINTS, Period};
use super::points::points;
use super::verdict::{Certainty, Expected, Forecast, Reason};
use crate::config::Span;

/// What the alarm does, in one sentence.
pub fn sentence(forecast: &Forecast) -> String {
    let period = forecast.period();
    let alarm = format!("Scale-out alarm ({} above {})", period.times(DATAPOINTS as usize), needs(forecast));
    let at = |time: &Option<String>| clock(time.as_deref().unwrap_or_default(), period);
    match forecast.verdict {
        Certainty::Certain => {
            format!(
                "{alarm}: certain by {}, seen by about {} UTC.",
                at(&forecast.fires),
                at(&forecast.seen_by)
            )
        }
        Certainty::Possible => {
            format!("{alarm}: possible, {} UTC at the earliest: {}.", at(&forecast.earliest), why(forecast))
        }
        Certainty::Impossible => format!("{alarm}: impossible: {}.", why(forecast)),
    }
}

fn needs(forecast: &Forecast) -> String {
    let host = forecast.host_needs_pct;
    match forecast.fleet {
        0 => format!("{host:.1} %"),
        1 => format!("{host:.1} % here, beside 1 idle other"),
        n => format!("{host:.1} % here, beside {n} idle others"),
    }
}

fn why(forecast: &Forecast) -> String {
    let period = forecast.period();
    let undecided = forecast.datapoints.iter().find(|point| point.breaches == Certainty::Possible);
    match forecast.reason {
        Some(Reason::NeedsMoreThanOneHost) => {
            "this host alone can't lift the group's average above the target".to_owned()
        }
        Some(Reason::TooLow) => format!("the host reads at most {:.1} %", forecast.at_most_pct),
        Some(Reason::TooShort) => {
            let enough = Span(std::time::Duration::from_secs(period.always_enough_secs().unsigned_abs()));
            format!(
                "{} of {DATAPOINTS} datapoints in a row; --secs {enough} always holds {DATAPOINTS}",
                forecast.certain_in_a_row
            )
        }
        Some(Reason::WarmingUp) => "the instance may still be warming up (--warmup)".to_owned(),
        Some(Reason::SeenInPart) => match undecided {
            Some(point) => reads(point, period),
            None if period == Period::FiveMinutes => one_of_basic().to_owned(),
            None => "what else runs decides".to_owned(),
        },
        Some(Reason::Close) if period == Period::FiveMinutes && undecided.is_none() => {
            one_of_basic().to_owned()
        }
        Some(Reason::Close) | None => match undecided {
            Some(point) => format!("{}: close", reads(point, period)),
            None => "what else runs decides".to_owned(),
        },
    }
}

fn one_of_basic() -> &'static str {
    "with basic monitoring one full datapoint can be enough, three are certain"
}

/// A datapoint's bounds.
fn reads(point: &Expected, period: Period) -> String {
    let at = clock(&point.start, period);
    format!("{at} reads {:.1} to {:.1} %", point.low_pct, point.high_pct)
}

/// A time of the day out of an RFC 3339 time, to the minute, or to the second where datapoints are shorter.
pub fn clock(time: &str, period: Period) -> String {
    let length = if period.secs() % 60 == 0 { 5 } else { 8 };
    time.get(11..11 + length).unwrap_or("").to_owned()
}

/// What CPUUtilization will be, and whether that is long enough for any alarm: for a load of which nobody has named the
/// alarm.
pub fn outlook(question: &Question<'_>) -> Option<String> {
    let load = question.load?;
    let period = question.period;
    let whole: Vec<_> = points(question)
        .filter(|point| point.whole)
        .take_while(|point| load.ends().is_some() || (point.start as f64) < question.now + 3600.0)
        .collect();
    let peak = |secs: f64| load.planned(&question.host, load.started, load.started + secs);
    let part = load.plan.secs.map_or(60.0, |secs| secs.as_secs_f64());
    let level = whole.iter().map(|point| 100.0 * point.low).fold(0.0, f64::max);
    let level = if whole.is_empty() { 100.0 * peak(part) } else { level + 0.5 };
    let reads =
        format!("CPUUtilization: {level:.0} % of this host ({} CPUs) from this load", question.host.cpus);
    if load.plan.secs.is_none() {
        return Some(format!("{reads}."));
    }
    let at = |secs: i64| clock(&Timestamp::from_second(secs).unwrap_or_default().to_string(), period);
    let times = match (whole.first(), whole.last()) {
        (Some(first), Some(last)) if whole.len() > 1 => {
            format!("; {} in full ({} to {} UTC)", period.times(whole.len()), at(first.start), at(last.start))
        }
        (Some(only), _) => format!("; {} in full ({} UTC)", period.times(1), at(only.start)),
        _ => format!("; not {} in full", period.times(1)),
    };
    let enough = Span(std::time::Duration::from_secs(period.always_enough_secs().unsigned_abs()));
    let alarm = if whole.len() < DATAPOINTS as usize {
        format!("; a scale-out alarm takes {DATAPOINTS}: --secs {enough} always holds them")
    } else {
        String::new()
    };
    Some(format!("{reads}{times}{alarm}."))
}

/// What an alarm is like that isn't documented: for `--explain`.
pub fn background(period: Period) -> Vec<String> {
    let mut lines = vec![match period {
        Period::Minute => "Three one-minute datapoints, and so at least 240 s whenever it begins, is what target tracking's \
             alarms show at standard resolution with detailed monitoring; AWS doesn't document it."
            .to_owned(),
        Period::FiveMinutes => "Basic monitoring: datapoints of five minutes, which an alarm that looks every minute mostly \
             misses. Documented: with missing data treated as missing, \"- - X - -\" is ALARM for 3 of 3. Inferred: that \
             target tracking's alarms look so; then one full datapoint above is enough. \
             Assumed: that they begin at the clock's five minutes; a run of 20 minutes holds 3 wherever they begin."
            .to_owned(),
        _ => format!(
            "High resolution (ASGAverageCPUUtilizationHighResolution, launch templates' Monitoring.MetricCategoryIds): \
             datapoints of {} s. That the alarm takes 3 of them is inferred from standard resolution, not documented; the \
             240 s of standard resolution don't apply.",
            period.secs()
        ),
    }];
    lines
        .push("A datapoint may take some two minutes to appear in CloudWatch (seen in practice).".to_owned());
    lines.push(
        "Scale-in takes 15 datapoints of a minute below the scale-in threshold: in most labs 0.7 x the target, 0.9 x \
         occurs; AWS documents neither."
            .to_owned(),
    );
    lines
}
