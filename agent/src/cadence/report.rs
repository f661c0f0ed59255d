//! What is told of a node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sys::clock::rfc3339;

/// The time that is judged, milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// What was missing before this is past, and so is a rhythm that was found again; `None` for all that was seen.
    pub from_ms: Option<i64>,
    /// Up to here probes had to come.
    pub to_ms: i64,
}

impl Period {
    /// All that was seen until then.
    pub fn until(to_ms: i64) -> Self {
        Self { from_ms: None, to_ms }
    }
}

/// How a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Every probe came in its rhythm.
    OnTime,
    /// Probes were missed, or came too early or too late.
    Off,
    /// It has a rhythm, and another interval than the expected one.
    OtherInterval,
    /// The next probe is overdue.
    Late,
    /// It went away while others went on.
    Gone,
    /// Too few probes to judge.
    TooFew,
}

/// What is known of one node's probes of one path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeReport {
    /// Its address.
    pub node: IpAddr,
    /// The path that it probes; only where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The Host that it names; only where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// They came to the agent's own listener; `false` for those in the access log.
    #[serde(default)]
    pub direct: bool,
    /// How many probes it sent.
    pub probes: u64,
    /// How many it should have sent besides, in the time that is judged.
    pub missed: u64,
    /// So many at most, where the log's times don't tell exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_max: Option<u64>,
    /// How many it should have sent besides, since the start.
    #[serde(default)]
    pub missed_total: u64,
    /// How many are overdue right now. Once a probe comes in its rhythm again they are in `missed_total`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overdue: u64,
    /// The smallest interval, milliseconds.
    pub interval_min_ms: Option<i64>,
    /// The median.
    pub interval_p50_ms: Option<i64>,
    /// The largest.
    pub interval_max_ms: Option<i64>,
    /// Whether all of it kept the rhythm.
    pub on_time: bool,
    /// In a word.
    pub state: NodeState,
    /// How many rhythms it has.
    pub streams: usize,
    /// The interval that it should have, milliseconds.
    pub expected_ms: i64,
    /// Its interval, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_interval_ms: Option<i64>,
    /// Since when, where not all of its probes have it.
    #[serde(
        rename = "other_since",
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_some_time",
        deserialize_with = "from_some_time"
    )]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub other_since_ms: Option<i64>,
    /// Probes too early or too late, in the time that is judged.
    pub off_rhythm: u64,
    /// When a probe was last missed or out of rhythm.
    #[serde(
        rename = "last_off_rhythm",
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_some_time",
        deserialize_with = "from_some_time"
    )]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub last_off_ms: Option<i64>,
    /// Probes that belong to no rhythm.
    pub extra: u64,
    /// Probes that weren't answered with 2xx.
    pub not_ok: u64,
    /// How often each status code was the answer.
    pub codes: BTreeMap<String, u64>,
    /// Whether what is out of rhythm may as well be answers that became slower: the log doesn't say how long they took.
    #[serde(default)]
    pub slower_answers: bool,
    /// The first probe, milliseconds since 1970.
    #[serde(rename = "first_seen", serialize_with = "as_time", deserialize_with = "from_time")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub first_ms: i64,
    /// The last probe, milliseconds since 1970.
    #[serde(rename = "last_seen", serialize_with = "as_time", deserialize_with = "from_time")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub last_ms: i64,
}

impl NodeReport {
    /// All times so many milliseconds later.
    pub fn shift(&mut self, by_ms: i64) {
        self.first_ms += by_ms;
        self.last_ms += by_ms;
        for time in [&mut self.last_off_ms, &mut self.other_since_ms].into_iter().flatten() {
            *time += by_ms;
        }
    }
}

/// Milliseconds since 1970 as every time in our output is written.
///
/// # Errors
/// As the serializer.
pub fn as_time<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(Timestamp::from_millisecond(*ms).unwrap_or_default()))
}

/// The same where there may be none.
///
/// # Errors
/// As the serializer.
pub fn as_some_time<S: Serializer>(ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match ms {
        Some(ms) => as_time(ms, serializer),
        None => serializer.serialize_none(),
    }
}

fn from_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    parse(&String::deserialize(deserializer)?)
}

/// Reads what [`as_some_time`] wrote.
///
/// # Errors
/// When it is no time.
pub fn from_some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Option::<String>::deserialize(deserializer)?.map(|text| parse(&text)).transpose()
}

fn parse<E: serde::de::Error>(text: &str) -> Result<i64, E> {
    text.parse::<Timestamp>().map(Timestamp::as_millisecond).map_err(E::custom)
}

// As serde wants it.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
