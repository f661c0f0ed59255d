//! The model against AWS's rules and against the cases in which earlier models were wrong.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::words::{outlook, sentence};
use super::*;
use crate::stress::curve::Curve;
use crate::stress::host::Share;
use crate::stress::plan::{Of, Priority};

/// A full minute of the clock: 08:00.
const MINUTE: f64 = 1_800_000_000.0;

fn plan(workers: u32, secs: u64, aim: Aim) -> Plan {
    let secs = (secs > 0).then(|| Duration::from_secs(secs));
    Plan { workers, secs, aim, explicit: true, exact: false, priority: Priority::Idle, of: Of::Host }
}

fn full() -> Aim {
    Aim::Load(Curve::constant(1.0))
}

fn seen(from: f64, secs: usize, busy: f64) -> Minutes {
    let mut minutes = Minutes::default();
    see(&mut minutes, from, secs, busy);
    minutes
}

fn see(minutes: &mut Minutes, from: f64, secs: usize, busy: f64) {
    for second in 1..=secs {
        let until = Timestamp::from_millisecond(((from + second as f64) * 1000.0) as i64).unwrap();
        minutes.add(until, 1.0, Share { busy: 2.0 * busy, steal: 0.0, total: 2.0 });
    }
}

const TWO: Capacity = Capacity { cpus: 2.0, usable: 2.0 };

struct Case<'a> {
    plan: Option<&'a Plan>,
    started: f64,
    now: f64,
    seen: &'a Minutes,
    period: Period,
    host: Capacity,
    warmup: Option<Warmup>,
}

impl Case<'_> {
    fn ask(&self, target_pct: f64, fleet: u32) -> Forecast {
        Forecast::of(&self.question(), &Alarm { target_pct, fleet })
    }

    fn question(&self) -> Question<'_> {
        let load = self.plan.map(|plan| Load { plan, started: self.started });
        let Self { now, seen, period, host, warmup, .. } = *self;
        Question { host, load, period, seen, now, warmup }
    }
}

/// Before a run that begins at `started`.
fn before<'a>(plan: &'a Plan, started: f64, none: &'a Minutes) -> Case<'a> {
    Case {
        plan: Some(plan),
        started,
        now: started,
        seen: none,
        period: Period::Minute,
        host: TWO,
        warmup: None,
    }
}

fn verdict(plan: &Plan, started: f64, target_pct: f64) -> (Certainty, Option<Reason>) {
    let forecast = before(plan, started, &Minutes::default()).ask(target_pct, 0);
    (forecast.verdict, forecast.reason)
}

use Certainty::{Certain, Impossible, Possible};

#[test]
fn minutes_that_are_filled_in_part_count_where_that_part_is_enough() {
    // 52 s, 60 s, 60 s and 3 s: at least 86.7, 100 and 100 %.
    let run = plan(2, 175, full());
    let forecast = before(&run, MINUTE + 8.0, &Minutes::default()).ask(45.0, 0);
    assert_eq!(forecast.verdict, Certain);
    assert_eq!(forecast.fires.as_deref(), Some("2027-01-15T08:03:00.000Z"));
    assert_eq!(forecast.seen_by.as_deref(), Some("2027-01-15T08:05:00.000Z"));
    assert!((86.0..87.0).contains(&forecast.datapoints[0].low_pct), "{forecast:?}");
    assert_eq!(verdict(&run, MINUTE + 8.0, 90.0).0, Possible, "the first reads 86.7 to 100 %");
    assert_eq!(verdict(&run, MINUTE + 20.0, 60.0).0, Certain, "40 s, 60 s, 60 s and 15 s");
}

#[test]
fn a_target_out_of_reach_is_what_the_workers_can() {
    let run = plan(1, 900, Aim::Target(Curve::constant(0.8)));
    assert_eq!(verdict(&run, MINUTE, 70.0), (Impossible, Some(Reason::TooLow)));
    assert_eq!(verdict(&run, MINUTE, 45.0), (Certain, None));
    let two = plan(2, 900, Aim::Target(Curve::constant(0.8)));
    assert_eq!(verdict(&two, MINUTE, 70.0), (Certain, None));
    assert_eq!(verdict(&two, MINUTE, 85.0), (Impossible, Some(Reason::TooLow)));
}

