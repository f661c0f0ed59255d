//! A drill from its baseline to its end: baseline → fault → hold → readmission → after. One task that takes what the
//! measuring, the fault and the signals tell, and a tick; whatever happens, the fault is over before it returns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::breaker::{Breaker, Happening};
use super::guard::Guard;
use super::phase::{Marks, Phase};
pub use super::plan::{Drill, DrillError, Event, What};
use super::signals::SignalStream;
use crate::drill::analysis::predict::Prediction;
use crate::drill::analysis::report::Run;
use crate::drill::analysis::window;
use crate::drill::client::measure::{Measure, Request, Seen};
use crate::drill::client::names::Change;
use crate::drill::client::request::Client;
use crate::drill::client::sample::{Book, Sample};
use crate::fault::event::{Step, Told};

/// How often the phases are looked at, and the picture on the terminal is drawn.
const TICK: Duration = Duration::from_millis(100);
/// How much longer than predicted a target is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `drill`; `predict` gives the bounds once it is known whether there are others.
///
/// # Errors
/// When nothing was made to fail: the baseline isn't clean, or the fault was refused.
pub async fn run(
    drill: Drill,
    client: Client,
    signals: &SignalStream,
    predict: &dyn Fn(&Marks, Option<bool>) -> Option<Prediction>,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Run, DrillError> {
    let measure = Measure::start(client, drill.target.clone(), drill.rps, &drill.first);
    let guard = Guard::new(drill.limits);
    let until = drill.baseline;
    let state = State {
        drill,
        client: Arc::clone(&measure.client),
        predict,
        tell,
        zero: measure.zero,
        book: Book::default(),
        marks: Marks::default(),
        present: Vec::new(),
        guard,
        breaker: None,
        until,
        others: None,
        signal: None,
        aborted: None,
        ended: None,
        sent_out: 0,
        done: false,
    };
    state.go(measure, signals).await
}

struct State<'a> {
    drill: Drill,
    client: Arc<Client>,
    predict: &'a dyn Fn(&Marks, Option<bool>) -> Option<Prediction>,
    tell: &'a mut dyn FnMut(Event<'_>),
    zero: Instant,
    book: Book,
    marks: Marks,
    present: Vec<SocketAddr>,
    guard: Guard,
    breaker: Option<Breaker>,
    /// The end of this phase.
    until: Duration,
    others: Option<bool>,
    signal: Option<i32>,
    aborted: Option<String>,
    ended: Option<Result<(), String>>,
    sent_out: u64,
    done: bool,
}

