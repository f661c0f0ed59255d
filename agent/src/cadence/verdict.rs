//! Confirmed or not, and why. Pure.

use serde::{Deserialize, Serialize};

use super::report::{NodeReport, NodeState, Period};
use super::{Cadence, Expected};

/// Why the verdict is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Every node that was judged keeps the rhythm.
    OnTime,
    /// A node missed probes or left the rhythm.
    OffRhythm,
    /// The probes have a rhythm, and another interval than the expected one.
    OtherInterval,
    /// The log's time runs backwards.
    OutOfOrder,
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
            Self::OtherInterval => "the probes have another interval: what is the target group set to?",
            Self::OutOfOrder => {
                "the log's time runs backwards: it isn't in the order in which nginx wrote it; judge each log by itself"
            }
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

    /// Whether that is a yes, a no, or neither. `seen` says that there were probes: silence after them isn't what was
    /// expected; silence alone says nothing.
    pub fn answer(self, seen: bool) -> Answer {
        match self {
            Self::OnTime => Answer::Yes,
            Self::OffRhythm | Self::OtherInterval | Self::Stopped => Answer::No,
            Self::NoTraffic if seen => Answer::No,
            _ => Answer::Unknown,
        }
    }
}

/// What is known of the log besides its probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Log {
    /// It is there.
    pub there: bool,
    /// How many lines were read.
    pub lines: u64,
    /// Lines that have the load balancer's name in them and couldn't be read.
    pub unparsed: u64,
    /// None of its lines could be read.
    pub unread: bool,
    /// The time of its first line, milliseconds since 1970.
    pub first_ms: Option<i64>,
    /// The time of its last line.
    pub last_ms: Option<i64>,
    /// How late its lines came, at most; 0 where all came at once.
    pub late_ms: i64,
    /// All that was to be logged by the end of the period is there: else nothing can be missed.
    pub whole: bool,
    /// Its time runs backwards.
    pub out_of_order: bool,
}

/// A verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Confirmed, not so, or cannot tell.
    pub answer: Answer,
    /// Why.
    pub reason: Reason,
    /// The same in words, with names and numbers.
    pub explanation: String,
    /// What is expected; `None` while `auto` has not found it, and where it found several.
    pub expected: Option<Expected>,
    /// Every node.
    pub nodes: Vec<NodeReport>,
}

/// Judges what was seen in `period`, whose end is the wall clock while following, else the log's last time.
pub fn judge(cadence: &Cadence, log: &Log, period: &Period) -> Verdict {
    // What is held back in nginx can't be missed.
    let seen = Period { to_ms: period.to_ms - log.late_ms, ..*period };
    let nodes = cadence.report(&seen);
    let reason = match reason(cadence, &nodes, log, period.to_ms) {
        _ if log.out_of_order && log.lines > 0 => Reason::OutOfOrder,
        Reason::OffRhythm | Reason::Stopped | Reason::NotLogged if !log.whole => Reason::Buffered,
        Reason::NoTraffic if !log.whole && log.there => Reason::Buffered,
        reason => reason,
    };
    let expected = cadence.expected();
    Verdict {
        answer: reason.answer(cadence.last_ms().is_some()),
        reason,
        explanation: explain(reason, &nodes),
        expected,
        nodes,
    }
}

