//! How long a datapoint is, and how many of them an alarm takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The length of a datapoint.
///
/// - 60 s is standard resolution: EC2's detailed monitoring.
/// - 5 minutes is EC2's basic monitoring
///   (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/manage-detailed-monitoring.html>).
/// - 10 s, 20 s and 30 s are high resolution: `ASGAverageCPUUtilizationHighResolution` (botocore 1.44.2, 2026-11-12), and
///   `Period` of a customized metric, 10, 30 or 60
///   (<https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_TargetTrackingMetricStat.html>); ECS uses 20 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Period {
    /// High resolution.
    #[serde(rename = "10s")]
    Ten,
    /// High resolution.
    #[serde(rename = "20s")]
    Twenty,
    /// High resolution.
    #[serde(rename = "30s")]
    Thirty,
    /// Standard resolution, detailed monitoring.
    #[default]
    #[serde(rename = "60s")]
    Minute,
    /// Basic monitoring.
    #[serde(rename = "5m")]
    FiveMinutes,
}

/// Datapoints above the target, in a row. What the alarms show that target tracking makes at standard resolution (3 out
/// of 3); AWS documents that it makes and owns them, not how many datapoints they take
/// (<https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html>, read 2026-11). For other
/// periods it is inferred from that.
pub const DATAPOINTS: u32 = 3;

/// How long after its end a datapoint may appear in CloudWatch: seen in practice, not documented.
pub const PUBLICATION: Duration = Duration::from_secs(120);

impl Period {
    /// The one of this length.
    pub fn of(length: Duration) -> Option<Self> {
        let all = [Self::Ten, Self::Twenty, Self::Thirty, Self::Minute, Self::FiveMinutes];
        all.into_iter().find(|period| Duration::from_secs(period.secs().unsigned_abs()) == length)
    }

    /// Its length in seconds.
    pub fn secs(self) -> i64 {
        match self {
            Self::Ten => 10,
            Self::Twenty => 20,
            Self::Thirty => 30,
            Self::Minute => 60,
            Self::FiveMinutes => 300,
        }
    }

    /// So many datapoints, in words: "3 minutes", "3 x 10 s".
    pub fn times(self, count: usize) -> String {
        match self {
            Self::Minute if count == 1 => "1 minute".to_owned(),
            Self::Minute => format!("{count} minutes"),
            Self::FiveMinutes => format!("{count} x 5 minutes"),
            _ => format!("{count} x {} s", self.secs()),
        }
    }

    /// A run of this many seconds covers all datapoints in full whenever it begins.
    pub fn always_enough_secs(self) -> i64 {
        (i64::from(DATAPOINTS) + 1) * self.secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_periods_hold_three_full_ones_whenever_they_begin() {
        let all = [10, 20, 30, 60, 300].map(|s| Period::of(Duration::from_secs(s)).unwrap());
        assert_eq!(all.map(Period::always_enough_secs), [40, 80, 120, 240, 1200]);
        for period in all {
            for begin in 0..period.secs() {
                let end = begin + period.always_enough_secs();
                let first = (begin + period.secs() - 1) / period.secs();
                assert!(end / period.secs() - first >= 3, "{period:?} at {begin}");
            }
        }
        assert_eq!(Period::of(Duration::from_secs(15)), None);
    }
}