impl State<'_> {
    async fn go(mut self, mut measure: Measure, signals: &SignalStream) -> Result<Run, DrillError> {
        self.begin(Phase::Baseline);
        let mut tick = self.zero + TICK;
        while !self.done {
            let breaker = self.breaker.as_mut();
            let is_broken = breaker.is_some();
            let happens = async {
                match breaker {
                    Some(breaker) => breaker.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                seen = measure.next() => if let Some(seen) = seen { self.see(seen) },
                happening = happens, if is_broken => self.happen(happening)?,
                signal = signals.next() => self.interrupt(signal),
                () = sleep_until(tick) => {
                    tick = (tick + TICK).max(Instant::now());
                    self.tick()?;
                }
            }
        }
        self.marks.end = self.zero.elapsed();
        measure.stop();
        // What was asked before the end is part of it; nobody who pressed Ctrl-C waits for it.
        let patience = if self.signal.is_some() { 2 * TICK } else { self.drill.deadline + TICK };
        let rest = async {
            while let Some(seen) = measure.next().await {
                self.see(seen);
            }
        };
        let whole = timeout(patience, rest).await.is_ok();
        let asked = if whole { 0 } else { self.unfinished() };
        Ok(Run {
            book: self.book,
            marks: self.marks,
            present: self.present,
            us: self.drill.us,
            others: self.others,
            signal: self.signal,
            aborted: self.aborted,
            ended: self.ended,
            leaving: None,
            unfinished: asked,
        })
    }

    fn unfinished(&self) -> u64 {
        // By the schedule: what was due and hasn't ended.
        let due = self.marks.end.as_secs_f64() * f64::from(self.drill.rps) * self.present.len() as f64;
        (due as u64).saturating_sub(self.sent_out)
    }

    fn begin(&mut self, phase: Phase) {
        let now = self.zero.elapsed();
        self.marks.begin(phase, now);
        (self.tell)(Event::Phase(phase, now));
    }

    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Request(request) => self.take(&request),
            Seen::Name(change) => {
                match change {
                    Change::Added(addr) => {
                        self.book.node(addr);
                        self.present.push(addr);
                    }
                    Change::Removed(addr) => self.present.retain(|known| *known != addr),
                }
                (self.tell)(Event::Name(&change, self.zero.elapsed()));
            }
            Seen::Unresolved(why) => {
                (self.tell)(Event::Warning(format!(
                    "{} is not resolved any more: {why}",
                    self.drill.target.name
                )));
            }
        }
    }

    fn take(&mut self, request: &Request) {
        let sample = request.enter(&mut self.book);
        self.sent_out += 1;
        (self.tell)(Event::Request(&self.book, &sample));
        if self.marks.trouble().is_some_and(|since| sample.start() >= since)
            && let Some(why) = self.guard.take(&sample)
            && matches!(self.marks.now(), Phase::Fault | Phase::Hold | Phase::Observe)
            && self.aborted.is_none()
        {
            (self.tell)(Event::Warning(why.clone()));
            self.aborted = Some(why);
            self.end_fault();
        }
    }

    fn interrupt(&mut self, signal: i32) {
        self.signal.get_or_insert(signal);
        self.end_fault();
        self.done |= self.breaker.is_none();
    }

    fn end_fault(&mut self) {
        match &mut self.breaker {
            Some(breaker) => breaker.end(),
            None => self.done |= self.marks.now() == Phase::Observe,
        }
    }

    fn tick(&mut self) -> Result<(), DrillError> {
        let now = self.zero.elapsed();
        (self.tell)(Event::Tick(&self.book, &self.marks, self.guard.error_pct(), now));
        match self.marks.now() {
            Phase::Baseline if now >= self.until => self.baseline_is_over(now)?,
            Phase::Observe | Phase::After if now >= self.until => self.done = true,
            Phase::Readmission if now >= self.until || self.is_back() => {
                self.until = now + self.drill.after;
                self.begin(Phase::After);
            }
            _ => {}
        }
        Ok(())
    }

    fn baseline_is_over(&mut self, now: Duration) -> Result<(), DrillError> {
        // A node that is slow has until its first request's deadline.
        if self.silent().is_some() && now < self.until + self.drill.deadline + TICK {
            return Ok(());
        }
        if let Some(why) = self.unclean() {
            if !self.drill.force {
                return Err(DrillError::Unclean(why));
            }
            (self.tell)(Event::Warning(format!("the baseline is not clean: {why}")));
        }
        let named = !self.book.instances().is_empty();
        let other = |name: &String| Some(name) != self.drill.us.as_ref();
        self.others = named.then(|| self.book.instances().iter().any(other));
        match &self.drill.what {
            What::Observe(lasts) => {
                self.until = now + *lasts;
                self.begin(Phase::Observe);
            }
            What::Fault(paths, request) => {
                let started = Breaker::start(paths.clone(), request.clone());
                let what = "a thread for the fault";
                self.breaker = Some(started.map_err(|source| DrillError::System { what, source })?);
                self.begin(Phase::Fault);
            }
        }
        Ok(())
    }

    /// What is wrong before anything was made to fail.
    fn unclean(&self) -> Option<String> {
        let samples = &self.book.samples;
        let failed: Vec<&Sample> = samples.iter().filter(|one| !one.is_ok()).collect();
        if let Some(first) = failed.first() {
            let (node, how) = (self.book.node_of(first), window::name(first.outcome));
            let (failed, all) = (failed.len(), samples.len());
            let why = self.client.untrusted().map_or_else(String::new, |why| format!(" ({why})"));
            return Some(format!("{failed} of {all} requests failed, the first at {node} with {how}{why}"));
        }
        self.silent().map(|addr| {
            let waited = (self.drill.baseline + self.drill.deadline).as_secs_f64();
            format!("{addr} has not answered in {waited} s")
        })
    }

    /// A node that has told nothing yet.
    fn silent(&self) -> Option<&SocketAddr> {
        let is_heard = |addr: &SocketAddr| {
            let place = self.book.nodes().iter().position(|known| known == addr);
            self.book.samples.iter().any(|one| Some(usize::from(one.node)) == place)
        };
        self.present.iter().find(|addr| !is_heard(addr))
    }

    /// Whether every node was answered by this target since it recovered.
    fn is_back(&self) -> bool {
        let (Some(us), Some(since)) =
            (self.drill.us.as_deref().and_then(|us| self.book.place_of(us)), self.marks.recovered)
        else {
            return false;
        };
        self.present.iter().all(|addr| {
            let place = self.book.nodes().iter().position(|known| known == addr);
            let recent =
                self.book.samples.iter().rev().take_while(|one| Duration::from_micros(one.end_us) >= since);
            let here = |one: &Sample| Some(usize::from(one.node)) == place && one.start() >= since;
            recent.filter(|one| here(one)).any(|one| one.instance == Some(us) && one.is_ok())
        })
    }

    fn happen(&mut self, happening: Happening) -> Result<(), DrillError> {
        match happening {
            Happening::Told(at, told) => {
                self.told(Instant::from_std(at).saturating_duration_since(self.zero), &told)
            }
            Happening::NotEnded(e) => {
                self.ended = Some(Err(e.to_string()));
                self.breaker = None;
                self.done = true;
            }
            Happening::Over(outcome) => {
                self.breaker = None;
                match *outcome {
                    Err(e) if self.marks.armed.is_none() => return Err(e.into()),
                    Err(e) => {
                        self.ended = Some(Err(e.to_string()));
                        self.done = true;
                    }
                    Ok(outcome) => {
                        self.ended = Some(Ok(()));
                        self.signal = self.signal.or(outcome.signal);
                        self.done = self.signal.is_some() || !outcome.effective;
                        self.wait_for_readmission();
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes each step the first time it is told: who ends a fault early and who held it both tell of its end.
    fn told(&mut self, at: Duration, told: &Told) {
        if let Told::Event(event) = told {
            let mark = match &event.step {
                Step::Armed { .. } => &mut self.marks.armed,
                Step::Injected => &mut self.marks.injected,
                Step::Effective { .. } => &mut self.marks.effective,
                Step::Recovering { .. } => &mut self.marks.recovering,
                Step::Recovered { .. } => &mut self.marks.recovered,
            };
            if mark.is_some() {
                return;
            }
            *mark = Some(at);
            if let Step::Effective { .. } = event.step {
                self.begin(Phase::Hold);
            }
        }
        (self.tell)(Event::Fault(told));
    }

    fn wait_for_readmission(&mut self) {
        let now = self.zero.elapsed();
        self.marks.end = now;
        let predicted =
            (self.predict)(&self.marks, self.others).map_or(Duration::ZERO, |p| p.readmission.most);
        // Who doesn't say its name is waited for as long as it may take, and is then not known to be back.
        let patience = if self.drill.us.is_some() { PATIENCE } else { Duration::ZERO };
        self.until = now + predicted + patience;
        self.begin(Phase::Readmission);
    }
}
