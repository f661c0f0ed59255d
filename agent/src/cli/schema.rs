//! `agent schema`: the JSON that programs read, described by the types that write it (JSON Schema, draft 2020-12,
//! <https://json-schema.org/draft/2020-12>).

use std::io::Read;

use serde_json::{Map, Value};

use super::output::Output;
use super::{Common, Exit, Failure};

/// `schema.json` beside this file, packed by `build.rs`. The tests derive it from the types that write the JSON, so that
/// what derives it need not be in the program.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.json.gz"));

/// Describe the JSON of a verb: each line that it prints with --json is one of these
///
/// JSON Schema on stdout; without a verb one object with a schema for each.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose lines
    #[arg(value_enum)]
    verb: Option<Described>,
}

/// The verbs whose lines are described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Described {
    Stress,
    Probes,
    Fail,
    Recover,
    Drill,
    Watch,
    Status,
}

/// What every verb prints last where it can't do what was asked.
#[derive(Debug, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ErrorEvent<'a> {
    /// `"error"`.
    pub(super) event: &'static str,
    /// The exit code.
    pub(super) exit: u8,
    /// What was tried, why it failed, and what to do next.
    pub(super) message: &'a str,
}

impl Args {
    pub(super) fn run(self, _common: &Common) -> Result<Exit, Failure> {
        let mut all = all();
        let described = match self.verb {
            Some(verb) => all.remove(&verb.name()).unwrap_or_default(),
            None => Value::Object(all),
        };
        let mut out = Output::new(false);
        out.text(&serde_json::to_string_pretty(&described).unwrap_or_default());
        Ok(Exit::Done)
    }
}

impl Described {
    fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The schema of each verb's lines.
fn all() -> Map<String, Value> {
    let mut text = String::new();
    let read = flate2::read::GzDecoder::new(PACKED).read_to_string(&mut text);
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::fail_events::{FailEvent, Recovered};
    use super::super::{probes_events, watch};
    use super::*;
    use crate::drill::events::DrillEvent;
    use crate::fault::event::Event;
    use crate::serve::status::Status;
    use crate::stress::events::StressEvent;
    use clap::ValueEnum;
    use schemars::generate::SchemaSettings;
    use serde_json::json;

    impl Described {
        /// The schema of a line: one of the verb's own, or the error.
        fn lines(self) -> Value {
            let mut of = SchemaSettings::draft2020_12().for_serialize().into_generator();
            let mut kinds = match self {
                Self::Stress => vec![of.subschema_for::<StressEvent>()],
                Self::Probes => vec![of.subschema_for::<probes_events::Event>()],
                Self::Fail => vec![of.subschema_for::<Event>(), of.subschema_for::<FailEvent<'_>>()],
                Self::Recover => vec![of.subschema_for::<Event>(), of.subschema_for::<Recovered<'_>>()],
                Self::Drill => vec![of.subschema_for::<DrillEvent<'_>>(), of.subschema_for::<Event>()],
                Self::Watch => vec![of.subschema_for::<watch::WatchEvent>()],
                Self::Status => vec![of.subschema_for::<Status>()],
            };
            kinds.push(of.subschema_for::<ErrorEvent<'_>>());
            json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": format!("A line of agent {} --json", self.name()),
                "anyOf": kinds,
                "$defs": of.take_definitions(true),
            })
        }
    }

    /// `UPDATE_SCHEMA=1 cargo test -p asg-agent --lib schema` writes the file anew.
    #[test]
    fn the_schemas_are_those_of_the_types() {
        let named = Described::value_variants().iter().map(|verb| (verb.name(), verb.lines()));
        let derived = Value::Object(named.collect());
        let text = format!("{}\n", serde_json::to_string_pretty(&derived).unwrap());
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/schema.json");
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        let differs = written.lines().zip(text.lines()).position(|(old, new)| old != new);
        assert!(
            written == text,
            "schema.json, line {differs:?}, is not what the types say: run with UPDATE_SCHEMA=1"
        );
    }

    #[test]
    fn the_program_has_the_file() {
        let file: Value = serde_json::from_str(include_str!("schema.json")).unwrap();
        assert_eq!(Value::Object(all()), file);
    }

    /// The keys that other programs rely on, verb by verb and event by event.
    const CONTRACT: &[(Described, &[&str])] = &[
        (
            Described::Stress,
            &[
                "workers",
                "elapsed_ms",
                "requested_load_pct",
                "achieved_load_pct",
                "host_busy_pct",
                "host_steal_pct",
                "minutes",
                "start",
                "busy_pct",
                "steal_pct",
                "ended",
                "reached",
                "host_reached",
                "worker_reached",
            ],
        ),
        (
            Described::Probes,
            &[
                "node",
                "at",
                "method",
                "path",
                "status",
                "interval_ms",
                "confirmed",
                "expected_ms",
                "tolerance_ms",
                "nodes",
                "probes",
                "missed",
                "interval_min_ms",
                "interval_p50_ms",
                "interval_max_ms",
                "on_time",
                "codes",
                "logs",
                "from",
                "to",
                "lines",
                "bytes",
                "reason",
            ],
        ),
        (
            Described::Status,
            &["version", "instance", "health", "status", "checks", "nginx", "probes", "fault", "cpu"],
        ),
        (Described::Watch, &["at", "status", "cpu", "nodes", "instances"]),
        (
            Described::Fail,
            &[
                "mode",
                "at",
                "effective",
                "recovered",
                "held_ms",
                "first_ok_after_ms",
                "rehearsal",
                "active",
                "signals",
                "restore",
            ],
        ),
        (Described::Recover, &["mode", "at", "fault", "recovered", "first_ok_after_ms", "differences"]),
        (
            Described::Drill,
            &[
                "facts",
                "predicted",
                "phase",
                "node",
                "change",
                "reasons",
                "forecast",
                "minute",
                "hypothesis",
                "cleanup",
                "safety",
                "outage_ms",
                "readmitted_after_ms",
                "safe_to_stop",
                "scaled_out",
                "scaled_in",
                "drills",
                "report",
                "least_ms",
            ],
        ),
    ];

    fn keys(schema: &Value, found: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            found.extend(properties.keys().cloned());
        }
        match schema {
            Value::Object(inner) => inner.values().for_each(|value| keys(value, found)),
            Value::Array(inner) => inner.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_documented_key_is_described() {
        for (verb, wanted) in CONTRACT {
            let mut found = Vec::new();
            keys(&verb.lines(), &mut found);
            for key in *wanted {
                assert!(
                    found.iter().any(|name| name == key),
                    "{}: {key} is not among {found:?}",
                    verb.name()
                );
            }
        }
    }

    #[test]
    fn every_reference_has_its_definition() {
        for (verb, _) in CONTRACT {
            let schema = verb.lines();
            let text = schema.to_string();
            for reference in text.split("\"#/$defs/").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(schema["$defs"][reference].is_object(), "{}: {reference}", verb.name());
            }
        }
    }
}
