//! Today's drill beside an earlier one. Pure: both are the last lines of their JSON, so that an older agent's will do.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A time is longer than before from this part on; below that, runs differ anyhow.
const PART: f64 = 1.1;
/// A percentile jumps about more than a window does.
const PERCENTILE_PART: f64 = 1.5;
/// And by at least so much, in milliseconds.
const PERCENTILE_MS: f64 = 5.0;

/// One figure, then and now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
pub fn compare(before: &Value, now: &Value) -> Comparison {
    let mut items = Vec::new();
    for question in ["hypothesis", "cleanup", "safety", "safe_to_stop"] {
        let answer = |result: &Value| result[question]["answer"].clone();
        add(&mut items, question, answer(before), answer(now), |before, now| before == "yes" && now != "yes");
    }
    // How exactly a window is seen is known.
    let exact =
        [before, now].map(|one| one["above_ms"].as_f64().unwrap_or(0.0)).into_iter().fold(0.0, f64::max);
    for time in ["outage_ms", "readmitted_after_ms", "drained_after_ms", "out_after_ms", "in_after_ms"] {
        add(&mut items, time, before[time].clone(), now[time].clone(), |before, now| {
            longer(before, now, PART, exact)
        });
    }
    for phase in now["phases"].as_array().into_iter().flatten() {
        let same = |one: &&Value| one["phase"] == phase["phase"];
        let Some(then) = before["phases"].as_array().and_then(|all| all.iter().find(same)) else { continue };
        let name = phase["phase"].as_str().unwrap_or_default();
        for percentile in ["p50_ms", "p99_ms"] {
            let what = format!("{name}.{percentile}");
            add(&mut items, &what, then[percentile].clone(), phase[percentile].clone(), |before, now| {
                longer(before, now, PERCENTILE_PART, PERCENTILE_MS)
            });
        }
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let regressions = items.iter().filter(|item| item.regressed).count();
    Comparison { id: text(&before["id"]), started: text(&before["facts"]["started"]), items, regressions }
}

fn add(items: &mut Vec<Item>, what: &str, before: Value, now: Value, worse: impl Fn(&Value, &Value) -> bool) {
    if before.is_null() && now.is_null() {
        return;
    }
    let regressed = worse(&before, &now);
    items.push(Item { what: what.to_owned(), before, now, regressed });
}

/// Whether a time is longer by more than this part, and by more than so many milliseconds. No time at all is none: an outage
/// where there was none before is longer.
fn longer(before: &Value, now: &Value, part: f64, least: f64) -> bool {
    let before = before.as_f64().unwrap_or(0.0);
    now.as_f64().is_some_and(|now| now > before * part && now > before + least)
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

    fn result(answer: &str, outage: Option<f64>, p99: f64) -> Value {
        json!({"id": "x", "hypothesis": {"answer": answer}, "outage_ms": outage, "above_ms": 300.0,
               "phases": [{"phase": "baseline", "p50_ms": 1.0, "p99_ms": p99}]})
    }

    fn worse(before: &Value, now: &Value) -> Vec<String> {
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
