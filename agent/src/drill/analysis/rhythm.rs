//! The load balancer's probes as this target's access log shows them, before the drill and during it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::modal::Stamps;
use crate::access_log::locate::LocateError;
use crate::cadence::NodeReport;
use crate::logtail::wait::News;
use crate::probes::follow::{Follow, recently};
use crate::probes::{Expect, Settings};

/// More rhythms than a load balancer has: whoever sends more doesn't fill the memory.
const MOST: usize = 256;
/// The last probes of a node that say how this target does now.
const LAST: usize = 2;

/// A reader of this target's log.
#[derive(Debug)]
pub struct Rhythm {
    follow: Follow,
    /// Every rhythm: of a node, a path and a host.
    stamps: BTreeMap<(IpAddr, Vec<u8>), Stamps>,
    /// The statuses of each node's last probes.
    last: BTreeMap<IpAddr, VecDeque<u16>>,
}

impl Rhythm {
    /// Finds the log and reads the last few minutes of it.
    ///
    /// # Errors
    /// When there is no log to read.
    pub fn find(settings: &Settings, conf: Option<&Path>) -> Result<Self, LocateError> {
        // What is configured is a wish; here it is measured.
        let settings = Settings { expect: Expect::Auto, ..settings.clone() };
        let located = settings.locate(conf)?;
        let follow = Follow::new(&located, recently(), &settings, &[]);
        let mut rhythm = Self { follow, stamps: BTreeMap::new(), last: BTreeMap::new() };
        rhythm.look();
        Ok(rhythm)
    }

    /// Reads what is new. A log that can't be read right now is no reason to end a drill.
    pub fn look(&mut self) {
        let Self { follow, stamps, last } = self;
        let _ = follow.look(News::None, &mut |found, _| {
            let path = [found.line.path, b"\0", found.line.host.unwrap_or_default()].concat();
            if stamps.len() < MOST || stamps.contains_key(&(found.node, path.clone())) {
                let stream = stamps.entry((found.node, path)).or_default();
                stream.take(found.stamp.at_ms, i64::from(found.stamp.resolution_ms));
                let statuses = last.entry(found.node).or_default();
                statuses.extend(found.line.status);
                while statuses.len() > LAST {
                    statuses.pop_front();
                }
            }
        });
    }

    /// Every node whose probes were seen.
    pub fn nodes(&self) -> Vec<NodeReport> {
        self.follow.report()
    }

    /// The interval that is kept, whatever is missing in between: the slowest node's, as it is the last to notice.
    pub fn interval(&self) -> Option<Duration> {
        let slowest = self.stamps.values().filter_map(Stamps::modal_ms).max()?;
        Some(rounded(Duration::from_millis(u64::try_from(slowest).ok()?)))
    }

    /// Whether the last probes of a node were answered in a way that no health check takes: what they were.
    pub fn unhealthy(&self) -> Option<String> {
        let bad =
            |statuses: &VecDeque<u16>| statuses.len() == LAST && statuses.iter().all(|status| *status >= 500);
        let (node, statuses) = self.last.iter().find(|(_, statuses)| bad(statuses))?;
        let status = statuses.back()?;
        Some(format!(
            "this target is unhealthy already: the last {LAST} probes of {node} were answered with {status}"
        ))
    }
}

/// A target group's interval is whole seconds; a measured one is that, a few milliseconds off.
pub fn rounded(measured: Duration) -> Duration {
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
