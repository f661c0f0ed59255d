//! `agent stress`: CPU load at a share that is asked for.

mod args;
mod foreign;
mod input;
mod live;
mod view;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use nix::sys::signal::Signal;

use super::exit::OrExit;
use super::output::{self, Output};
use super::{Common, Exit, Failure, Settings};
use crate::config::Span;
use crate::stress::allowed::Allowed;
use crate::stress::aside::Aside;
use crate::stress::events::StressEvent;
use crate::stress::forecast::words::sentence;
use crate::stress::forecast::{
    Alarm, Capacity, Certainty, Forecast, Period, Question, Reason, USUAL_WARMUP, Warmup,
};
use crate::stress::host::Stat;
use crate::stress::manners;
use crate::stress::minutes::Minutes;
use crate::stress::opening::{Facts, from_now, wrap};
use crate::stress::plan::Plan;
use crate::stress::run::{Ended, Enough, Setting, Watched, run};
use crate::stress::success::{Answer, Success};
use crate::stress::summary::Summary;
use crate::sys::clock::since_boot;
use crate::sys::sigwait::Signals;
pub(super) use args::Args;
use view::View;

/// From so many seconds on that were seen, an alarm that the load doesn't reach is given up.
const HOPELESS_AFTER: f64 = 60.0;

/// The command line, where it is one of stress(1): this program was called by that name.
pub(super) fn called_as_stress(args: &[OsString]) -> Option<Vec<OsString>> {
    let name = args.first().map(Path::new)?.file_name()?;
    (name == "stress").then(|| foreign::as_stress(args))
}

/// What to answer to a flag of stress or stress-ng that doesn't exist here.
pub(super) fn foreign(args: &[OsString]) -> Option<String> {
    let verb = args.iter().skip(1).position(|arg| arg == "stress")?;
    foreign::answer(args.get(verb + 2..)?)
}

/// What a run, and the model, is told about.
struct Scene {
    plan: Plan,
    alarm: Option<Alarm>,
    until_alarm: bool,
    period: Period,
    host: Capacity,
    warmup: Option<Warmup>,
    allowed: Allowed,
}

impl Args {
    /// Runs the verb to its end.
    ///
    /// # Errors
    /// Exit 2 for an impossible wish, exit 3 where the host doesn't allow a run.
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        // Before anything starts: a signal from now on ends the run with its summary. SIGCONT tells that it was stopped.
        let signals = Signals::block_also(&[Signal::SIGCONT]).context("cannot wait for signals")?;
        let result = self.go(common, &signals);
        if result.is_err() {
            // What is told of a failure is written by this thread, to a terminal that may be stopped. After a run a second
            // signal, as timeout(1) sends it, must not take the summary.
            signals.release();
        }
        result
    }

    fn go(&self, common: &Common, signals: &Signals) -> Result<Exit, Failure> {
        let settings = Settings::load(common, Vec::new())?;
        let alarm = self.policy()?;
        let profile = self.profile.as_deref().map(|path| input::profile(path, signals)).transpose()?;
        let profile = match profile {
            Some(Err(signal)) => return Ok(Exit::Signal(signal)),
            Some(Ok(curve)) => Some(curve),
            None => None,
        };
        let scene =
            self.scene(profile.map_or_else(|| self.wish(None), |curve| self.wish(Some(curve))), alarm)?;
        if self.explain {
            signals.release();
            return Ok(self.explained(&scene, &settings, common));
        }
        if let Some(exit) = self.refused(&scene, common) {
            return Ok(exit);
        }
        let identity = settings.identity;
        let mut out = Output::unwaiting(common.json);
        let mut view = View::new(&scene, self.verbose, self.quiet);
        let watched = |seen: &Minutes| scene.watched(seen);
        let setting = Setting {
            cpus: &scene.allowed.cpus,
            cgroup: scene.allowed.cgroup.clone(),
            run_dir: &settings.paths.run,
            who: input::who(),
            instance_type: Arc::new(move || input::instance_type(identity.clone())),
            signals,
            aside: Arc::new(Aside::new(output::cpu_secs)),
            enough: self.until_alarm.map(|_| Enough { watch: &watched, then: self.hold }),
        };
        let outcome =
            run(&scene.plan, setting, &mut |event| view.show(&mut out, event)).or_exit(Exit::CannotTell)?;
        manners::sweep();
        let forecast = scene.after(&outcome.minutes, Timestamp::now());
        let success = Success::of(&scene.plan, &outcome, scene.allowed.count(), forecast.as_ref());
        let summary = Summary::of(&scene.plan, &outcome, &success, forecast);
        view.ended(&mut out, &summary);
        Ok(match (outcome.ended, success.answer) {
            (Ended::Signal(signal), _) => Exit::Signal(signal),
            (_, Answer::Yes) => Exit::Done,
            (_, Answer::No) => Exit::No,
            (_, Answer::CannotTell) => Exit::CannotTell,
        })
    }

    fn scene(&self, wish: crate::stress::plan::Wish, alarm: Option<Alarm>) -> Result<Scene, Failure> {
        let allowed = Allowed::now().context("cannot tell which CPUs may be used")?;
        let plan = wish.plan(allowed.workers(), allowed.usable()).or_exit(Exit::Usage)?;
        let cpus = Stat::open().and_then(|mut stat| stat.read()).context("cannot read /proc/stat")?.cpus;
        let host = Capacity { cpus: f64::from(cpus), usable: allowed.usable() };
        let (uptime, now) = (since_boot(), epoch(Timestamp::now()));
        let ends = |length: Duration| now - uptime.as_secs_f64() + length.as_secs_f64();
        let warmup = match self.warmup {
            Some(length) => Some(Warmup { until: ends(length), named: true }),
            None if uptime < USUAL_WARMUP => Some(Warmup { until: ends(USUAL_WARMUP), named: false }),
            None => None,
        };
        let (period, until_alarm) = (self.alarm_period, self.until_alarm.is_some());
        Ok(Scene { plan, alarm, until_alarm, period, host, warmup, allowed })
    }

    fn explained(&self, scene: &Scene, settings: &Settings, common: &Common) -> Exit {
        let mut out = Output::new(common.json);
        let kind = input::instance_type(settings.identity.clone());
        let (none, manners) = (Minutes::default(), manners::foreseen(scene.plan.priority));
        let facts = scene.facts(&none, epoch(Timestamp::now()), &manners, kind.as_deref());
        out.event(&StressEvent::Explained(Box::new(facts.opening())));
        facts.explain(live::width_of(&std::io::stdout())).iter().for_each(|row| out.text(row));
        Exit::Done
    }

    /// An alarm that can't come is not waited for.
    fn refused(&self, scene: &Scene, common: &Common) -> Option<Exit> {
        self.until_alarm?;
        let none = Minutes::default();
        let facts = scene.facts(&none, epoch(Timestamp::now()), "", None);
        let forecast = facts.forecast()?;
        let hopeless = matches!(forecast.reason, Some(Reason::NeedsMoreThanOneHost | Reason::TooShort));
        if forecast.verdict != Certainty::Impossible || !hopeless {
            return None;
        }
        let mut out = Output::new(common.json);
        out.event(&StressEvent::Forecast(Box::new(forecast.clone())));
        wrap(&format!("{} Nothing was burned.", sentence(&forecast)), 80)
            .iter()
            .for_each(|row| out.text(row));
        Some(Exit::No)
    }
}

