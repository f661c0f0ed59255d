//! Earlier drills: what is kept of each, `agent drill list`, `agent drill show`, and the one that today's is compared with.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ends::last_line;
use super::paper::{say, table};
use super::result_view::answer;
use crate::cli::exit::OrExit;
use crate::cli::output::Output;
use crate::cli::{Common, Exit, Failure, Settings};
use crate::config::{Span, parse_span};
use crate::drill::analysis::compare::{Comparison, compare, shown};
use crate::drill::analysis::history;
use crate::drill::analysis::verdict::{Answer, Verdict};
use crate::drill::events::{DrillEvent, Kept, Listed, Outcome};

/// The earlier drill.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Earlier drills")]
pub(super) struct EarlierArgs {
    /// Compare with an earlier drill: a file with its JSON, or its id in `agent drill list` ("last" is the newest)
    // A duration is taken as --before's: that is what this flag meant in older scripts.
    #[arg(long, value_name = "FILE|ID")]
    baseline: Vec<String>,
    /// Say no, with exit code 1, where this drill is worse than that one
    #[arg(long)]
    fail_on_regression: bool,
}

impl EarlierArgs {
    fn drill(&self) -> Option<&String> {
        self.baseline.iter().rfind(|one| parse_span(one).is_err() || Path::new(one).is_file())
    }

    /// The length of the baseline, where an older script gives it here.
    pub(super) fn length(&self) -> Option<Span> {
        self.baseline
            .iter()
            .rev()
            .filter(|one| !Path::new(one).is_file())
            .find_map(|one| parse_span(one).ok())
    }

    /// The earlier drill's result, before anything is touched.
    pub(super) fn find(&self, log: &Path) -> Result<Option<Value>, Failure> {
        let Some(wanted) = self.drill() else {
            if self.fail_on_regression {
                return Err(Failure::new(
                    Exit::Usage,
                    anyhow!("--fail-on-regression compares with --baseline FILE|ID: name one"),
                ));
            }
            return Ok(None);
        };
        if Path::new(wanted).is_file() {
            let text = fs::read_to_string(wanted)
                .with_context(|| format!("--baseline {wanted}"))
                .or_exit(Exit::Usage)?;
            let whole = serde_json::from_str(&text).ok();
            let found = whole
                .into_iter()
                .chain(text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()));
            let found = found.into_iter().find(|value: &Value| value["event"] == "result");
            let missing = || {
                anyhow!(
                    "--baseline {wanted}: no result of a drill is in it (its `--json` output has one as the last line)"
                )
            };
            return found.with_context(missing).or_exit(Exit::Usage).map(Some);
        }
        let all = history::all(log).unwrap_or_default();
        let found = history::find(&all, wanted).cloned();
        let missing = || anyhow!("--baseline {wanted}: neither a file nor a drill in `agent drill list`");
        found.with_context(missing).or_exit(Exit::Usage).map(Some)
    }

    /// The comparison, and its verdict where one was asked for.
    pub(super) fn compare(&self, earlier: &Value, now: &Value) -> (Option<Comparison>, Option<Verdict>) {
        let found = compare(&kept(earlier), &kept(now));
        let verdict = self.fail_on_regression.then(|| {
            let mut verdict = Verdict::default();
            for item in found.items.iter().filter(|item| item.regressed) {
                let why = format!("{}: {}, then {}", item.what, shown(&item.now), shown(&item.before));
                verdict.say("regression", Answer::No, why);
            }
            if found.regressions == 0 {
                verdict.say("regression", Answer::Yes, "nothing is worse than in the earlier drill");
            }
            verdict
        });
        (Some(found), verdict)
    }
}

/// Keeps a result. That it can't be kept ends no drill: whoever only looks on may not be root.
pub(super) fn keep(log: &Path, result: &Value, out: &mut Output) {
    if let Err(e) = history::append(log, result) {
        let path = history::path(log);
        out.note(&format!("agent: this drill is not kept for `agent drill list`: {}: {e}", path.display()));
    }
}

/// List the drills that were run on this machine
///
/// Exit code 0, also where there were none; 3: they can't be read.
#[derive(Debug, clap::Args)]
pub(super) struct List {}

/// Show the result of an earlier drill again
///
/// Exit code 0: it is shown. 2: there is none with this id. 3: they can't be read.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Its id, or the beginning of it; "last" is the newest
    id: String,
}

fn all(common: &Common) -> Result<Vec<Value>, Failure> {
    let log = Settings::load(common, Vec::new())?.paths.log;
    history::all(&log)
        .with_context(|| format!("cannot read {}", history::path(&log).display()))
        .or_exit(Exit::CannotTell)
}

/// What is read again of a result; what a version that is to come wrote otherwise is empty.
fn kept(result: &Value) -> Kept {
    Kept::deserialize(result).unwrap_or_default()
}

fn time(ms: Option<f64>) -> String {
    shown(&json!(ms))
}

impl List {
    pub(super) fn run(&self, common: &Common) -> Result<Exit, Failure> {
        let all = all(common)?;
        let mut out = Output::new(common.json);
        let mut rows = Vec::new();
        for one in all.iter().map(kept) {
            out.event(&DrillEvent::Drill(Listed {
                id: one.id.as_deref(),
                drill: one.kind(),
                started: one.facts.started.as_deref(),
                outage_ms: one.outage_ms,
                readmitted_after_ms: one.readmitted_after_ms,
                answers: one.answers().map(|(question, verdict)| (question, verdict.answer)).collect(),
            }));
            let answers: Vec<String> = one
                .answers()
                .map(|(question, verdict)| format!("{question} {}", verdict.answer.word()))
                .collect();
            rows.push(vec![
                one.id.clone().unwrap_or_else(|| "-".to_owned()),
                one.kind(),
                time(one.outage_ms),
                time(one.readmitted_after_ms),
                answers.join(", "),
            ]);
        }
        if !rows.is_empty() {
            let heads = [("id", -24), ("drill", -22), ("outage", 10), ("back", 10), ("answers", 0)];
            table(&mut out, &heads, &rows);
        }
        out.event(&last_line(Outcome::List { drills: all.len() }, None));
        if all.is_empty() {
            say(&mut out, "no drill was run here yet");
        }
        Ok(Exit::Done)
    }
}

impl Show {
    pub(super) fn run(&self, common: &Common) -> Result<Exit, Failure> {
        let all = all(common)?;
        let missing = || anyhow!("no drill {} is kept here: `agent drill list` tells which are", self.id);
        let found = history::find(&all, &self.id).with_context(missing).or_exit(Exit::Usage)?;
        let mut out = Output::new(common.json);
        out.event(found);
        let one = kept(found);
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        say(&mut out, &format!("{}  {}  {}", text(&one.id), one.kind(), text(&one.facts.url)));
        for (key, ms) in one.times().into_iter().filter(|(_, ms)| ms.is_some()) {
            say(&mut out, &format!("{:<22} {}", key.trim_end_matches("_ms").replace('_', " "), time(ms)));
        }
        say(&mut out, &format!("{:<22} {}, {} failed", "requests", one.requests, one.errors));
        for (question, verdict) in one.answers() {
            answer(&mut out, question, Some(verdict));
        }
        Ok(Exit::Done)
    }
}
