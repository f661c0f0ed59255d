//! Confirmed or not, and why. Pure.

use serde::Serialize;

use super::{Cadence, NodeReport, NodeState};
use crate::access_log::scan::Traffic;

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
                 (/usr/share/asg-agent/nginx/log_format.conf) or follow live"
            }
            Self::TooFew => "too few probes so far: a node is judged from its third probe on",
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
/// there is a log at all, `whole` whether all that was to be logged by then is there: else nothing can be missed.
pub fn judge(cadence: &Cadence, traffic: &Traffic, now_ms: i64, there: bool, whole: bool) -> Verdict {
    let law = cadence.law();
    // What is held back in nginx can't be missed.
    let seen_to = now_ms - traffic.late_ms;
    let nodes = cadence.report(seen_to);
    let reason = match reason(cadence, &nodes, traffic, now_ms, there) {
        Reason::OffRhythm | Reason::Stopped | Reason::NotLogged if !whole => Reason::Buffered,
        Reason::NoTraffic if !whole && there => Reason::Buffered,
        reason => reason,
    };
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
            Traffic { unread_blocks: 1.., first_ms: None, .. } => Reason::WrongFormat,
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
    // Of a node that has just come nothing is known yet; one that went away so soon has nothing to do with it.
    let has_just_come =
        |node: &NodeReport| node.state == NodeState::TooFew && now_ms - node.last_ms < silence_ms;
    if judged().any(|node| node.state == NodeState::OnTime) && !nodes.iter().any(has_just_come) {
        Reason::OnTime
    } else {
        Reason::TooFew
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cadence::Beat;

    fn cadence(probes: i64) -> Cadence {
        let mut cadence = Cadence::new(Some(5000), None);
        for n in 0..probes {
            let node = "10.0.0.1".parse().unwrap();
            cadence.observe(Beat { node, key: 0, at_ms: n * 5000, resolution_ms: 1, ok: true });
        }
        cadence
    }

    fn traffic(lines: u64, first: i64, last: i64, late_ms: i64) -> Traffic {
        Traffic { lines, first_ms: Some(first), last_ms: Some(last), late_ms, ..Traffic::default() }
    }

    fn verdict(probes: i64, traffic: &Traffic, now_ms: i64) -> (Reason, Answer) {
        let verdict = judge(&cadence(probes), traffic, now_ms, true, traffic.late_ms == 0);
        (verdict.reason, verdict.answer)
    }

    #[test]
    fn each_kind_of_silence_has_its_reason() {
        let cases = [
            (6, traffic(6, 0, 25_000, 0), 27_000, Reason::OnTime, Answer::Yes),
            (6, traffic(90, 0, 60_000, 0), 60_000, Reason::Stopped, Answer::No),
            (6, traffic(6, 0, 25_000, 0), 60_000, Reason::NoTraffic, Answer::No),
            (6, traffic(6, 0, 25_000, 30_000), 60_000, Reason::Buffered, Answer::Unknown),
            (0, traffic(90, 0, 60_000, 0), 60_000, Reason::NotLogged, Answer::Unknown),
            (0, traffic(2, 0, 1000, 0), 2000, Reason::TooFew, Answer::Unknown),
            (0, Traffic::default(), 60_000, Reason::NoTraffic, Answer::Unknown),
            (2, traffic(2, 0, 5000, 0), 6000, Reason::TooFew, Answer::Unknown),
        ];
        for (probes, traffic, now_ms, reason, answer) in cases {
            assert_eq!(verdict(probes, &traffic, now_ms), (reason, answer), "{traffic:?} at {now_ms}");
        }
    }

    #[test]
    fn nothing_is_confirmed_while_a_node_has_too_few_probes() {
        let mut cadence = cadence(6);
        let other = "10.0.0.2".parse().unwrap();
        let traffic = traffic(8, 0, 27_000, 0);
        let reason = |cadence: &Cadence, now_ms| judge(cadence, &traffic, now_ms, true, true).reason;
        for at_ms in [17_000, 22_000] {
            cadence.observe(Beat { node: other, key: 0, at_ms, resolution_ms: 1, ok: true });
            assert_eq!(reason(&cadence, 26_000), Reason::TooFew);
        }
        let mut gone = cadence.clone();
        (6..10).for_each(|n| {
            gone.observe(Beat {
                node: "10.0.0.1".parse().unwrap(),
                key: 0,
                at_ms: n * 5000,
                resolution_ms: 1,
                ok: true,
            });
        });
        assert_eq!(reason(&gone, 46_000), Reason::OnTime, "it went away again");
        cadence.observe(Beat { node: other, key: 0, at_ms: 27_000, resolution_ms: 1, ok: true });
        assert_eq!(reason(&cadence, 27_500), Reason::OnTime);
    }

    #[test]
    fn what_is_still_held_back_in_nginx_is_not_late() {
        assert_eq!(verdict(6, &traffic(6, 0, 25_000, 6000), 36_500).0, Reason::OnTime);
        assert_eq!(verdict(6, &traffic(6, 0, 25_000, 0), 36_500).0, Reason::OffRhythm);
        let whole = |whole| judge(&cadence(6), &traffic(6, 0, 25_000, 0), 36_500, true, whole).reason;
        assert_eq!((whole(true), whole(false)), (Reason::OffRhythm, Reason::Buffered));
    }

    #[test]
    fn without_a_log_it_says_so() {
        let verdict = judge(&cadence(0), &Traffic::default(), 0, false, true);
        assert_eq!((verdict.reason, verdict.confirmed), (Reason::NoLog, false));
    }
}