impl Scene {
    /// What the model is asked of a load that began at `began`.
    fn question<'a>(&'a self, seen: &'a Minutes, began: f64, now: f64) -> Question<'a> {
        let load = Some(from_now(&self.plan, began));
        Question { host: self.host, load, period: self.period, seen, now, warmup: self.warmup }
    }

    fn facts<'a>(
        &'a self,
        seen: &'a Minutes,
        began: f64,
        manners: &'a str,
        kind: Option<&'a str>,
    ) -> Facts<'a> {
        Facts {
            question: self.question(seen, began, began),
            plan: &self.plan,
            alarm: self.alarm,
            until_alarm: self.until_alarm,
            allowed: self.allowed.count(),
            quota: self.allowed.quota.as_ref(),
            manners,
            uptime: since_boot(),
            instance_type: kind,
        }
    }

    /// What the alarm does by what was seen alone.
    fn after(&self, seen: &Minutes, now: Timestamp) -> Option<Forecast> {
        let Self { host, period, warmup, .. } = *self;
        let question = Question { host, load: None, period, seen, now: epoch(now), warmup };
        self.alarm.map(|alarm| Forecast::of(&question, &alarm))
    }

    /// Whether what `--until-alarm` waits for was seen.
    fn watched(&self, seen: &Minutes) -> Watched {
        let now = Timestamp::now();
        if self.after(seen, now).is_some_and(|forecast| forecast.verdict == Certainty::Certain) {
            return Watched::Seen;
        }
        let (secs, began) = seen
            .slots()
            .fold((0.0, None), |(secs, first), slot| (secs + slot.secs, first.or(Some(slot.start as f64))));
        let alarm = self.alarm.filter(|_| secs >= HOPELESS_AFTER).zip(began);
        let hopeless = alarm.is_some_and(|(alarm, began)| {
            let forecast = Forecast::of(&self.question(seen, began, epoch(now)), &alarm);
            forecast.verdict == Certainty::Impossible
        });
        if hopeless { Watched::Hopeless } else { Watched::NotYet }
    }
}

fn epoch(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// A time in words: "3m 5s".
fn spoken(time: Duration) -> String {
    let secs = time.as_secs();
    let two = |large: u64, small: u64, units: [&str; 2]| match (large, small) {
        (large, 0) => format!("{large}{}", units[0]),
        (large, small) => format!("{large}{} {small}{}", units[0], units[1]),
    };
    match secs {
        0 if !time.is_zero() => Span(time).to_string(),
        0..60 => format!("{secs}s"),
        60..3600 => two(secs / 60, secs % 60, ["m", "s"]),
        _ => two(secs / 3600, secs % 3600 / 60, ["h", "m"]),
    }
}
