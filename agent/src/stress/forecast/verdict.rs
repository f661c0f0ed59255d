//! From the bounds of the datapoints to what the alarm does.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::missing::{self, EVALUATION_RANGE, State};
use super::period::{DATAPOINTS, PUBLICATION};
use super::points::{Point, level, points};
use super::{Alarm, Period, Question};
use crate::stress::minutes::hundredths;
use crate::sys::clock::rfc3339;

/// How sure something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// It won't be, unless others load the host more than they do.
    Impossible,
    /// It depends on what nobody has seen.
    Possible,
    /// Whatever else there was or will be, as long as the load goes as planned.
    Certain,
}

/// Why the alarm is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A host can't read more than 100 %.
    NeedsMoreThanOneHost,
    /// The load doesn't make the host busy enough.
    TooLow,
    /// Busy enough, but not for as many datapoints.
    TooShort,
    /// Datapoints were seen or will be in part only.
    SeenInPart,
    /// It is at the edge: what else runs decides.
    Close,
    /// The metrics of a fresh instance don't count yet.
    WarmingUp,
}

/// A datapoint as programs read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Expected {
    /// Its first second, RFC 3339.
    pub start: String,
    /// CPUUtilization is at least this, in percent,
    pub low_pct: f64,
    /// and at most this.
    pub high_pct: f64,
    /// Seconds of it that were seen.
    pub seen_secs: f64,
    /// Whether it is above what this host must exceed.
    pub breaches: Certainty,
}

/// What the alarm does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Forecast {
    /// The policy's target, in percent.
    pub target_pct: f64,
    /// Idle others in the group.
    pub fleet: u32,
    /// What this host must exceed, in percent.
    pub host_needs_pct: f64,
    /// How long a datapoint is.
    pub period_secs: i64,
    /// How many the alarm takes, in a row.
    pub datapoints_needed: u32,
    /// Whether it fires.
    pub verdict: Certainty,
    /// Why it isn't certain.
    pub reason: Option<Reason>,
    /// When the last datapoint that makes it certain is complete, RFC 3339; `null` when it isn't certain.
    pub fires: Option<String>,
    /// The same for possible datapoints: not earlier than this.
    pub earliest: Option<String>,
    /// `fires` and the time until CloudWatch has the datapoint.
    pub seen_by: Option<String>,
    /// The most that are certain in a row.
    pub certain_in_a_row: u32,
    /// The datapoints that decide it.
    pub datapoints: Vec<Expected>,
    /// The highest that a whole datapoint would read, in percent.
    pub at_most_pct: f64,
}

/// A look at the datapoints one after the other.
#[derive(Debug, Default)]
struct Scan {
    /// How many were certain or possible in a row until here.
    certain: u32,
    possible: u32,
    most_certain: u32,
    /// The last datapoints of the first run of each.
    fires: Option<Vec<Point>>,
    earliest: Option<Vec<Point>>,
    recent: Vec<Point>,
    next: i64,
    /// Whether the earliest is one that is surely above.
    sure: bool,
    warming: bool,
    part: bool,
    any: Vec<Point>,
}

impl Forecast {
    /// Answers `question` for `alarm`.
    pub fn of(question: &Question<'_>, alarm: &Alarm) -> Self {
        let needs = alarm.host_needs_pct();
        let period = question.period;
        let level = level(question);
        let mut scan = Scan::default();
        for point in points(question) {
            scan.look(counted(point, question), needs / 100.0, period);
            if scan.fires.is_some() {
                break;
            }
        }
        let verdict = match (&scan.fires, &scan.earliest) {
            (Some(_), _) => Certainty::Certain,
            (None, Some(_)) => Certainty::Possible,
            (None, None) => Certainty::Impossible,
        };
        let end = |points: &Option<Vec<Point>>| {
            points.as_ref().and_then(|p| p.last()).map(|p| p.start + period.secs())
        };
        let fires = end(&scan.fires);
        let deciding = scan.fires.as_ref().or(scan.earliest.as_ref()).unwrap_or(&scan.any);
        Self {
            target_pct: alarm.target_pct,
            fleet: alarm.fleet,
            host_needs_pct: hundredths(needs),
            period_secs: period.secs(),
            datapoints_needed: DATAPOINTS,
            verdict,
            reason: scan.reason(verdict, needs, level),
            fires: fires.map(time),
            earliest: end(&scan.earliest).or(fires).map(time),
            seen_by: fires.map(|at| time(at + PUBLICATION.as_secs().cast_signed())),
            certain_in_a_row: scan.most_certain,
            datapoints: deciding.iter().map(|point| expected(point, needs / 100.0)).collect(),
            at_most_pct: hundredths(100.0 * level),
        }
    }

