//! What is said before a run: a headline, what is worth knowing, and with `--explain` everything. Pure.

use std::time::Duration;

use super::events::Opening;
use super::forecast::words::{background, clock, outlook, sentence};
use super::forecast::{Alarm, Forecast, Load, Question, Reason, USUAL_WARMUP};
use super::hints::baseline_pct;
use super::minutes::hundredths;
use super::plan::{Aim, Plan};
use crate::config::Span;
use crate::sys::cgroup::Quota;

/// So many rows at 80 columns are all that a run begins with.
const MOST_ROWS: usize = 4;

/// What it is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the model is asked: the load, the host, what was seen.
    pub question: Question<'a>,
    /// What will be done.
    pub plan: &'a Plan,
    /// The policy's alarm.
    pub alarm: Option<Alarm>,
    /// Whether the run ends once that is certain.
    pub until_alarm: bool,
    /// CPUs that we may use.
    pub allowed: u32,
    /// The quota that binds us.
    pub quota: Option<&'a Quota>,
    /// How the workers yield.
    pub manners: &'a str,
    /// How long the host is up.
    pub uptime: Duration,
    /// The instance's type, once it was asked for.
    pub instance_type: Option<&'a str>,
}

/// What will be done, in one sentence.
pub fn headline(plan: &Plan, manners: &str, until_alarm: bool) -> String {
    let until = match plan.secs {
        Some(secs) if until_alarm => format!("until the alarm is certain, {} at most", Span(secs)),
        None if until_alarm => "until the alarm is certain".to_owned(),
        Some(secs) => format!("for {}", Span(secs)),
        None => "until interrupted".to_owned(),
    };
    format!("{} {until}, {manners}.", what(plan))
}

fn what(plan: &Plan) -> String {
    let peak = hundredths(100.0 * plan.aim.curve().peak());
    let at = if plan.aim.curve().is_constant() { "at" } else { "at up to" };
    match plan.aim {
        Aim::Load(_) if plan.workers == 1 => format!("1 worker {at} {peak} % of a CPU"),
        Aim::Load(_) => format!("{} workers {at} {peak} % of a CPU each", plan.workers),
        Aim::Target(_) if plan.workers == 1 => format!("1 worker holding the host {at} {peak} % busy"),
        Aim::Target(_) => format!("{} workers holding the host {at} {peak} % busy", plan.workers),
    }
}