fn reason(cadence: &Cadence, nodes: &[NodeReport], log: &Log, now_ms: i64) -> Reason {
    let slowest = nodes.iter().map(|node| node.other_interval_ms.unwrap_or(node.expected_ms)).max();
    let slowest = slowest.or_else(|| cadence.expected().map(|expected| expected.interval_ms));
    let silence_ms = slowest.map_or(20_000, |ms| Expected::new(ms, None).silence_ms());
    let Some(last_probe) = cadence.last_ms() else {
        let spans = log.first_ms.zip(log.last_ms).map_or(0, |(first, last)| last.max(now_ms) - first);
        return match log {
            Log { unparsed: 1.., .. } | Log { unread: true, .. } => Reason::WrongFormat,
            Log { lines: 0, there: false, .. } => Reason::NoLog,
            Log { lines: 0, .. } => Reason::NoTraffic,
            Log { late_ms: 1.., .. } if spans < silence_ms + log.late_ms => Reason::Buffered,
            _ if spans >= silence_ms => Reason::NotLogged,
            _ => Reason::TooFew,
        };
    };
    let Some(shortest) = nodes.iter().map(|node| node.expected_ms).min() else { return Reason::TooFew };
    if cadence.resolution_ms() * 2 > shortest {
        return Reason::CoarseStamps;
    }
    let judged = || nodes.iter().filter(|node| node.state != NodeState::TooFew);
    if now_ms - last_probe >= silence_ms && judged().next().is_some() {
        let goes_on = log.last_ms.is_some_and(|last| last - last_probe >= silence_ms / 2);
        return match log.late_ms {
            1.. if now_ms - last_probe < silence_ms + 2 * log.late_ms => Reason::Buffered,
            _ if goes_on => Reason::Stopped,
            1.. => Reason::Buffered,
            _ => Reason::NoTraffic,
        };
    }
    let is_other = |node: &&NodeReport| node.state == NodeState::OtherInterval;
    if judged().any(|node| !node.on_time && !is_other(&node)) {
        return Reason::OffRhythm;
    }
    if let Some(other) = judged().find(is_other) {
        // Beside nodes that keep the interval for the same path, it is that node which is out of rhythm.
        let beside = judged().any(|node| node.on_time && node.path == other.path && node.host == other.host);
        return if beside { Reason::OffRhythm } else { Reason::OtherInterval };
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

/// The reason, with names and numbers.
fn explain(reason: Reason, nodes: &[NodeReport]) -> String {
    let blamed: Vec<String> = match reason {
        Reason::OffRhythm | Reason::OtherInterval => {
            nodes.iter().filter_map(|node| blame(node, reason)).collect()
        }
        Reason::OnTime => {
            let all = || nodes.iter();
            all().filter_map(failing).chain(all().filter_map(past)).chain(all().filter_map(besides)).collect()
        }
        _ => Vec::new(),
    };
    let more = match blamed.len() {
        4.. => format!("; and {} more", blamed.len() - 3),
        _ => String::new(),
    };
    let named = blamed.get(..blamed.len().min(3)).unwrap_or_default().join("; ");
    match reason {
        Reason::OnTime if !named.is_empty() => format!("{}, but {named}{more}", reason.explain()),
        _ if named.is_empty() => reason.explain().to_owned(),
        _ => format!("{named}{more}"),
    }
}

/// What is wrong with a node.
fn blame(node: &NodeReport, reason: Reason) -> Option<String> {
    let name = name(node);
    let what = match node.state {
        NodeState::OtherInterval => {
            let interval = seconds(node.other_interval_ms?);
            let expected = seconds(node.expected_ms);
            if reason == Reason::OffRhythm {
                format!("out of rhythm: its interval is {interval}, not {expected}")
            } else {
                format!("its interval is {interval}: is the target group set to {expected}?")
            }
        }
        NodeState::Off | NodeState::Late => {
            let missed = match node.missed_max {
                Some(most) if most == node.missed + 1 => format!("{} or {most}", node.missed),
                Some(most) => format!("{} to {most}", node.missed),
                None => node.missed.to_string(),
            };
            let overdue = if node.state == NodeState::Late { ", the next is overdue" } else { "" };
            let slower = match node.slower_answers {
                true => " (or its answers became slower: log $request_time)",
                false => "",
            };
            format!("{missed} missed, {} out of rhythm{overdue}{slower}", node.off_rhythm)
        }
        _ => return None,
    };
    Some(format!("{name}: {what}"))
}

/// Answers of a node that weren't 2xx.
fn failing(node: &NodeReport) -> Option<String> {
    let codes = node.codes.iter().filter(|(code, _)| !code.starts_with('2'));
    let codes: Vec<String> = codes.map(|(code, count)| format!("{count} with {code}")).collect();
    (!codes.is_empty()).then(|| format!("{} was answered {}", name(node), codes.join(", ")))
}

/// Probes of a node that belong to no rhythm.
fn besides(node: &NodeReport) -> Option<String> {
    (node.extra > 0).then(|| format!("{} sent {} besides, in no rhythm", name(node), node.extra))
}

/// What was wrong with a node that is well again.
fn past(node: &NodeReport) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(node.last_off_ms?).ok()?;
    let (name, missed, off) = (name(node), node.missed, node.off_rhythm);
    let at = at.strftime("%H:%M:%S");
    (missed + off > 0).then(|| format!("{name} had {missed} missed, {off} out of rhythm, last at {at} UTC"))
}

fn name(node: &NodeReport) -> String {
    let of = [node.path.as_deref(), node.host.as_deref()].into_iter().flatten();
    of.fold(node.node.to_string(), |name, more| format!("{name} {more}"))
}

/// Milliseconds as seconds, for people.
pub fn seconds(ms: i64) -> String {
    if ms % 1000 == 0 { format!("{} s", ms / 1000) } else { format!("{:.3} s", ms as f64 / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::super::arrival::{ProbeArrival, Window};
    use super::*;

    fn probe(node: &str, at_ms: i64) -> ProbeArrival {
        let ended = Window::stamped(at_ms, 1);
        ProbeArrival { node: node.parse().unwrap(), stream: 0, ended, took_ms: Some(0), status: Some(200) }
    }

    fn cadence(probes: i64) -> Cadence {
        let mut cadence = Cadence::new(Some(5000), None);
        for n in 0..probes {
            cadence.observe(probe("10.0.0.1", n * 5000));
        }
        cadence
    }

    fn log(lines: u64, first: i64, last: i64, late_ms: i64) -> Log {
        let (first_ms, last_ms) = (Some(first), Some(last));
        Log { there: true, whole: late_ms == 0, lines, first_ms, last_ms, late_ms, ..Log::default() }
    }

    fn verdict(probes: i64, log: &Log, now_ms: i64) -> (Reason, Answer) {
        let verdict = judge(&cadence(probes), log, &Period::until(now_ms));
        (verdict.reason, verdict.answer)
    }

    #[test]
    fn each_kind_of_silence_has_its_reason() {
        let nothing = Log { there: true, whole: true, ..Log::default() };
        let cases = [
            (6, log(6, 0, 25_000, 0), 27_000, Reason::OnTime, Answer::Yes),
            (6, log(90, 0, 60_000, 0), 60_000, Reason::Stopped, Answer::No),
            (6, log(6, 0, 25_000, 0), 60_000, Reason::NoTraffic, Answer::No),
            (6, log(6, 0, 25_000, 30_000), 60_000, Reason::Buffered, Answer::Unknown),
            (0, log(90, 0, 60_000, 0), 60_000, Reason::NotLogged, Answer::Unknown),
            (0, log(2, 0, 1000, 0), 2000, Reason::TooFew, Answer::Unknown),
            (0, nothing, 60_000, Reason::NoTraffic, Answer::Unknown),
            (0, Log { there: false, ..nothing }, 60_000, Reason::NoLog, Answer::Unknown),
            (2, log(2, 0, 5000, 0), 6000, Reason::TooFew, Answer::Unknown),
            (
                6,
                Log { out_of_order: true, ..log(6, 0, 25_000, 0) },
                27_000,
                Reason::OutOfOrder,
                Answer::Unknown,
            ),
        ];
        for (probes, log, now_ms, reason, answer) in cases {
            assert_eq!(verdict(probes, &log, now_ms), (reason, answer), "{log:?} at {now_ms}");
        }
    }

    #[test]
    fn nothing_is_confirmed_while_a_node_has_too_few_probes() {
        let mut cadence = cadence(6);
        let log = log(8, 0, 27_000, 0);
        let reason = |cadence: &Cadence, now_ms| judge(cadence, &log, &Period::until(now_ms)).reason;
        for at_ms in [17_000, 22_000] {
            cadence.observe(probe("10.0.0.2", at_ms));
            assert_eq!(reason(&cadence, 26_000), Reason::TooFew);
        }
        let mut gone = cadence.clone();
        (6..10).for_each(|n| {
            gone.observe(probe("10.0.0.1", n * 5000));
        });
        assert_eq!(reason(&gone, 46_000), Reason::OnTime, "it went away again");
        cadence.observe(probe("10.0.0.2", 27_000));
        assert_eq!(reason(&cadence, 27_500), Reason::OnTime);
    }

    #[test]
    fn what_is_still_held_back_in_nginx_is_not_late() {
        assert_eq!(verdict(6, &log(6, 0, 25_000, 6000), 36_500).0, Reason::OnTime);
        assert_eq!(verdict(6, &log(6, 0, 25_000, 0), 36_500).0, Reason::OffRhythm);
        let held = Log { whole: false, ..log(6, 0, 25_000, 0) };
        assert_eq!(verdict(6, &held, 36_500).0, Reason::Buffered);
    }

    #[test]
    fn probes_in_no_rhythm_beside_one_that_is_right_are_told() {
        let mut cadence = cadence(0);
        for n in 0..40 {
            cadence.observe(probe("10.0.0.1", n * 5000));
            if n % 6 == 0 {
                cadence.observe(probe("10.0.0.1", n * 5000 + 2300));
            }
        }
        let verdict = judge(&cadence, &log(47, 0, 195_000, 0), &Period::until(196_000));
        assert_eq!(verdict.answer, Answer::Yes);
        assert!(verdict.explanation.ends_with("but 10.0.0.1 sent 7 besides, in no rhythm"), "{verdict:?}");
    }

    #[test]
    fn codes_that_are_no_2xx_are_told_though_the_rhythm_is_right() {
        let mut cadence = cadence(6);
        for n in 0..6 {
            cadence.observe(ProbeArrival { status: Some(404), ..probe("10.0.0.2", n * 5000) });
        }
        let verdict = judge(&cadence, &log(12, 0, 25_000, 0), &Period::until(26_000));
        assert_eq!(verdict.answer, Answer::Yes);
        assert!(verdict.explanation.ends_with("but 10.0.0.2 was answered 6 with 404"), "{verdict:?}");
    }
}
