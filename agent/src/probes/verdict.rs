//! Confirmed or not, and why. Pure.

use serde::Serialize;

use super::cadence::{Cadence, NodeReport, NodeState};
use super::scan::Traffic;

/// Why the verdict is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Every node that was judged keeps the rhythm.
    OnTime,
    /// A node missed probes or left the rhythm.
    OffRhythm,
    /// Probes ended while other traffic goes on.
    Stopped,
    /// Nothing is logged any more, probes or other.
    NoTraffic,
    /// Requests are logged, and never a probe.
    NotLogged,
    /// Lines arrive in bursts and late: what isn't there may yet come.
    Buffered,
    /// Lines name the load balancer and aren't of the format.
    WrongFormat,
    /// The stamps are too coarse for so short an interval.
    CoarseStamps,
    /// Too little was seen.
    TooFew,
    /// There is no log (yet).
    NoLog,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Confirmed.
    Yes,
    /// Not so.
    No,
    /// Cannot tell.
    Unknown,
}

impl Reason {
    /// What it means and what to do about it.
    pub fn explain(self) -> &'static str {
        match self {
            Self::OnTime => "every node keeps the rhythm",
            Self::OffRhythm => "probes are missing or out of rhythm",
            Self::Stopped => "probes have stopped",
            Self::NoTraffic => "nothing is being logged: does nginx run, and does it log to this file?",
            Self::NotLogged => {
                "requests are logged but no probe: is the log off where the load balancer probes (access_log off), \
                 or is this another server's log?"
            }
            Self::Buffered => {
                "lines reach the log late and in bursts (access_log … buffer=): probes may be waiting in nginx"
            }
            Self::WrongFormat => "the lines are not of the expected format: give it with --format",
            Self::CoarseStamps => {
                "the log's times are too coarse for so short an interval: log $msec \
                 (packaging/nginx/log_format.conf) or follow live"
            }
            Self::TooFew => "too few probes so far: one proves nothing",
            Self::NoLog => "there is no log yet",
        }
    }
}

/// A verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether the cadence is confirmed.
    pub confirmed: bool,
    /// Confirmed, not so, or cannot tell.
    #[serde(skip)]
    pub answer: Answer,
    /// Why.
    pub reason: Reason,
    /// The interval; `None` while `auto` has not found it.
    pub expected_ms: Option<i64>,
    /// How far an interval may be off.
    pub tolerance_ms: Option<i64>,
    /// Every node.
    pub nodes: Vec<NodeReport>,
}

/// Judges what was seen by `now_ms`: the wall clock while following, else the log's last time. `there` says whether
/// there is a log at all.
pub fn judge(cadence: &Cadence, traffic: &Traffic, now_ms: i64, there: bool) -> Verdict {
    let law = cadence.law();
    // What is held back in nginx can't be missed.
    let seen_to = now_ms - traffic.late_ms;
    let nodes = cadence.report(seen_to);
    let reason = reason(cadence, &nodes, traffic, now_ms, there);
    Verdict {
        confirmed: reason == Reason::OnTime,
        answer: match reason {
            Reason::OnTime => Answer::Yes,
            Reason::OffRhythm | Reason::Stopped => Answer::No,
            // Silence after probes isn't what was expected; silence alone says nothing.
            Reason::NoTraffic if cadence.last_ms().is_some() => Answer::No,
            _ => Answer::Unknown,
        },
        reason,
        expected_ms: law.map(|law| law.interval_ms),
        tolerance_ms: law.map(|law| law.tolerance(cadence.resolution_ms())),
        nodes,
    }
}

fn reason(cadence: &Cadence, nodes: &[NodeReport], traffic: &Traffic, now_ms: i64, there: bool) -> Reason {
    let silence_ms = cadence.law().map_or(20_000, |law| law.silence_ms());
    let Some(last_probe) = cadence.last_ms() else {
        let spans = traffic.first_ms.zip(traffic.last_ms).map_or(0, |(first, last)| last.max(now_ms) - first);
        return match traffic {
            Traffic { unparsed: 1.., .. } => Reason::WrongFormat,
            Traffic { lines: 0, .. } if !there => Reason::NoLog,
            Traffic { lines: 0, .. } => Reason::NoTraffic,
            Traffic { late_ms: 1.., .. } if spans < silence_ms + traffic.late_ms => Reason::Buffered,
            _ if spans >= silence_ms => Reason::NotLogged,
            _ => Reason::TooFew,
        };
    };
    let Some(law) = cadence.law() else { return Reason::TooFew };
    if cadence.resolution_ms() * 2 > law.interval_ms {
        return Reason::CoarseStamps;
    }
    let judged = || nodes.iter().filter(|node| node.state != NodeState::TooFew);
    if now_ms - last_probe >= silence_ms && judged().next().is_some() {
        let goes_on = traffic.last_ms.is_some_and(|last| last - last_probe >= silence_ms / 2);
        return match traffic.late_ms {
            1.. if now_ms - last_probe < silence_ms + 2 * traffic.late_ms => Reason::Buffered,
            _ if goes_on => Reason::Stopped,
            1.. => Reason::Buffered,
            _ => Reason::NoTraffic,
        };
    }
    if judged().any(|node| !node.on_time) {
        return Reason::OffRhythm;
    }
    if judged().any(|node| node.state == NodeState::OnTime) { Reason::OnTime } else { Reason::TooFew }
}