#[test]
fn a_quota_and_a_cpuset_bound_what_the_workers_can() {
    let (run, none) = (plan(2, 900, full()), Minutes::default());
    let with = |usable: f64| {
        let host = Capacity { cpus: 2.0, usable };
        Case { host, ..before(&run, MINUTE, &none) }.ask(40.0, 0).verdict
    };
    assert_eq!((with(2.0), with(1.0), with(0.5)), (Certain, Certain, Impossible));
}

#[test]
fn a_load_at_the_edge_is_possible_and_not_more() {
    let one = plan(1, 900, full());
    assert_eq!(verdict(&one, MINUTE, 50.0), (Possible, Some(Reason::Close)));
    assert_eq!(verdict(&one, MINUTE, 53.0), (Impossible, Some(Reason::TooLow)));
    assert_eq!(verdict(&one, MINUTE, 49.0), (Certain, None));
}

#[test]
fn idle_others_raise_what_this_host_must_reach() {
    let (run, none) = (plan(2, 900, full()), Minutes::default());
    let case = before(&run, MINUTE, &none);
    let fleet = |target: f64, n: u32| (case.ask(target, n).verdict, case.ask(target, n).host_needs_pct);
    assert_eq!(fleet(30.0, 2), (Certain, 90.0));
    assert_eq!(fleet(50.0, 1), (Impossible, 100.0));
    assert_eq!(case.ask(50.0, 1).reason, Some(Reason::NeedsMoreThanOneHost));
}

#[test]
fn a_ramp_and_a_profile_fire_when_their_minutes_are_high_enough() {
    let ramp = plan(2, 1200, Aim::Target(Curve::ramp(0.8, Duration::from_secs(300))));
    let forecast = before(&ramp, MINUTE + 30.0, &Minutes::default()).ask(50.0, 0);
    // 50 % of the ramp is passed 187 s after its start: the minute from 08:04 on is above.
    assert_eq!(forecast.fires.as_deref(), Some("2027-01-15T08:07:00.000Z"), "{forecast:?}");
    let profile = plan(2, 600, Aim::Load(Curve::parse("0 0\n300 0\n300 90\n600 90").unwrap()));
    let forecast = before(&profile, MINUTE, &Minutes::default()).ask(50.0, 0);
    assert_eq!(forecast.fires.as_deref(), Some("2027-01-15T08:08:00.000Z"));
}

#[test]
fn a_run_without_an_end_is_forecast_past_its_ramp() {
    let run = plan(2, 0, Aim::Load(Curve::ramp(1.0, Duration::from_secs(7200))));
    let forecast = before(&run, MINUTE, &Minutes::default()).ask(99.0, 0);
    assert_eq!(forecast.verdict, Certain, "{forecast:?}");
}

#[test]
fn what_others_do_is_seen_and_makes_an_alarm_possible_then_certain() {
    let (run, started) = (plan(1, 900, Aim::Load(Curve::constant(0.1))), MINUTE);
    let at = |secs: usize| {
        let seen = seen(started, secs, 0.9);
        Case { now: started + secs as f64, ..before(&run, started, &seen) }.ask(70.0, 0).verdict
    };
    assert_eq!([at(0), at(20), at(130), at(170)], [Impossible, Possible, Possible, Certain]);
}

#[test]
fn a_load_that_falls_behind_its_plan_is_no_longer_certain() {
    let (run, started) = (plan(2, 900, full()), MINUTE);
    let spent = seen(started, 30, 0.1);
    let case = Case { now: started + 30.0, ..before(&run, started, &spent) };
    assert_eq!(case.ask(50.0, 0).verdict, Possible, "as planned it would be");
    assert_eq!(before(&run, started, &Minutes::default()).ask(50.0, 0).verdict, Certain);
}

