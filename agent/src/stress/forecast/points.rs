//! Between what bounds each datapoint will lie: what was seen of it, what is planned for it, and what nobody knows.

use super::{Capacity, Load, Question};
use crate::stress::minutes::{Bucket, Minutes};
use crate::stress::plan::Aim;

/// How far below its plan a load may fall and still be as planned, as a share of the host.
const BELOW: f64 = 0.005;
/// What else runs on a host that is called idle, as a share of it.
const BACKGROUND: f64 = 0.02;
/// From so many recent seconds is told how the load goes,
const RECENT: f64 = 60.0;
/// and not from fewer than these.
const ENOUGH: f64 = 5.0;
/// A load without an end has shown all that it is within this time after its curve.
const HORIZON_PERIODS: i64 = 16;

/// The bounds of one datapoint, as shares of the host from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Its first second, since the epoch.
    pub start: i64,
    /// It reads at least this,
    pub low: f64,
    /// and at most this.
    pub high: f64,
    /// How many of its seconds were seen.
    pub seen_secs: f64,
    /// Whether the whole of it was seen or is planned for: nothing in it is unknown.
    pub whole: bool,
}

/// How the load has gone of late, against its plan.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Course {
    /// What part of its plan the host has shown, at most 1.
    kept: f64,
    /// What others have added, as a share of the host.
    others: f64,
}

/// The datapoints that were seen or are planned for, one after the other.
pub fn points(question: &Question<'_>) -> impl Iterator<Item = Point> {
    let length = question.period.secs();
    let seen = question.seen.by(length);
    let now = question.now;
    let load = question.load;
    let first_seen = seen.first().map(|bucket| bucket.start);
    let begins = load.map(|load| floor(load.started, length));
    let first = [first_seen, begins].into_iter().flatten().min();
    let last_seen = seen.last().map(|bucket| bucket.start + length);
    let ends = load.map(|load| match load.ends() {
        Some(end) => ceil(end, length),
        None => {
            ceil(now.max(load.started + load.plan.aim.curve().end().as_secs_f64()), length)
                + HORIZON_PERIODS * length
        }
    });
    let last = [last_seen, ends].into_iter().flatten().max();
    let course = load.map(|load| course(&load, &question.host, question.seen));
    let host = question.host;
    let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
    let periods = usize::try_from((last - first) / length).unwrap_or(0);
    (0..periods).map(move |number| {
        let start = first + length * i64::try_from(number).unwrap_or(0);
        let place = seen.binary_search_by_key(&start, |bucket| bucket.start).ok();
        let bucket = place.and_then(|place| seen.get(place));
        let future = load.zip(course);
        point(start, length as f64, bucket, future.map(|(load, course)| (load, course, host)), now)
    })
}

fn point(
    start: i64,
    length: f64,
    seen: Option<&Bucket>,
    future: Option<(Load<'_>, Course, Capacity)>,
    now: f64,
) -> Point {
    // A clock that was set back fills a minute twice: its share counts, not its sum.
    let seen_secs = seen.map_or(0.0, |bucket| bucket.secs.min(length));
    let busy = seen.map_or(0.0, |bucket| seen_secs * bucket.share.busy_pct() / 100.0);
    let (mut low, mut high, mut planned) = (busy, busy, 0.0);
    if let Some((load, course, host)) = future {
        let from = (start as f64).max(now).max(load.started);
        let until = (start as f64 + length).min(load.ends().unwrap_or(f64::MAX));
        planned = (until - from).clamp(0.0, length - seen_secs);
        if planned > 0.0 {
            let (least, most) = bounds(&load, &host, course, from, until);
            low += planned * least;
            high += planned * most;
        }
    }
    let unknown = (length - seen_secs - planned).max(0.0);
    let of = |secs: f64| (secs / length).clamp(0.0, 1.0);
    Point { start, low: of(low), high: of(high + unknown), seen_secs, whole: unknown <= length / 60.0 }
}

/// What the host will read between two moments of the load, at least and at most.
fn bounds(load: &Load<'_>, host: &Capacity, course: Course, from: f64, until: f64) -> (f64, f64) {
    let own = load.planned(host, from, until);
    let others = course.others + BACKGROUND;
    let least = (own * course.kept - BELOW).max(0.0);
    let most = match load.plan.aim {
        Aim::Load(_) => own + others,
        // It only adds what is missing to the target.
        Aim::Target(_) => {
            let asked = load.asked(from, until);
            (own + others).min(asked).max(others).max(own + BELOW)
        }
    };
    (least, most.min(1.0))
}

/// How the load has gone in the last minute, as far as it was seen.
fn course(load: &Load<'_>, host: &Capacity, seen: &Minutes) -> Course {
    let (mut secs, mut busy, mut planned) = (0.0, 0.0, 0.0);
    for slot in seen.slots().rev().filter(|slot| slot.secs >= 1.0) {
        let (from, until) = ((slot.start as f64).max(load.started), slot.start as f64 + slot.secs);
        if secs >= RECENT || until <= load.started {
            break;
        }
        secs += slot.secs;
        busy += slot.secs * slot.share.busy_pct() / 100.0;
        planned += slot.secs * load.planned(host, from, until.max(from + 0.001));
    }
    if secs < ENOUGH {
        return Course { kept: 1.0, others: 0.0 };
    }
    let kept = if planned > 0.0 { (busy / planned).min(1.0) } else { 1.0 };
    let kept = if kept > 0.98 { 1.0 } else { kept };
    let others = match load.plan.aim {
        Aim::Load(_) => ((busy - planned) / secs).max(0.0),
        Aim::Target(_) if busy > planned * 1.02 => busy / secs,
        Aim::Target(_) => 0.0,
    };
    Course { kept, others }
}

/// The highest that a whole datapoint would read, as a share: of what is planned and of what was seen.
pub fn level(question: &Question<'_>) -> f64 {
    let seen = question.seen.by(question.period.secs());
    let seen = seen.iter().map(|bucket| bucket.share.busy_pct() / 100.0).fold(0.0, f64::max);
    let planned = question.load.filter(|load| load.ends().is_none_or(|end| end > question.now)).map(|load| {
        let host = &question.host;
        let course = course(&load, host, question.seen);
        let (workers, peak) = (f64::from(load.plan.workers), load.plan.aim.curve().peak());
        let reach = host.usable.min(workers) / host.cpus;
        let others = course.others + BACKGROUND;
        match load.plan.aim {
            Aim::Load(_) => (peak * workers / host.cpus).min(reach) + others,
            Aim::Target(_) => (reach + others).min(peak).max(others),
        }
    });
    seen.max(planned.unwrap_or(0.0)).min(1.0)
}

fn floor(at: f64, length: i64) -> i64 {
    (at / length as f64).floor() as i64 * length
}

fn ceil(at: f64, length: i64) -> i64 {
    (at / length as f64).ceil() as i64 * length
}
