//! The load balancer's probes as this target's access log shows them, before the drill and during it.

use std::path::Path;
use std::time::Duration;

use crate::access_log::locate::LocateError;
use crate::cadence::{NodeReport, NodeState};
use crate::logtail::Tail;
use crate::probes::follow::{Follow, now_ms, recently};
use crate::probes::{Expect, Settings};

/// A reader of this target's log.
#[derive(Debug)]
pub struct Rhythm(Follow);

impl Rhythm {
    /// Finds the log and reads the last few minutes of it.
    ///
    /// # Errors
    /// When there is no log to read.
    pub fn find(settings: &Settings, conf: Option<&Path>) -> Result<Self, LocateError> {
        // What is configured is a wish; here it is measured.
        let settings = Settings { expect: Expect::Auto, ..settings.clone() };
        let located = settings.locate(conf)?;
        let mut rhythm = Self(Follow::new(Tail::new(&located.path, recently(&located)), &located, &settings));
        rhythm.look();
        Ok(rhythm)
    }

    /// Reads what is new. A log that can't be read right now is no reason to end a drill.
    pub fn look(&mut self) {
        let _ = self.0.look(false, &mut |_, _| {});
    }

    /// Every node whose probes were seen.
    pub fn nodes(&self) -> Vec<NodeReport> {
        self.0.cadence.report(now_ms())
    }

    /// The interval, where a node has kept one: the slowest node's, as it is the last to notice.
    pub fn interval(&self) -> Option<Duration> {
        let steady = |node: &NodeReport| matches!(node.state, NodeState::OnTime);
        let nodes = self.nodes();
        let slowest =
            nodes.iter().filter(|node| steady(node)).filter_map(|node| node.interval_p50_ms).max()?;
        Some(rounded(Duration::from_millis(u64::try_from(slowest).ok()?)))
    }
}

/// A target group's interval is whole seconds; a measured one is that, a few milliseconds off.
fn rounded(measured: Duration) -> Duration {
    let whole = Duration::from_secs(measured.as_secs_f64().round() as u64);
    if whole.abs_diff(measured) <= Duration::from_millis(50) && !whole.is_zero() { whole } else { measured }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_interval_near_whole_seconds_is_that() {
        let ms = Duration::from_millis;
        assert_eq!((rounded(ms(5003)), rounded(ms(9998))), (ms(5000), ms(10_000)));
        assert_eq!((rounded(ms(500)), rounded(ms(20)), rounded(ms(1300))), (ms(500), ms(20), ms(1300)));
    }
}
