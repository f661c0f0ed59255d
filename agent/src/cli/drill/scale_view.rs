//! How `agent drill scale` looks: who comes and who goes while it runs, a table at the end; or JSON Lines.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::ends::last_line;
use super::view::answer;
use crate::cli::output::Output;
use crate::drill::analysis::scale::{Report, Scaled};
use crate::drill::analysis::window::ms;
use crate::drill::schedule::phase::Phase;

/// The look of one drill.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Whom was told of, and whether that it had gone.
    told: BTreeMap<String, bool>,
}

impl View {
    /// A phase begins.
    pub(super) fn phase(&self, out: &mut Output, phase: Phase, now: Duration, text: &str) {
        out.event(&json!({"event": "phase", "phase": phase, "at_ms": ms(now)}));
        out.text(text);
    }

    /// Tells of each instance once when it comes and once when it goes.
    pub(super) fn instances(&mut self, out: &mut Output, scaled: &Scaled) {
        for stay in scaled.instances.iter().filter(|stay| !stay.before || stay.gone_after_ms.is_some()) {
            let gone = stay.gone_after_ms.is_some();
            if self.told.insert(stay.instance.clone(), gone) == Some(gone) {
                continue;
            }
            let (change, after) = match stay.gone_after_ms {
                Some(after) => ("gone", after),
                None => ("came", stay.came_after_ms),
            };
            out.event(
                &json!({"event": "instance", "instance": stay.instance, "change": change, "after_ms": after}),
            );
            out.text(&format!("{change:<10} {} {:.1} s after the load began", stay.instance, after / 1e3));
        }
    }

    /// The end.
    pub(super) fn report(&self, out: &mut Output, result: &Report, page: Option<&Path>) {
        if out.is_json() {
            let mut event = last_line(result);
            event["report"] = json!(page.map(|path| path.display().to_string()));
            return out.event(&event);
        }
        let scaled = &result.scaled;
        let secs = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms / 1e3));
        out.text("");
        out.text(&format!("{:<22} {:>8} {:>10} {:>10}", "instance", "answers", "came", "gone"));
        for stay in &scaled.instances {
            let came = if stay.before { "before".to_owned() } else { secs(Some(stay.came_after_ms)) };
            let gone = secs(stay.gone_after_ms);
            out.text(&format!("{:<22} {:>8} {came:>10} {gone:>10}", stay.instance, stay.answers));
        }
        out.text(&format!("{} requests, {} failed", scaled.requests, scaled.errors));
        out.text("");
        out.text(&format!("{:<44} {:>20} {:>12}", "step, since the load began", "predicted", "measured"));
        for step in &result.steps {
            let mark = step.answer.map_or("", |answer| answer.word());
            let (predicted, measured) = (step.predicted_text(), secs(step.measured_ms));
            out.text(&format!("{:<44} {predicted:>20} {measured:>12}   {mark}", step.what));
        }
        out.text("");
        answer(out, "scaled out", Some(&result.verdicts.out));
        answer(out, "scaled in", Some(&result.verdicts.back));
        answer(out, "hypothesis", result.verdicts.hypothesis.as_ref());
        if let Some(path) = page {
            out.text(&format!("report      {}", path.display()));
        }
    }
}
