//! What the book says while a drill goes on: whether the fault may be made, whether this target is drained, and whether it is
//! back.

use std::time::Duration;

use super::breaker::Breaker;
use super::phase::Phase;
use super::plan::{DrillError, Event, What};
use super::refuse::{Baseline, Refusal};
use super::run::{State, TICK};
use crate::drill::analysis::window;

/// How much longer than asked for the baseline may last, until there are answers enough to say who is there.
const BASELINE_MORE: Duration = Duration::from_secs(20);

impl State<'_> {
    pub(super) fn baseline_is_over(&mut self, now: Duration) -> Result<(), DrillError> {
        let (enough, refusals) = self.look(now);
        // A node that is slow has until its first request's deadline; and who is there takes some answers to tell.
        let silent = refusals.iter().any(|one| one.reason == "silent");
        let patience = if silent { self.drill.deadline + TICK } else { BASELINE_MORE };
        if (silent || !enough)
            && refusals.iter().all(|one| one.reason != "errors")
            && now < self.until + patience
        {
            return Ok(());
        }
        let baseline = self.baseline(now, None);
        (self.targets, self.elsewhere) = (baseline.targets(), baseline.elsewhere());
        self.quiet = self.quiet_time(now);
        // Who only looks on breaks nothing: what is wrong already is all that stops it.
        let matters = |one: &&Refusal| {
            matches!(self.drill.what, What::Fault(..)) || matches!(one.reason, "errors" | "silent")
        };
        let refusals: Vec<Refusal> = refusals.iter().filter(matters).cloned().collect();
        if !refusals.is_empty() {
            (self.tell)(Event::Refused(&refusals));
            if !self.drill.force {
                return Err(DrillError::Refused(refusals));
            }
            for one in &refusals {
                (self.tell)(Event::Warning(format!("{}; going on all the same", one.why)));
            }
        }
        match &self.drill.what {
            What::Observe(lasts) => {
                self.until = now + *lasts;
                self.begin(Phase::Observe);
            }
            What::Fault(paths, request) => {
                let started = Breaker::start(paths.clone(), request.clone());
                let what = "a thread for the fault";
                self.breaker = Some(started.map_err(|why| DrillError::System { what, why })?);
                self.begin(Phase::Fault);
            }
        }
        Ok(())
    }

    /// Whether enough is known, and what speaks against the fault.
    fn look(&self, now: Duration) -> (bool, Vec<Refusal>) {
        let probes = match self.drill.what {
            What::Fault(..) => self.context.unhealthy(),
            What::Observe(_) => None,
        };
        let baseline = self.baseline(now, probes);
        (baseline.is_enough(), baseline.refusals())
    }

    fn baseline(&self, now: Duration, probes: Option<String>) -> Baseline<'_> {
        Baseline {
            book: &self.book,
            present: &self.present,
            us: self.drill.us.as_deref(),
            here: self.drill.here.as_deref(),
            header: &self.drill.header,
            group: &self.drill.group,
            lasted: now,
            deadline: self.drill.deadline,
            untrusted: self.client.untrusted(),
            probes,
        }
    }

    /// Whether every node that used this target before was answered by it since it recovered.
    pub(super) fn is_back(&self) -> bool {
        let (Some(us), Some(since)) =
            (self.drill.us.as_deref().and_then(|us| self.book.place_of(us)), self.marks.recovered)
        else {
            return false;
        };
        let trouble = self.marks.trouble().unwrap_or_default();
        self.awaited.iter().all(|addr| self.present.contains(addr))
            && self.present.iter().all(|addr| {
                let answers = self.book.place_of_node(addr).and_then(|place| self.book.answers_at(place, us));
                answers.is_none_or(|one| one.first >= trouble || one.last_ok.is_some_and(|at| at >= since))
            })
    }

    /// Four times as long as this target went without a request while all was well; where it got none, as long as one of
    /// these targets would.
    fn quiet_time(&self, now: Duration) -> Duration {
        let us = self.drill.us.as_deref().and_then(|us| self.book.place_of(us));
        let targets = u32::try_from(self.book.instances().len()).unwrap_or(1) + 1;
        let usual = Duration::from_secs(5) * targets / self.drill.rps.max(1);
        let gap = window::gap(&self.book, us, now).unwrap_or(usual);
        (4 * gap).max(Duration::from_secs(1))
    }

    /// Requests that this target may still be at: sent long enough ago for it to have been chosen, and without an answer.
    pub(super) fn in_flight(&self) -> u64 {
        let until = self.zero.elapsed().saturating_sub(self.quiet.min(Duration::from_secs(1)));
        self.present.iter().map(|node| self.under_way.count(*node, until)).sum()
    }

    /// Whether no address has sent a request to this target for long enough, and none is under way.
    pub(super) fn is_drained(&self, now: Duration) -> bool {
        let Some(since) = self.marks.begun().or_else(|| self.marks.trouble()) else { return false };
        if self.drill.us.is_none() || now < since + self.quiet || self.in_flight() > 0 {
            return false;
        }
        let us = self.drill.us.as_deref().and_then(|us| self.book.place_of(us));
        us.and_then(|us| self.book.answers(us)).is_none_or(|answers| answers.end + self.quiet < now)
    }
}