impl Facts<'_> {
    /// What the alarm will do.
    pub fn forecast(&self) -> Option<Forecast> {
        self.alarm.map(|alarm| Forecast::of(&self.question, &alarm))
    }

    /// What is worth knowing, the most important first.
    pub fn notices(&self) -> Vec<String> {
        let forecast = self.forecast();
        let first = forecast.as_ref().map(sentence).or_else(|| outlook(&self.question));
        [first, self.quota(), self.room(), self.reach(), self.warmup(forecast.as_ref())]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The same for programs.
    pub fn opening(&self) -> Opening {
        Opening {
            workers: self.plan.workers,
            secs: self.plan.secs.map(|secs| secs.as_secs_f64()),
            manners: self.manners.to_owned(),
            host_cpus: self.question.host.cpus as u32,
            allowed_cpus: self.allowed,
            quota_cpus: self.quota.map(|quota| hundredths(quota.cpus)),
            uptime_secs: self.uptime.as_secs(),
            instance_type: self.instance_type.map(str::to_owned),
            baseline_pct: self.instance_type.and_then(baseline_pct),
            notices: self.notices(),
            forecast: self.forecast(),
        }
    }

    fn quota(&self) -> Option<String> {
        let quota = self.quota.filter(|quota| quota.cpus < f64::from(self.allowed))?;
        Some(format!(
            "A cgroup quota allows {:.2} of {} CPUs ({}).",
            quota.cpus,
            self.allowed,
            quota.at.display()
        ))
    }

    fn room(&self) -> Option<String> {
        let (plan, allowed) = (self.plan, self.allowed);
        let need = f64::from(plan.workers) * plan.aim.curve().peak();
        let tight = matches!(plan.aim, Aim::Load(_)) && plan.explicit && need > f64::from(allowed) + 0.001;
        tight.then(|| {
            format!(
                "{} workers need {need:.1} CPUs and {allowed} may be used: they won't reach it.",
                plan.workers
            )
        })
    }

    fn reach(&self) -> Option<String> {
        let host = self.question.host;
        let most = 100.0 * host.usable.min(f64::from(self.plan.workers)) / host.cpus;
        let out =
            matches!(self.plan.aim, Aim::Target(_)) && 100.0 * self.plan.aim.curve().peak() > most + 0.001;
        out.then(|| {
            let workers = if self.plan.workers == 1 { "1 worker makes" } else { "The workers make" };
            format!("{workers} {most:.1} % of this host at most: without others the target is out of reach.")
        })
    }

    /// Told while it may matter.
    fn warmup(&self, forecast: Option<&Forecast>) -> Option<String> {
        let warmup = self.question.warmup.filter(|warmup| warmup.until > self.question.now)?;
        if forecast.is_some_and(|forecast| forecast.reason == Some(Reason::WarmingUp)) {
            return None;
        }
        let until = jiff::Timestamp::from_second(warmup.until as i64).unwrap_or_default().to_string();
        let until = clock(&until, self.question.period);
        let assumed = if warmup.named { "" } else { ", if the group's warm-up is the usual 300 s" };
        Some(format!(
            "Up for {}: its metrics don't count before {until} UTC{assumed}.",
            Span(whole(self.uptime))
        ))
    }

    /// The headline and the notices, wrapped at words, in at most four rows at 80 columns. What finds no room there is
    /// told by `--explain`.
    pub fn rows(&self, width: usize, all: bool) -> Vec<String> {
        let most = if all || width < 80 { usize::MAX } else { MOST_ROWS };
        let notices = self.notices();
        let mut rows = wrap(&headline(self.plan, self.manners, self.until_alarm), width);
        let mut left_out = false;
        // The headline names the quota already, where the workers yield inside its group only.
        let said = self.quota.is_some_and(|quota| self.manners.contains(&quota.at.display().to_string()));
        let quota = self.quota().filter(|_| said);
        for notice in notices.iter().filter(|notice| Some(*notice) != quota.as_ref()) {
            let wrapped = wrap(notice, width);
            if rows.len() + wrapped.len() <= most {
                rows.extend(wrapped);
            } else {
                left_out = true;
            }
        }
        if left_out && rows.len() < most {
            rows.push("--explain says more.".to_owned());
        }
        rows
    }

    /// Everything, and no run.
    pub fn explain(&self, width: usize) -> Vec<String> {
        let question = &self.question;
        let cpus = question.host.cpus;
        let instance = match (self.instance_type, self.instance_type.and_then(baseline_pct)) {
            (Some(name), Some(baseline)) => format!(
                "{name}, {cpus} vCPUs; without CPU credits it is held at {baseline} % of each, and that is what \
                 CPUUtilization reads then."
            ),
            (Some(name), None) => format!("{name}, {cpus} vCPUs; not burstable, so no CPU credits."),
            (None, _) => format!("{cpus} CPUs; type not known (no metadata service answers)."),
        };
        let usable = match self.quota {
            Some(quota) => format!(
                "{} by cpuset, {:.2} by the cgroup quota at {}.",
                self.allowed,
                quota.cpus,
                quota.at.display()
            ),
            None => format!("{} by cpuset, no cgroup quota.", self.allowed),
        };
        let monitoring = format!(
            "datapoints of {} s (--alarm-period); the instance can't tell whether detailed monitoring is on.",
            question.period.secs()
        );
        let warmup = match question.warmup.filter(|warmup| warmup.until > question.now) {
            Some(_) => self.warmup(None).unwrap_or_default(),
            None => format!(
                "over: up for {}, longer than {}.",
                Span(whole(self.uptime)),
                if question.warmup.is_some_and(|warmup| warmup.named) {
                    "--warmup".to_owned()
                } else {
                    Span(USUAL_WARMUP).to_string()
                }
            ),
        };
        let mut told = vec![
            ("Load", headline(self.plan, self.manners, self.until_alarm)),
            ("Instance", instance),
            ("CPUs allowed", usable),
            ("Monitoring", monitoring),
            ("Warm-up", warmup),
        ];
        told.extend(outlook(question).map(|text| ("CloudWatch", text)));
        if let Some(forecast) = self.forecast() {
            told.push(("Alarm", sentence(&forecast)));
            let points = forecast.datapoints.iter().map(|point| {
                format!(
                    "{} {:.1} to {:.1} %",
                    clock(&point.start, question.period),
                    point.low_pct,
                    point.high_pct
                )
            });
            told.push(("Datapoints", format!("{} (UTC).", points.collect::<Vec<_>>().join(", "))));
        }
        told.extend([self.room(), self.reach()].into_iter().flatten().map(|text| ("Note", text)));
        told.extend(background(question.period).into_iter().map(|text| ("Known", text)));
        let indented = |(name, text): &(&str, String)| {
            let rows = wrap(text, width.max(40) - 14);
            let rows = rows.into_iter().enumerate();
            rows.map(|(row, text)| format!("{:<13} {text}", if row == 0 { name } else { "" }))
                .collect::<Vec<_>>()
        };
        told.iter().flat_map(indented).collect()
    }
}

/// To the minute where it is long.
fn whole(time: Duration) -> Duration {
    let secs = time.as_secs();
    Duration::from_secs(match secs {
        0..600 => secs,
        600..36_000 => secs - secs % 60,
        _ => secs - secs % 3600,
    })
}

/// The load of a plan that begins now.
pub fn from_now(plan: &Plan, now: f64) -> Load<'_> {
    Load { plan, started: now }
}

