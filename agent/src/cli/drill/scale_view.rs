//! How `agent drill scale` looks: who comes and who goes while it runs, a table at the end; or JSON Lines.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::ends::last_line;
use super::paper::{say, table};
use super::result_view::answer;
use crate::cli::output::Output;
use crate::drill::analysis::scale::{Report, Scaled, Stay};
use crate::drill::analysis::steps::Step;
use crate::drill::analysis::window::ms;
use crate::drill::events::{DrillEvent, InstanceChange, InstanceChanged, Outcome, PhaseBegan};
use crate::drill::schedule::phase::Phase;
use crate::sys::clock::rfc3339;

/// The look of one drill.
#[derive(Debug)]
pub(super) struct View {
    started: Timestamp,
    /// Whom was told of, and whether that it had gone.
    told: BTreeMap<String, bool>,
}

impl View {
    pub(super) fn new() -> Self {
        Self { started: Timestamp::now(), told: BTreeMap::new() }
    }

    /// A phase begins.
    pub(super) fn phase(&self, out: &mut Output, phase: Phase, now: Duration, text: &str) {
        let at = rfc3339(self.started + now);
        out.event(&DrillEvent::Phase(PhaseBegan { phase, at, at_ms: ms(now) }));
        say(out, text);
    }

    /// Tells of each instance once when it comes and once when it goes.
    pub(super) fn instances(&mut self, out: &mut Output, scaled: &Scaled) {
        for stay in scaled.instances.iter().filter(|stay| !stay.before || stay.gone_after_ms.is_some()) {
            let gone = stay.gone_after_ms.is_some();
            if self.told.insert(stay.instance.clone(), gone) == Some(gone) {
                continue;
            }
            let (change, word, after_ms) = match stay.gone_after_ms {
                Some(after) => (InstanceChange::Gone, "gone", after),
                None => (InstanceChange::Came, "came", stay.came_after_ms),
            };
            let instance = &stay.instance;
            out.event(&DrillEvent::Instance(InstanceChanged { instance, change, after_ms }));
            say(out, &format!("{word:<10} {instance} {:.1} s after the load began", after_ms / 1e3));
        }
    }

    /// The end.
    pub(super) fn report(&self, out: &mut Output, result: &Report, page: Option<&Path>) {
        if out.is_json() {
            return out.event(&last_line(Outcome::Scale(result), page));
        }
        let scaled = &result.scaled;
        let secs = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms / 1e3));
        out.text("");
        let row = |stay: &Stay| {
            let came = if stay.before { "before".to_owned() } else { secs(Some(stay.came_after_ms)) };
            let share = format!("{:.0} %", stay.share_pct);
            vec![stay.instance.clone(), stay.answers.to_string(), share, came, secs(stay.gone_after_ms)]
        };
        let heads = [("instance", -22), ("answers", 8), ("share", 6), ("came", 10), ("gone", 10)];
        table(out, &heads, &scaled.instances.iter().map(row).collect::<Vec<_>>());
        say(out, &format!("{} requests, {} failed", scaled.requests, scaled.errors));
        out.text("");
        let row = |step: &Step| {
            let mark = step.answer.map_or("", |answer| answer.word());
            vec![step.what.clone(), step.predicted_text(), secs(step.measured_ms), mark.to_owned()]
        };
        let heads = [("step, since the load began", -44), ("predicted", 20), ("measured", 12), ("", 0)];
        table(out, &heads, &result.steps.iter().map(row).collect::<Vec<_>>());
        out.text("");
        answer(out, "scaled out", Some(&result.verdicts.out));
        answer(out, "scaled in", Some(&result.verdicts.back));
        answer(out, "hypothesis", result.verdicts.hypothesis.as_ref());
        if let Some(path) = page {
            say(out, &format!("report      {}", path.display()));
        }
    }
}
