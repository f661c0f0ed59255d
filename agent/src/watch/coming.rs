//! What should happen next: of a fault by the model of drills, of a load by the model of stress. What they take as given
//! and nobody has said is called assumed, on the picture's frame.

use std::time::Duration;

use jiff::Timestamp;

use super::facts::{Facts, Fault, Load};
use super::minutes::{DATAPOINTS, in_a_row, minutes};
use super::model::Model;
use super::rows::{hms, hour_minute};
use crate::drill::analysis::predict::{Failure, Range, Via, predict};
use crate::drill::analysis::report::Source;
use crate::fault::Mode;
use crate::serve::history::{CELL_SECS, History};
use crate::stress::curve::Curve;
use crate::stress::forecast::{self, Alarm, Certainty, Forecast, Period, Question};
use crate::stress::host::Share;
use crate::stress::minutes::Minutes;
use crate::stress::plan::{Aim, Of, Plan, Priority};

/// A client gives up after this.
const DEADLINE: Duration = Duration::from_secs(5);

/// Each thing that should happen, in words.
pub fn coming(model: &Model) -> Vec<String> {
    let Some(facts) = &model.facts else { return Vec::new() };
    let mut coming = Vec::new();
    if let Some(fault) = facts.fault.as_ref().filter(|fault| !fault.overdue) {
        coming.extend(of_fault(model, facts, fault));
    }
    if let Some(pct) = model.asked.alarm_pct {
        coming.extend(match &facts.loads[..] {
            [load] => of_load(model, load, pct),
            _ => of_minutes(model, pct),
        });
    }
    coming
}

