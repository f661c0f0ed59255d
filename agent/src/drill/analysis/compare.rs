//! Today's drill beside an earlier one. Pure: both are read from the last lines of their JSON, so that an older agent's will
//! do.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::verdict::Answer;
use crate::drill::events::Kept;

/// A time is longer than before from this part on; below that, runs differ anyhow.
const PART: f64 = 1.1;
/// A percentile jumps about more than a window does.
const PERCENTILE_PART: f64 = 1.5;
/// And by at least so much, in milliseconds.
const PERCENTILE_MS: f64 = 5.0;

/// One figure, then and now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Item {
    /// Which.
    pub what: String,
    /// Then: milliseconds, or an answer.
    pub before: Value,
    /// Now.
    pub now: Value,
    /// Whether it is worse by more than runs differ.
    pub regressed: bool,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Comparison {
    /// The earlier drill's id, where it has one.
    pub id: Option<String>,
    /// When it began, RFC 3339.
    pub started: Option<String>,
    /// Every figure that both have.
    pub items: Vec<Item>,
    /// How many are worse.
    pub regressions: usize,
}

/// Compares two results.
pub fn compare(before: &Kept, now: &Kept) -> Comparison {
    let mut items = Vec::new();
    for question in ["hypothesis", "cleanup", "safety", "safe_to_stop", "scaled_out", "scaled_in"] {
        let (then, today) = (before.answer(question), now.answer(question));
        add(&mut items, question, &then, &today, then == Some(Answer::Yes) && today != Some(Answer::Yes));
    }
    // How exactly a window is seen is known.
    let exact = before.above_ms.unwrap_or(0.0).max(now.above_ms.unwrap_or(0.0));
    for ((time, then), (_, today)) in before.times().into_iter().zip(now.times()) {
        add(&mut items, time, &then, &today, longer(then, today, PART, exact));
    }
    for phase in &now.phases {
        let Some(then) = before.phases.iter().find(|one| one.phase == phase.phase) else { continue };
        for (name, then, today) in
            [("p50_ms", then.p50_ms, phase.p50_ms), ("p99_ms", then.p99_ms, phase.p99_ms)]
        {
            let worse = longer(then, today, PERCENTILE_PART, PERCENTILE_MS);
            add(&mut items, &format!("{}.{name}", phase.phase), &then, &today, worse);
        }
    }
    let regressions = items.iter().filter(|item| item.regressed).count();
    Comparison { id: before.id.clone(), started: before.facts.started.clone(), items, regressions }
}

fn add<T: Serialize>(
    items: &mut Vec<Item>,
    what: &str,
    before: &Option<T>,
    now: &Option<T>,
    regressed: bool,
) {
    if before.is_some() || now.is_some() {
        let value = |one: &Option<T>| serde_json::to_value(one).unwrap_or_default();
        items.push(Item { what: what.to_owned(), before: value(before), now: value(now), regressed });
    }
}

/// Whether a time is longer by more than this part, and by more than so many milliseconds. No time at all is none: an outage
/// where there was none before is longer.
fn longer(before: Option<f64>, now: Option<f64>, part: f64, least: f64) -> bool {
    let before = before.unwrap_or(0.0);
    now.is_some_and(|now| now > before * part && now > before + least)
}

/// A figure as people read it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        value => value.as_f64().map_or_else(
            || value.to_string(),
            |ms| match ms {
                ms if ms >= 1000.0 => super::verdict::secs(std::time::Duration::from_secs_f64(ms / 1e3)),
                ms => format!("{ms:.1} ms"),
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(answer: &str, outage: Option<f64>, p99: f64) -> Kept {
        // As the first versions wrote it.
        let line = json!({"id": "x", "hypothesis": {"answer": answer, "why": []}, "outage_ms": outage, "above_ms": 300.0,
                          "phases": [{"phase": "baseline", "p50_ms": 1.0, "p99_ms": p99}]});
        serde_json::from_value(line).unwrap()
    }

    fn worse(before: &Kept, now: &Kept) -> Vec<String> {
        let found = compare(before, now);
        let all =
            found.items.into_iter().filter(|item| item.regressed).map(|item| item.what).collect::<Vec<_>>();
        assert_eq!(all.len(), found.regressions);
        all
    }

    #[test]
    fn the_same_is_no_regression_and_better_is_none() {
        let (now, better) = (result("yes", Some(5000.0), 9.0), result("yes", Some(900.0), 2.0));
        assert_eq!(worse(&now, &now), [""; 0]);
        assert_eq!(worse(&now, &better), [""; 0]);
        assert_eq!(worse(&now, &result("yes", Some(5290.0), 12.0)), [""; 0], "runs differ");
    }

    #[test]
    fn what_is_worse_is_named() {
        let before = result("yes", Some(5000.0), 9.0);
        assert_eq!(
            worse(&before, &result("no", Some(9000.0), 40.0)),
            ["hypothesis", "outage_ms", "baseline.p99_ms"]
        );
        assert_eq!(worse(&result("yes", None, 9.0), &before), ["outage_ms"], "there was none before");
        assert_eq!(worse(&result("no", None, 9.0), &result("no", None, 9.0)), [""; 0]);
    }
}