#[test]
fn after_the_run_only_what_was_seen_counts() {
    let over = |secs: usize, target: f64| {
        let seen = seen(MINUTE + 8.0, secs, 0.999);
        let case = Case {
            plan: None,
            started: 0.0,
            now: MINUTE + 8.0 + secs as f64,
            seen: &seen,
            period: Period::Minute,
            host: TWO,
            warmup: None,
        };
        (case.ask(target, 0).verdict, case.ask(target, 0).certain_in_a_row)
    };
    assert_eq!(over(175, 45.0), (Certain, 3));
    assert_eq!(over(120, 45.0), (Possible, 2), "the third minute was seen for 8 s");
    assert_eq!(over(60, 45.0), (Impossible, 1));
}

#[test]
fn a_gap_breaks_the_row() {
    let mut minutes = seen(MINUTE, 120, 1.0);
    see(&mut minutes, MINUTE + 240.0, 60, 1.0);
    let case = Case {
        plan: None,
        started: 0.0,
        now: MINUTE + 300.0,
        seen: &minutes,
        period: Period::Minute,
        host: TWO,
        warmup: None,
    };
    // The minutes between were not seen at all: they may have been busy.
    assert_eq!((case.ask(50.0, 0).verdict, case.ask(50.0, 0).certain_in_a_row), (Possible, 2));
}

#[test]
fn high_resolution_needs_three_short_datapoints_and_basic_monitoring_maybe_one() {
    let none = Minutes::default();
    let with = |secs: u64, period: Period| {
        let run = plan(2, secs, full());
        let forecast = Case { period, ..before(&run, MINUTE, &none) }.ask(50.0, 0);
        (forecast.verdict, forecast.fires.map(|at| at[11..19].to_owned()))
    };
    assert_eq!(with(30, Period::Ten), (Certain, Some("08:00:30".into())));
    assert_eq!(with(60, Period::Twenty), (Certain, Some("08:01:00".into())));
    assert_eq!(with(60, Period::Thirty).0, Impossible);
    assert_eq!(with(2, Period::FiveMinutes).0, Impossible, "hardly anything of its datapoint is known");
    assert_eq!(with(200, Period::FiveMinutes).0, Possible, "200 s at 100 % are at least 66.7 %");
    assert_eq!(with(300, Period::FiveMinutes).0, Possible);
    assert_eq!(with(900, Period::FiveMinutes), (Certain, Some("08:15:00".into())));
    // Begun in the middle of five minutes, which it fills in part.
    let run = plan(2, 600, full());
    let case = Case { period: Period::FiveMinutes, ..before(&run, MINUTE + 100.0, &none) };
    let said = sentence(&case.ask(50.0, 0));
    assert!(
        said.contains("one full datapoint can be enough") || case.ask(50.0, 0).verdict == Certain,
        "{said}"
    );
    let said = sentence(&case.ask(70.0, 0));
    assert!(said.contains("08:10 UTC at the earliest: with basic monitoring one full"), "{said}");
    let run = plan(2, 300, full());
    let said = sentence(&Case { period: Period::FiveMinutes, ..before(&run, MINUTE, &none) }.ask(50.0, 0));
    assert!(said.contains("one full datapoint can be enough"), "{said}");
}

#[test]
fn a_fresh_instance_does_not_count_until_its_warm_up_is_over() {
    let (run, none) = (plan(2, 240, full()), Minutes::default());
    let with = |until: f64, named: bool| {
        let warmup = Some(Warmup { until: MINUTE + until, named });
        let forecast = Case { warmup, ..before(&run, MINUTE, &none) }.ask(50.0, 0);
        (forecast.verdict, forecast.reason)
    };
    assert_eq!(with(60.0, true), (Certain, None));
    assert_eq!(with(120.0, true), (Impossible, Some(Reason::WarmingUp)));
    assert_eq!(with(120.0, false), (Possible, Some(Reason::WarmingUp)));
}

