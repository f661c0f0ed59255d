//! What `agent probes --json` prints: a line for each probe, and the verdict at the end.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::probes_logs::Sources;
use crate::access_log::locate::Located;
use crate::cadence::NodeReport;
use crate::cadence::verdict::{Reason, Verdict};
use crate::logtail::Gap;
use crate::nginx::conf::Held;
use crate::probes::follow::Follow;

/// A line of `agent probes --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// A probe that was found.
    Probe(ProbeEvent),
    /// The last line.
    Verdict(Box<VerdictEvent>),
}

/// A probe that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ProbeEvent {
    /// The load balancer's address.
    pub(super) node: IpAddr,
    /// When it was answered.
    pub(super) at: String,
    /// The request's method.
    pub(super) method: String,
    /// The request's path.
    pub(super) path: String,
    /// The answer's status code, where the log has it.
    pub(super) status: Option<u16>,
    /// How long it took to answer, where the log has it.
    pub(super) took_ms: Option<i64>,
    /// The time since the one before of the same node and path, milliseconds.
    pub(super) interval_ms: Option<i64>,
}

/// Whether the cadence is confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct VerdictEvent {
    /// Whether the probes come in the expected rhythm.
    confirmed: bool,
    /// Why, or why not.
    reason: Reason,
    /// Whether it is the running daemon's, of probes that come to its own port and are in no log.
    by_daemon: bool,
    /// The same in words.
    explanation: String,
    /// The interval; `null` while `auto` has not found it, or where it found several.
    expected_ms: Option<i64>,
    /// How far an interval may be off.
    tolerance_ms: Option<i64>,
    /// Every node; where it probes several paths, one entry for each.
    nodes: Vec<NodeReport>,
    /// The first of the logs.
    log: Option<PathBuf>,
    /// The logs that were judged, and what was left out.
    #[serde(flatten)]
    sources: Sources,
    /// Lines that were read.
    lines: u64,
    /// Bytes that were read.
    bytes: u64,
    /// Lines that are probes.
    probes: u64,
    /// Probes of other paths than the one of `--path`.
    other_paths: u64,
    /// Lines with the load balancer's User-Agent that didn't come from it.
    spoofed: u64,
    /// Lines that name the load balancer and aren't of the format.
    unparsed: u64,
    /// Lines that were too long.
    overlong: u64,
    /// How often lines may have been lost.
    gaps: u64,
    /// How, the last time.
    last_gap: Option<Gap>,
    /// Whether a forged User-Agent would show.
    verifiable: bool,
    /// How late lines came at most, milliseconds.
    late_ms: i64,
    /// Whether nginx holds lines back, by its configuration.
    buffered: bool,
    /// For how long at most, where that is known.
    flush_ms: Option<u64>,
}

impl VerdictEvent {
    /// It is the daemon's.
    pub(super) fn by_daemon(mut self) -> Self {
        self.by_daemon = true;
        self.probes = self.nodes.iter().map(|node| node.probes).sum();
        self
    }

    pub(super) fn new(verdict: &Verdict, follow: &Follow, located: &Located, explanation: String) -> Self {
        let traffic = follow.traffic();
        Self {
            confirmed: verdict.reason == Reason::OnTime,
            reason: verdict.reason,
            by_daemon: false,
            explanation,
            expected_ms: verdict.expected.map(|expected| expected.interval_ms),
            tolerance_ms: verdict.expected.map(|expected| expected.tolerance_ms),
            nodes: verdict.nodes.clone(),
            log: follow.logs.each().next().map(|(log, ..)| log.path.clone()),
            sources: Sources::of(follow, located),
            lines: traffic.lines,
            bytes: traffic.bytes,
            probes: traffic.probes,
            other_paths: follow.other_paths(),
            spoofed: traffic.spoofed,
            unparsed: traffic.unparsed,
            overlong: follow.logs.overlong(),
            gaps: follow.gaps,
            last_gap: follow.last_gap,
            verifiable: follow.verifiable(),
            late_ms: traffic.late_ms,
            buffered: follow.held() != Held::No,
            flush_ms: match follow.held() {
                Held::Until(flush) => u64::try_from(flush.as_millis()).ok(),
                Held::No | Held::Unbounded => None,
            },
        }
    }
}
