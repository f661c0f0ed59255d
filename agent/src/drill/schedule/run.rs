//! A drill from its baseline to its end: baseline → fault → hold → readmission → after. One task that takes what the
//! measuring, the fault and the signals tell, and a tick; whatever happens, the fault is over before it returns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::breaker::{Breaker, Happening};
use super::guard::Guard;
use super::phase::{Marks, Phase};
pub use super::plan::{Drill, DrillError, Ending, Event, What};
use super::signals::SignalStream;
use crate::drill::analysis::predict::Prediction;
use crate::drill::analysis::report::Run;
use crate::drill::client::measure::{Measure, Request, Seen, UnderWay};
use crate::drill::client::names::Change;
use crate::drill::client::request::Client;
use crate::drill::client::sample::Book;
use crate::fault::event::{Step, Told};

/// How often the phases are looked at, and the picture on the terminal is drawn.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How much longer than predicted a target is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a drill asks of those who know more.
pub trait Context {
    /// The bounds, with so many targets, and with or without enough at another address.
    fn predict(&self, marks: &Marks, targets: Option<u32>, elsewhere: bool) -> Option<Prediction>;
    /// Why this instance is about to go, once it is told so.
    fn leaving(&self) -> Option<String>;
    /// What the load balancer's probes of this target say against it now.
    fn unhealthy(&self) -> Option<String>;
}

/// Runs `drill`.
///
/// # Errors
/// When nothing was made to fail: the baseline isn't clean, or the fault was refused.
pub async fn run(
    drill: Drill,
    client: Client,
    signals: &SignalStream,
    context: &dyn Context,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Run, DrillError> {
    let measure = Measure::start(client, drill.target.clone(), drill.rps, &drill.first);
    let guard = Guard::new(drill.limits);
    let until = drill.baseline;
    let state = State {
        drill,
        client: Arc::clone(&measure.client),
        context,
        tell,
        zero: measure.zero,
        book: Book::default(),
        marks: Marks::default(),
        present: Vec::new(),
        guard,
        breaker: None,
        until,
        targets: None,
        elsewhere: false,
        awaited: Vec::new(),
        left: Vec::new(),
        ending: None,
        quiet: Duration::ZERO,
        drained: None,
        noticed: None,
        under_way: measure.under_way.clone(),
        signal: None,
        aborted: None,
        ended: None,
        sent_out: 0,
        done: false,
    };
    state.go(measure, signals).await
}

pub(super) struct State<'a> {
    pub(super) drill: Drill,
    pub(super) client: Arc<Client>,
    pub(super) context: &'a dyn Context,
    pub(super) tell: &'a mut dyn FnMut(Event<'_>),
    pub(super) zero: Instant,
    pub(super) book: Book,
    pub(super) marks: Marks,
    pub(super) present: Vec<SocketAddr>,
    pub(super) guard: Guard,
    pub(super) breaker: Option<Breaker>,
    /// The end of this phase.
    pub(super) until: Duration,
    pub(super) targets: Option<u32>,
    pub(super) elsewhere: bool,
    /// Addresses that left the name and are to come back to it.
    pub(super) awaited: Vec<SocketAddr>,
    pub(super) left: Vec<(SocketAddr, Duration)>,
    pub(super) ending: Option<Ending>,
    /// Without an answer for so long a target gets no requests.
    pub(super) quiet: Duration,
    pub(super) drained: Option<Duration>,
    pub(super) noticed: Option<(Duration, String)>,
    pub(super) under_way: UnderWay,
    pub(super) signal: Option<i32>,
    pub(super) aborted: Option<String>,
    pub(super) ended: Option<Result<(), String>>,
    pub(super) sent_out: u64,
    pub(super) done: bool,
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
        let in_flight = self.in_flight();
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
            here: self.drill.here,
            targets: self.targets,
            elsewhere: self.elsewhere,
            signal: self.signal,
            aborted: self.aborted,
            ended: self.ended,
            leaving: None,
            left: self.left,
            quiet: self.quiet,
            drained: self.drained,
            noticed: self.noticed,
            in_flight,
            unfinished: asked,
        })
    }

    fn unfinished(&self) -> u64 {
        // By the schedule: what was due and hasn't ended.
        let due = self.marks.end.as_secs_f64() * f64::from(self.drill.rps) * self.present.len() as f64;
        (due as u64).saturating_sub(self.sent_out)
    }

    pub(super) fn begin(&mut self, phase: Phase) {
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
                    Change::Removed(addr) => {
                        self.left.push((addr, self.zero.elapsed()));
                        self.present.retain(|known| *known != addr);
                    }
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
            self.abort(why);
        }
    }

    /// Ends the drill, and its fault.
    fn abort(&mut self, why: String) {
        (self.tell)(Event::Warning(why.clone()));
        self.aborted = Some(why.clone());
        self.end_fault(Ending::Limit(why));
    }

    fn interrupt(&mut self, signal: i32) {
        self.signal.get_or_insert(signal);
        self.end_fault(Ending::Signal(signal));
        self.done |= self.breaker.is_none();
    }

    fn end_fault(&mut self, ending: Ending) {
        match &mut self.breaker {
            Some(breaker) => {
                breaker.end();
                if self.ending.is_none() {
                    (self.tell)(Event::Ending(&ending));
                    self.ending = Some(ending);
                }
            }
            None => self.done |= self.marks.now() == Phase::Observe,
        }
    }

    fn tick(&mut self) -> Result<(), DrillError> {
        let now = self.zero.elapsed();
        if let Some(why) = self.book.samples().full().filter(|_| self.aborted.is_none()) {
            let why = why.to_owned();
            self.abort(why);
        }
        (self.tell)(Event::Tick(&self.book, &self.marks, self.guard.error_pct(), now));
        match self.marks.now() {
            Phase::Baseline if now >= self.until => self.baseline_is_over(now)?,
            Phase::Observe | Phase::After if now >= self.until => self.done = true,
            Phase::Hold | Phase::Observe if self.drained.is_none() && self.drill.until_drained => {
                if self.noticed.is_none() {
                    self.noticed = self.context.leaving().map(|why| (now, why));
                }
                if self.is_drained(now) {
                    self.drained = Some(now);
                    self.end_fault(Ending::Drained);
                }
            }
            Phase::Readmission if now >= self.until || self.is_back() => {
                self.until = now + self.drill.after;
                self.begin(Phase::After);
            }
            _ => {}
        }
        Ok(())
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
        if let Told::Event(event) = told
            && !matches!(event.step, Step::Lost { .. })
        {
            let mark = match &event.step {
                Step::Armed { .. } => &mut self.marks.armed,
                Step::Injected => &mut self.marks.injected,
                Step::Effective { .. } => &mut self.marks.effective,
                Step::Recovering { .. } | Step::Lost { .. } => &mut self.marks.recovering,
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
        let prediction = self.context.predict(&self.marks, self.targets, self.elsewhere);
        let predicted = prediction.map_or(Duration::ZERO, |prediction| prediction.readmission.most);
        if prediction.is_some_and(|prediction| prediction.leaves_name) {
            let trouble = self.marks.trouble().unwrap_or_default();
            let gone = self.left.iter().filter(|(_, at)| *at >= trouble);
            self.awaited = gone.map(|(addr, _)| *addr).collect();
        }
        // Who doesn't say its name is waited for as long as it may take, and is then not known to be back.
        let patience = if self.drill.us.is_some() { PATIENCE } else { Duration::ZERO };
        self.until = now + predicted + patience;
        self.begin(Phase::Readmission);
    }
}