fn secs(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

fn of_fault(model: &Model, facts: &Facts, fault: &Fault) -> Vec<String> {
    let (start, end) = (model.now - secs(fault.elapsed_ms), model.now + secs(fault.remaining_ms));
    let mut coming = vec![format!("{} ends {}", fault.mode, hms(end))];
    let (Some((check, sources)), Some(mode)) = (model.asked.check, fault.kind) else { return coming };
    // How late `slow` answers isn't told by the daemon.
    if mode == Mode::Slow {
        return coming;
    }
    let mut check = check;
    if let Some(ms) = facts.expected_ms.filter(|_| sources.interval != Source::Given) {
        check.interval = Duration::from_millis(ms.unsigned_abs());
        if sources.timeout == Source::Assumed {
            check.timeout = DEADLINE.min(check.interval);
        }
    }
    if facts.asked_directly {
        check.via = Via::Agent;
    }
    let lasts = Duration::from_millis(fault.elapsed_ms + fault.remaining_ms);
    let failure = Failure {
        mode,
        lasts: Range::new(lasts, lasts),
        delay: Duration::ZERO,
        deadline: DEADLINE,
        of_health: false,
        targets: None,
        elsewhere: false,
        rps: 1,
    };
    let predicted = predict(&check, &failure);
    match predicted.detection {
        None => coming.push("no probe sees it".to_owned()),
        Some(detection) if predicted.takes_out => {
            let last = start + detection.most.as_secs().cast_signed();
            if last >= model.now {
                coming.push(format!("out of use {}", between(start, detection)));
            }
            coming.push(format!("in use again {}", between(end, predicted.readmission)));
        }
        Some(_) => {}
    }
    coming
}

/// `16:37:21 to :26`.
fn between(from: i64, range: Range) -> String {
    let at = |time: Duration| from + time.as_secs_f64().round() as i64;
    let (least, most) = (at(range.least), at(range.most));
    match (least == most, least.div_euclid(60) == most.div_euclid(60)) {
        (true, _) => hms(least),
        (_, true) => format!("{} to :{:02}", hms(least), most.rem_euclid(60)),
        (_, false) => format!("{} to {}", hms(least), hms(most)),
    }
}

/// What the alarm does while one load runs whose plan is known.
fn of_load(model: &Model, load: &Load, pct: f64) -> Option<String> {
    let plan = Plan {
        workers: load.workers,
        secs: load.remaining_ms.map(|left| Duration::from_millis(load.elapsed_ms + left)),
        aim: match (load.target_pct, load.load_pct) {
            (Some(target), _) => Aim::Target(Curve::constant(target / 100.0)),
            (None, share) => Aim::Load(Curve::constant(share.unwrap_or(100.0) / 100.0)),
        },
        explicit: true,
        exact: false,
        priority: Priority::Idle,
        of: Of::Host,
    };
    let started = model.now - secs(load.elapsed_ms);
    let question = Question {
        host: model.asked.host?,
        load: Some(forecast::Load { plan: &plan, started: started as f64 }),
        period: Period::Minute,
        // An alarm of an hour ago isn't this load's.
        seen: &seen(&model.history, started.div_euclid(60) * 60),
        now: model.now as f64,
        warmup: None,
    };
    let forecast = Forecast::of(&question, &Alarm { target_pct: pct, fleet: 0 });
    let at = |time: &Option<String>| {
        let at = time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        hour_minute(at.map_or(0, Timestamp::as_second))
    };
    Some(match forecast.verdict {
        Certainty::Certain => format!("alarm certain by {}", at(&forecast.fires)),
        Certainty::Possible => format!("alarm possible from {}", at(&forecast.earliest)),
        Certainty::Impossible if forecast.at_most_pct <= pct => {
            format!("no alarm: at most {:.0} %", forecast.at_most_pct)
        }
        Certainty::Impossible => format!("no alarm: {} of {DATAPOINTS} minutes", forecast.certain_in_a_row),
    })
}

/// The history as stress keeps it.
fn seen(history: &History, from: i64) -> Minutes {
    let mut seen = Minutes::default();
    for cell in history.cells.iter().filter(|cell| cell.at >= from) {
        let Ok(end) = Timestamp::from_second(cell.at + CELL_SECS) else { continue };
        let Some(busy) = cell.busy_pct else { continue };
        let steal = f64::from(cell.steal_pct.unwrap_or(0.0));
        seen.add(end, CELL_SECS as f64, Share { busy: f64::from(busy), steal, total: 100.0 });
    }
    seen
}

/// The same where nobody knows what loads the host: if it goes on so.
fn of_minutes(model: &Model, pct: f64) -> Option<String> {
    let all = minutes(&model.history);
    let have = in_a_row(&all, pct);
    let running = all.last().filter(|minute| !minute.whole && f64::from(minute.busy_pct) > pct);
    match (have >= DATAPOINTS, running) {
        (true, _) => Some(format!("alarm: {DATAPOINTS} datapoints above {pct} %")),
        (false, Some(minute)) => {
            let left = i64::try_from(DATAPOINTS - have).unwrap_or(0);
            Some(format!("alarm after {}, if it stays", hour_minute(minute.start + 60 * left)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::analysis::group::Group;
    use crate::drill::analysis::predict::Check;
    use crate::drill::analysis::report::Sources;
    use crate::serve::history::Cell;
    use crate::stress::forecast::Capacity;

    const NOW: i64 = 1_700_000_000 / 60 * 60;

    fn model(facts: Facts) -> Model {
        let mut model = Model { now: NOW, facts: Some(facts), ..Model::default() };
        let given = Source::Given;
        let (second, group) = (Duration::from_secs(1), Group::default());
        let check = Check {
            interval: 5 * second,
            timeout: 2 * second,
            healthy: 3,
            unhealthy: 2,
            via: Via::Nginx,
            group,
        };
        let sources =
            Sources { interval: given, timeout: given, healthy: given, unhealthy: given, routing_min: given };
        model.asked.check = Some((check, sources));
        model.asked.host = Some(Capacity { cpus: 2.0, usable: 2.0 });
        model
    }

    fn fault(kind: Mode) -> Facts {
        let (elapsed_ms, remaining_ms) = (4000, 56_000);
        let fault = Fault {
            mode: kind.name().into(),
            kind: Some(kind),
            elapsed_ms,
            remaining_ms,
            ..Fault::default()
        };
        Facts { fault: Some(fault), ..Facts::default() }
    }

    #[test]
    fn what_follows_from_a_fault_is_what_a_drill_predicts() {
        // Begun at :56, over at :56: two probes of five seconds take it out, three take it in.
        assert_eq!(hms(NOW), "22:13:00");
        let coming_of = |facts| coming(&model(facts));
        assert_eq!(
            coming_of(fault(Mode::Stop)),
            ["stop ends 22:13:56", "out of use 22:13:01 to :06", "in use again 22:14:06 to :11"]
        );
        // A probe that hangs takes its time-out longer.
        assert_eq!(coming_of(fault(Mode::Hang))[1], "out of use 22:13:03 to :08");
        // The agent's own port is left alone by a firewall.
        let direct = Facts { asked_directly: true, ..fault(Mode::Drop) };
        assert_eq!(coming_of(direct), ["drop ends 22:13:56", "no probe sees it"]);
    }

    #[test]
    fn a_measured_interval_counts_unless_another_was_named() {
        let mut model = model(Facts { expected_ms: Some(10_000), ..fault(Mode::Stop) });
        assert_eq!(coming(&model)[1], "out of use 22:13:01 to :06");
        model.asked.check.as_mut().unwrap().1.interval = Source::Assumed;
        assert_eq!(coming(&model)[1], "out of use 22:13:06 to :16");
    }

    #[test]
    fn of_a_load_is_said_what_stress_says_of_it() {
        let load = |load_pct, remaining_ms| {
            let (workers, elapsed_ms) = (1, 60_000);
            let load = Load { workers, load_pct: Some(load_pct), elapsed_ms, remaining_ms, target_pct: None };
            let mut model = model(Facts { loads: vec![load], ..Facts::default() });
            for at in (NOW - 60..NOW).step_by(5) {
                let busy_pct = Some(load_pct as f32 / 2.0);
                model.history.cells.push_back(Cell { at, busy_pct, ..Cell::default() });
            }
            model.asked.alarm_pct = Some(40.0);
            coming(&model)
        };
        assert_eq!(load(100.0, Some(240_000)), ["alarm certain by 22:15"]);
        assert_eq!(load(100.0, Some(30_000)), ["no alarm: 1 of 3 minutes"]);
        assert_eq!(load(50.0, None), ["no alarm: at most 27 %"]);
    }
}