#[test]
fn the_sentence_says_when_or_why_not() {
    let none = Minutes::default();
    let say = |run: &Plan, target: f64, fleet: u32| sentence(&before(run, MINUTE, &none).ask(target, fleet));
    assert_eq!(
        say(&plan(2, 300, full()), 30.0, 2),
        "Scale-out alarm (3 minutes above 90.0 % here, beside 2 idle others): certain by 08:03, seen by about \
         08:05 UTC."
    );
    assert_eq!(
        say(&plan(1, 300, full()), 70.0, 0),
        "Scale-out alarm (3 minutes above 70.0 %): impossible: the host reads at most 52.0 %."
    );
    assert_eq!(
        say(&plan(2, 60, full()), 70.0, 0),
        "Scale-out alarm (3 minutes above 70.0 %): impossible: 1 of 3 datapoints in a row; --secs 4m always \
         holds 3."
    );
    let short = plan(2, 60, full());
    let said = outlook(&before(&short, MINUTE + 30.0, &none).question()).unwrap();
    assert!(said.contains("100 % of this host") && said.contains("not 1 minute in full"), "{said}");
    assert!(said.contains("--secs 4m always holds"), "{said}");
}

proptest! {
    /// On a host where nothing else runs: what is called impossible doesn't fire, and what fires was not.
    #[test]
    fn an_impossible_alarm_does_not_fire_on_a_quiet_host(
        offset in 0_u32..60, secs in 1_u64..600, workers in 1_u32..4, share in 0.05..1.0_f64, target in 1.0..99.0_f64,
    ) {
        let run = plan(workers, secs, Aim::Load(Curve::constant(share)));
        let started = MINUTE + f64::from(offset);
        let load = Load { plan: &run, started };
        let busy = |at: f64| if at >= started && at < started + secs as f64 { load.planned(&TWO, at, at + 1.0) } else { 0.0 };
        let reads: Vec<f64> =
            (0..12).map(|m| (0..60).map(|s| busy(MINUTE + f64::from(m * 60 + s))).sum::<f64>() / 60.0).collect();
        let fires = reads.windows(3).any(|three| three.iter().all(|read| 100.0 * read > target));
        let forecast = before(&run, started, &Minutes::default()).ask(target, 0);
        prop_assert!(!fires || forecast.verdict != Impossible, "{forecast:?} {reads:?}");
        prop_assert!(fires || forecast.verdict != Certain, "{forecast:?} {reads:?}");
    }

    /// Whatever else the host does: a certain alarm has fired in the end, and one that fires was not called impossible
    /// for as long as others do what they were seen to do.
    #[test]
    fn a_certain_alarm_fires_whatever_else_there_is(
        offset in 0_u32..60, secs in 1_u64..600, workers in 1_u32..4, share in 0.05..1.0_f64,
        target in 1.0..99.0_f64, noise in proptest::collection::vec(0.0..1.0_f64, 12),
        looked in 0.0..1.0_f64,
    ) {
        let run = plan(workers, secs, Aim::Load(Curve::constant(share)));
        let started = MINUTE + f64::from(offset);
        let load = Load { plan: &run, started };
        // What really happens: the load, and others on top who change every minute.
        let busy = |at: f64| {
            let others = noise[(((at - MINUTE) / 60.0).floor() as usize).min(11)];
            let own = if at >= started && at < started + secs as f64 { load.planned(&TWO, at, at + 1.0) } else { 0.0 };
            (own + others * (1.0 - own)).min(1.0)
        };
        let mut minutes = Minutes::default();
        let until = (secs as f64 * looked).floor() as usize;
        for second in 0..until {
            see(&mut minutes, started + second as f64, 1, busy(started + second as f64));
        }
        let case = Case { now: started + until as f64, ..before(&run, started, &minutes) };
        let forecast = case.ask(target, 0);
        let reads: Vec<f64> =
            (0..12).map(|m| (0..60).map(|s| busy(MINUTE + f64::from(m * 60 + s))).sum::<f64>() / 60.0).collect();
        let fires = reads.windows(3).any(|three| three.iter().all(|read| 100.0 * read > target));
        if forecast.verdict == Certain {
            prop_assert!(fires, "{forecast:?} {reads:?}");
        }
        for point in &forecast.datapoints {
            prop_assert!(point.low_pct <= point.high_pct + 1e-9);
        }
    }
}