/// Rows of at most `width` columns, broken at spaces; a longer word has a row of its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    // "100 %" stays together.
    let text = text.replace(" %", "\u{a0}%");
    for word in text.split(' ') {
        match rows.last_mut() {
            Some(row) if row.chars().count() + 1 + word.chars().count() <= width => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
        }
    }
    rows.iter().map(|row| row.replace('\u{a0}', " ")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::curve::Curve;
    use super::super::forecast::{Capacity, Period, Warmup};
    use super::super::minutes::Minutes;
    use super::super::plan::{Of, Priority};
    use super::*;

    fn plan(workers: u32, secs: u64, aim: Aim) -> Plan {
        let secs = (secs > 0).then(|| Duration::from_secs(secs));
        Plan { workers, secs, aim, explicit: true, exact: false, priority: Priority::Idle, of: Of::Host }
    }

    fn with<T>(plan: &Plan, alarm: Option<Alarm>, quota: Option<&Quota>, ask: impl Fn(Facts<'_>) -> T) -> T {
        let seen = Minutes::default();
        let now = 1_800_000_000.0;
        let host = Capacity { cpus: 2.0, usable: quota.map_or(2.0, |quota| quota.cpus) };
        let warmup = Some(Warmup { until: now + 200.0, named: false });
        let load = Some(from_now(plan, now));
        let question = Question { host, load, period: Period::Minute, seen: &seen, now, warmup };
        let manners = "yielding to everything else (idle cgroup)";
        let uptime = Duration::from_secs(100);
        ask(Facts {
            question,
            plan,
            alarm,
            until_alarm: false,
            allowed: 2,
            quota,
            manners,
            uptime,
            instance_type: Some("t3.micro"),
        })
    }

    #[test]
    fn a_run_begins_with_four_rows_at_most() {
        let quota =
            Quota { cpus: 0.5, at: "/sys/fs/cgroup/cpu/user.slice/user-1000.slice/session-3.scope".into() };
        for workers in [1, 2, 8] {
            for secs in [0, 5, 100, 1000] {
                for aim in [Aim::Load(Curve::constant(1.0)), Aim::Target(Curve::constant(0.8))] {
                    for alarm in [None, Some((30.0, 0)), Some((30.0, 2)), Some((70.0, 0)), Some((60.0, 9999))]
                    {
                        for quota in [None, Some(&quota)] {
                            let plan = plan(workers, secs, aim.clone());
                            let alarm = alarm.map(|(target_pct, fleet)| Alarm { target_pct, fleet });
                            let rows = with(&plan, alarm, quota, |facts| facts.rows(80, false));
                            assert!(rows.len() <= 4, "{rows:#?}");
                            assert!(rows.iter().all(|row| row.chars().count() <= 80), "{rows:#?}");
                            let forecast = with(&plan, alarm, quota, |facts| facts.notices().swap_remove(0));
                            assert!(rows.join(" ").contains(&forecast), "{rows:#?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_forecast_with_an_alarm_is_the_only_one() {
        let alarm = Some(Alarm { target_pct: 45.0, fleet: 0 });
        let said = with(&plan(2, 200, Aim::Load(Curve::constant(1.0))), alarm, None, |facts| {
            facts.notices().join(" ")
        });
        assert!(
            said.contains("Scale-out alarm") && !said.contains("takes 3") && !said.contains("too short"),
            "{said}"
        );
    }

    #[test]
    fn everything_is_explained() {
        let alarm = Some(Alarm { target_pct: 45.0, fleet: 0 });
        let said =
            with(&plan(2, 700, Aim::Load(Curve::constant(1.0))), alarm, None, |facts| facts.explain(80));
        let text = said.iter().map(|row| row.trim()).collect::<Vec<_>>().join(" ");
        for part in [
            "t3.micro, 2 vCPUs",
            "10 % of each",
            "no cgroup quota",
            "Up for 100s",
            "0.7 x",
            "Scale-out alarm",
        ] {
            assert!(
                text.split_whitespace().collect::<Vec<_>>().join(" ").contains(part),
                "{part}: {said:#?}"
            );
        }
        assert!(said.iter().all(|row| row.chars().count() <= 80));
    }

    #[test]
    fn rows_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("at 100 % now", 8), ["at 100 %", "now"]);
        assert_eq!(wrap("extraordinary x", 4), ["extraordinary", "x"]);
    }

    #[test]
    fn a_quota_is_told_with_its_place_and_a_target_out_of_reach() {
        let quota = Quota { cpus: 0.5, at: "/sys/fs/cgroup/a.slice".into() };
        let plan = plan(2, 1000, Aim::Target(Curve::constant(0.8)));
        let said = with(&plan, None, Some(&quota), |facts| facts.notices());
        assert!(said.contains(&"A cgroup quota allows 0.50 of 2 CPUs (/sys/fs/cgroup/a.slice).".to_owned()));
        assert!(said.iter().any(|notice| notice.contains("25.0 % of this host at most")), "{said:?}");
    }
}