    /// How long a datapoint is.
    pub fn period(&self) -> Period {
        let length = std::time::Duration::from_secs(self.period_secs.unsigned_abs());
        Period::of(length).unwrap_or_default()
    }
}

/// A datapoint that begins before the end of the warm-up isn't in the group's average, or maybe not.
fn counted(point: Point, question: &Question<'_>) -> (Point, bool) {
    match question.warmup {
        Some(warmup) if (point.start as f64) < warmup.until => {
            let high = if warmup.named { 0.0 } else { point.high };
            (Point { low: 0.0, high, ..point }, true)
        }
        _ => (point, false),
    }
}

impl Scan {
    fn look(&mut self, (point, warming): (Point, bool), needs: f64, period: Period) {
        if point.start != self.next {
            (self.certain, self.possible) = (0, 0);
        }
        self.next = point.start + period.secs();
        self.certain = if point.low > needs { self.certain + 1 } else { 0 };
        self.possible = if point.high > needs { self.possible + 1 } else { 0 };
        self.most_certain = self.most_certain.max(self.certain);
        self.warming |= warming;
        self.part |= !point.whole && point.high > needs;
        self.recent.push(point);
        if self.recent.len() > DATAPOINTS as usize {
            self.recent.remove(0);
        }
        if self.any.len() < DATAPOINTS as usize + 1 {
            self.any.push(point);
        }
        if self.certain >= DATAPOINTS {
            self.fires = Some(self.recent.clone());
        }
        if enough_if_missing(period) < DATAPOINTS {
            // One is enough, but not one of which hardly anything is known; and one that is surely above says most.
            let sure = point.low > needs;
            let maybe = self.earliest.is_none() && point.whole && point.high > needs;
            if sure && !self.sure || maybe {
                self.sure |= sure;
                self.earliest = Some(vec![point]);
            }
        }
        if self.earliest.is_none() && self.possible >= DATAPOINTS {
            self.earliest = Some(self.recent.clone());
        }
    }

    fn reason(&self, verdict: Certainty, needs: f64, level: f64) -> Option<Reason> {
        match verdict {
            Certainty::Certain => None,
            Certainty::Impossible if needs >= 100.0 => Some(Reason::NeedsMoreThanOneHost),
            Certainty::Impossible if level * 100.0 <= needs => Some(Reason::TooLow),
            _ if self.warming => Some(Reason::WarmingUp),
            Certainty::Impossible => Some(Reason::TooShort),
            Certainty::Possible if self.part => Some(Reason::SeenInPart),
            Certainty::Possible => Some(Reason::Close),
        }
    }
}

/// How many breaching datapoints in a row may be enough. With basic monitoring the alarm looks at minutes (inferred: AWS
/// documents no other period for `ASGAverageCPUUtilization`), four of five of which are missing: by the documented rules
/// for missing data one datapoint makes ALARM once it is three minutes old.
fn enough_if_missing(period: Period) -> u32 {
    let every = usize::try_from(period.secs() / 60).unwrap_or(0).max(1);
    let fires_after = |breaching: usize| {
        // Minute by minute until the next datapoint would be there.
        (0..every).any(|minutes_later| {
            let point = |age: usize| {
                let since = age.checked_sub(minutes_later)?;
                since.is_multiple_of(every).then_some(since / every < breaching)
            };
            let range: Vec<Option<bool>> = (0..EVALUATION_RANGE).rev().map(point).collect();
            missing::evaluate(&range, DATAPOINTS as usize) == State::Alarm
        })
    };
    (1..=DATAPOINTS).find(|n| fires_after(*n as usize)).unwrap_or(DATAPOINTS)
}

fn expected(point: &Point, needs: f64) -> Expected {
    let breaches = match () {
        () if point.low > needs => Certainty::Certain,
        () if point.high > needs => Certainty::Possible,
        () => Certainty::Impossible,
    };
    Expected {
        start: time(point.start),
        low_pct: hundredths(100.0 * point.low),
        high_pct: hundredths(100.0 * point.high),
        seen_secs: hundredths(point.seen_secs),
        breaches,
    }
}

fn time(secs: i64) -> String {
    Timestamp::from_second(secs).map(rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_datapoint_of_basic_monitoring_may_be_enough_and_three_of_a_minute_are_needed() {
        assert_eq!(enough_if_missing(Period::FiveMinutes), 1);
        for period in [Period::Ten, Period::Twenty, Period::Thirty, Period::Minute] {
            assert_eq!(enough_if_missing(period), 3);
        }
    }
}
