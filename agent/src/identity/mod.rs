//! Who this instance is and what AWS is about to do with it, from the instance metadata service, version 2 only
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>). Asked in the
//! background; whoever needs the answer reads the last snapshot.

mod backoff;
mod imds;
mod refresh;

pub use refresh::watch;

use serde::{Deserialize, Serialize};

use crate::config::{Invalid, Span};

/// `[identity]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The metadata service.
    pub endpoint: String,
    /// How often the lifecycle state and the notices are read.
    pub refresh: Span,
    /// Which of them turn `/health` to 503, so that the load balancer stops sending before the instance goes.
    pub drain_on: Vec<Notice>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: "http://169.254.169.254".into(),
            refresh: Span::millis(10_000),
            drain_on: Vec::new(),
        }
    }
}

impl Settings {
    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), Invalid> {
        let url = reqwest::Url::parse(&self.endpoint);
        if !url.is_ok_and(|url| url.scheme() == "http" && url.has_host()) {
            let message = format!("\"{}\" is no http:// address", self.endpoint);
            return Err(Invalid::new("identity.endpoint", message));
        }
        if self.refresh < Span::millis(1000) {
            return Err(Invalid::new("identity.refresh", "must be at least 1s"));
        }
        Ok(())
    }
}

/// What AWS may announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notice {
    /// The Auto Scaling group is taking the instance out of service.
    Lifecycle,
    /// EC2 is about to stop, terminate or hibernate a Spot instance.
    Spot,
    /// EC2 sees a higher risk that it will.
    Rebalance,
}

/// Whether the metadata service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Not asked to the end yet, or not answering at the moment.
    #[default]
    Unknown,
    /// There is none, or none that speaks version 2.
    None,
    /// It answered.
    Imds,
}

/// What is known of this instance. A value that the service doesn't have is `"none"`, one that hasn't been asked
/// for yet is `"unknown"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Where it comes from.
    pub source: Source,
    /// `i-…`
    pub instance: String,
    /// The Availability Zone.
    pub zone: String,
    /// The instance type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `autoscaling/target-lifecycle-state`: `InService`, `Terminated`, …
    pub lifecycle_state: String,
    /// `spot/instance-action`: what and when, as AWS's JSON.
    pub spot_action: String,
    /// `events/recommendations/rebalance`: when, as AWS's JSON.
    pub rebalance: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self::all("unknown", Source::Unknown)
    }
}

impl Identity {
    fn all(value: &str, source: Source) -> Self {
        let value = || value.to_owned();
        Self {
            source,
            instance: value(),
            zone: value(),
            kind: value(),
            lifecycle_state: value(),
            spot_action: value(),
            rebalance: value(),
        }
    }

    /// The first of `notices` that has been given, in words.
    ///
    /// `Terminated` and `Detached` are the target states on the way out
    /// (<https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html>).
    pub fn leaving(&self, notices: &[Notice]) -> Option<String> {
        let told = |value: &str| value != "none" && value != "unknown";
        notices.iter().find_map(|notice| match notice {
            Notice::Lifecycle => ["Terminated", "Detached"]
                .contains(&self.lifecycle_state.as_str())
                .then(|| format!("the Auto Scaling group's target state is {}", self.lifecycle_state)),
            Notice::Spot => told(&self.spot_action).then(|| format!("Spot notice {}", self.spot_action)),
            Notice::Rebalance => {
                told(&self.rebalance).then(|| format!("rebalance recommendation {}", self.rebalance))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_chosen_notices_count_and_only_once_given() {
        let all = [Notice::Lifecycle, Notice::Spot, Notice::Rebalance];
        assert_eq!(Identity::default().leaving(&all), None);
        let quiet = Identity { lifecycle_state: "InService".into(), ..Identity::all("none", Source::Imds) };
        assert_eq!(quiet.leaving(&all), None);
        let going = Identity { lifecycle_state: "Terminated".into(), ..quiet.clone() };
        assert!(going.leaving(&all).unwrap().contains("Terminated"));
        assert_eq!(going.leaving(&[Notice::Spot]), None);
        assert_eq!(going.leaving(&[]), None);
        let spot = Identity { spot_action: "{\"action\":\"terminate\"}".into(), ..quiet };
        assert!(spot.leaving(&all).unwrap().contains("terminate"));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let endpoint = Settings { endpoint: "169.254.169.254".into(), ..Settings::default() };
        assert_eq!(endpoint.validate().unwrap_err().key, "identity.endpoint");
        let refresh = Settings { refresh: Span::millis(10), ..Settings::default() };
        assert_eq!(refresh.validate().unwrap_err().key, "identity.refresh");
        assert!(Settings::default().validate().is_ok());
    }
}
