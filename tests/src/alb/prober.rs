//! One node's checks of one target.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::Request;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout_at};

use super::event::{Event, Journal, Probe, Transition};
use super::settings::Check;
use super::state::{Outcome, State, Tracker, Trouble, failure};
use super::target::{Connection, Target};

/// An answer longer than this counts as malformed: our model, AWS documents no limit.
const LONGEST_BODY: usize = 1 << 20;

/// Checks one target for one node.
#[derive(Debug)]
pub(super) struct Prober {
    pub(super) node: usize,
    pub(super) source: Ipv4Addr,
    pub(super) target: Arc<Target>,
    pub(super) start: std::time::Instant,
    pub(super) check: Arc<Check>,
    pub(super) journal: Arc<Journal>,
}

impl Prober {
    /// Checks for ever, from `first` on.
    ///
    /// "Each health check request is independent and the result lasts for the entire interval. The time that it takes
    /// for the target to respond does not affect the interval for the next health check request" ("Health check
    /// settings",
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html#health-check-settings>):
    /// the schedule is absolute. A tick that this machine missed altogether is left out, not made up for.
    pub(super) async fn run(self, first: Instant) {
        let mut tracker = Tracker::new();
        let mut schedule = interval_at(first, self.check.interval);
        schedule.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for count in 0.. {
            let due = schedule.tick().await + jitter(self.check.jitter, count);
            sleep_until(due).await;
            let outcome = self.probe(due).await;
            self.tell(due, outcome, &mut tracker);
        }
    }

    /// One check: `GET` with HTTP/1.1 on a connection of its own ("after each health check is completed, the load
    /// balancer node closes the connection that was established for the health check", same page). "The Host header
    /// value contains the private IP address of the target, followed by the health check port. The User-Agent is set
    /// to ELB-HealthChecker/2.0" ("How do I troubleshoot failed health checks for Application Load Balancers?",
    /// <https://repost.aws/knowledge-center/elb-fix-failing-health-checks-alb>).
    async fn probe(&self, due: Instant) -> Outcome {
        let exchange = async {
            let mut connection = Connection::open(self.source, self.target.addr).await.ok()?;
            let request = Request::get(&self.check.path)
                .header(HOST, self.target.addr.to_string())
                .header(CONNECTION, "close")
                .header(USER_AGENT, "ELB-HealthChecker/2.0")
                .body(Body::empty())
                .ok()?;
            let response = connection.sender.send_request(request).await.ok()?;
            let code = response.status().as_u16();
            to_bytes(Body::new(response.into_body()), LONGEST_BODY).await.ok()?;
            Some(code)
        };
        match timeout_at(due + self.check.timeout, exchange).await {
            Err(_) => Err(Trouble::Timeout),
            Ok(None) => Err(Trouble::Failed),
            Ok(Some(code)) => Ok(code),
        }
    }

    fn tell(&self, due: Instant, outcome: Outcome, tracker: &mut Tracker) {
        let Self { node, ref target, ref check, .. } = *self;
        let passed = failure(check, outcome).is_none();
        let (at, took) = (due.into_std(), due.elapsed());
        self.journal.record(Event::Probe(Probe { node, target: target.addr, at, took, outcome, passed }));
        if let Some(to) = tracker.take(check, outcome) {
            let from = target.health.send_replace(to).state;
            // "If you register targets with an empty target group", they don't enter slow start; which ones count as the first
            // is our model: those that are healthy within three intervals.
            let first = from == State::Initial && self.start.elapsed() < 3 * check.interval;
            if to.state == State::Healthy && !first {
                target.weight().healthy(self.start.elapsed());
            }
            let at = std::time::Instant::now();
            self.journal.record(Event::Transition(Transition { node, target: target.addr, at, from, to }));
        }
    }
}

/// A delay below `most` that looks random and is the same in each run (the finaliser of splitmix64).
fn jitter(most: Duration, count: u32) -> Duration {
    let mut z = u64::from(count).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = u32::try_from((z >> 48) & 0xffff).unwrap_or_default();
    most * part / 0x1_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_below_its_bound_and_varies() {
        let most = Duration::from_millis(100);
        let delays: Vec<_> = (0..50).map(|count| jitter(most, count)).collect();
        assert!(delays.iter().all(|delay| *delay < most));
        assert!(delays.iter().max() > delays.iter().min());
        assert_eq!(jitter(Duration::ZERO, 7), Duration::ZERO);
    }
}
