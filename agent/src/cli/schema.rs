//! `agent schema`: the JSON that programs read, described by the types that write it (JSON Schema, draft 2020-12,
//! <https://json-schema.org/draft/2020-12>).

use schemars::{JsonSchema, Schema, schema_for};
use serde_json::{Map, Value, json};

use super::output::Output;
use super::{Common, Exit, Failure, probes_events, watch};
use crate::serve::status::Status;
use crate::stress::events::StressEvent;

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
    Status,
    Watch,
}

/// What every verb prints last where it can't do what was asked.
#[derive(Debug, serde::Serialize, JsonSchema)]
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
        let all = [Described::Stress, Described::Probes, Described::Status, Described::Watch];
        let described = match self.verb {
            Some(verb) => verb.lines(),
            None => {
                let named = all.map(|verb| (verb.name(), verb.lines()));
                Value::Object(named.into_iter().collect::<Map<_, _>>())
            }
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

    /// The schema of a line: one of the verb's own, or the error.
    fn lines(self) -> Value {
        let own = match self {
            Self::Stress => schema_for!(StressEvent),
            Self::Probes => schema_for!(probes_events::Event),
            Self::Status => schema_for!(Status),
            Self::Watch => schema_for!(watch::WatchEvent),
        };
        with_error(own)
    }
}

/// A line is one that `own` describes, or the error.
fn with_error(mut own: Schema) -> Value {
    let definitions = own.remove("$defs");
    let title = own.remove("title");
    let dialect = own.remove("$schema");
    let mut error = schema_for!(ErrorEvent<'_>);
    error.remove("$schema");
    json!({"$schema": dialect, "title": title, "anyOf": [own, error], "$defs": definitions.unwrap_or(json!({}))})
}

#[cfg(test)]
mod tests {
    use super::*;

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
