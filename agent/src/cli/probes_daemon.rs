//! What the running daemon knows of probes that no access log has: those that come to its own port.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::cadence::verdict::{Answer, Reason, Verdict};
use crate::cadence::{Expected, NodeReport, NodeState};
use crate::probes::Expect;
use crate::sys::sigwait::Signals;

/// How often it is asked while it can't tell yet.
const EVERY: Duration = Duration::from_secs(1);

/// The daemon's verdict, where the health check asks the agent directly and no log has a probe; asked again until it
/// can tell, or until this time. `None` where no daemon answers, or it has seen none itself.
pub(super) fn verdict(
    admin: SocketAddr,
    expect: Expect,
    patience: Duration,
    signals: &Signals,
) -> Option<Result<Verdict, i32>> {
    let end = Instant::now() + patience;
    loop {
        let verdict = asked(admin, expect)?;
        if verdict.answer != Answer::Unknown || Instant::now() >= end {
            return Some(Ok(verdict));
        }
        if let Ok(Some(signal)) = signals.wait(EVERY) {
            return Some(Err(signal));
        }
    }
}

fn asked(admin: SocketAddr, expect: Expect) -> Option<Verdict> {
    let probes = super::status::ask(admin).ok()?.probes;
    let number = |key: &str| probes.more.get(key).and_then(serde_json::Value::as_i64);
    if number("probes")? > 0 || number("direct_probes")? == 0 {
        return None;
    }
    let interval_ms = number("expected_ms")?;
    let same = match expect {
        Expect::Every(span) => span.0.as_millis() == u128::from(interval_ms.unsigned_abs()),
        Expect::Auto => true,
    };
    if !same {
        return None;
    }
    let reason: Reason = serde_json::from_value(probes.more.get("reason")?.clone()).ok()?;
    let nodes = probes.nodes.iter().map(|node| serde_json::from_value(serde_json::to_value(node).ok()?).ok());
    let nodes: Vec<NodeReport> = nodes.collect::<Option<_>>()?;
    let mut expected = Expected::new(interval_ms, number("tolerance_ms"));
    let mut verdict = Verdict {
        answer: reason.answer(true),
        reason,
        explanation: probes.explanation,
        expected: None,
        nodes,
    };
    // Whatever the interval is: every node has the same other one.
    let other = verdict.nodes.first().and_then(|node| node.other_interval_ms);
    if expect == Expect::Auto
        && let Some(other) = other
        && verdict.nodes.iter().all(|node| node.other_interval_ms == Some(other))
    {
        expected = Expected::new(other, None);
        (verdict.reason, verdict.answer) = (Reason::OnTime, Answer::Yes);
        verdict.explanation = Reason::OnTime.explain().to_owned();
        for node in &mut verdict.nodes {
            (node.state, node.on_time, node.expected_ms) = (NodeState::OnTime, true, other);
        }
    }
    verdict.expected = Some(expected);
    Some(verdict)
}
