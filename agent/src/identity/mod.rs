//! Who this instance is and what AWS is about to do with it, from the instance metadata service, version 2 only
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>). Asked in the
//! background; whoever needs the answer reads the last snapshot.

mod backoff;
mod hardware;
mod imds;
mod network;
mod notice;
mod reading;
mod refresh;

pub use network::vpc_networks;
pub use refresh::watch;

use std::path::PathBuf;

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
    /// The file in which the kernel shows the instance's id on Nitro instances, for where the service is switched off.
    pub hardware: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: "http://169.254.169.254".into(),
            refresh: Span::millis(10_000),
            drain_on: Vec::new(),
            hardware: "/sys/devices/virtual/dmi/id/board_asset_tag".into(),
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
    /// The Auto Scaling group is taking the instance out of service, or has not put it in.
    Lifecycle,
    /// EC2 is about to stop, terminate or hibernate a Spot instance.
    Spot,
    /// EC2 sees a higher risk that it will.
    Rebalance,
}

/// Whether the metadata service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// Where the instance's id was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum IdFrom {
    /// `meta-data/instance-id` of the metadata service.
    Imds,
    /// The instance identity document of the metadata service.
    Document,
    /// The hardware's asset tag.
    Hardware,
}

/// How a path of the metadata service stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PathState {
    /// Below `latest/meta-data/`.
    pub path: String,
    /// When it last answered (RFC 3339): what is told of it is of then.
    pub answered: Option<String>,
    /// Why the last question had no answer.
    pub error: Option<String>,
}

/// What is known of this instance. A value that the service doesn't have is `"none"`, one that hasn't been asked
/// for yet is `"unknown"`. A value stays until the service says another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Identity {
    /// Whether the metadata service answers.
    pub source: Source,
    /// `i-…`
    pub instance: String,
    /// Where that was read.
    #[serde(default)]
    pub instance_from: Option<IdFrom>,
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
    /// Each path that is asked for.
    #[serde(default)]
    pub paths: Vec<PathState>,
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
            instance_from: None,
            zone: value(),
            kind: value(),
            lifecycle_state: value(),
            spot_action: value(),
            rebalance: value(),
            paths: Vec::new(),
        }
    }

    /// The instance's id, from whichever source has it.
    pub fn instance_id(&self) -> Option<&str> {
        is_told(&self.instance).then_some(self.instance.as_str())
    }

    /// The instance's type, such as `t3.micro`.
    pub fn instance_type(&self) -> Option<&str> {
        is_told(&self.kind).then_some(self.kind.as_str())
    }

    /// The first of `notices` that has been given, in words.
    ///
    /// The target state of an instance that serves is `InService`; every other one is of an instance that is on its
    /// way out, in standby or in a warm pool (`Terminated`, `Detached`, `Standby`, `Warmed:…`; the `Retained` states
    /// are of instances that are past `Terminated`). "Retrieve the target lifecycle state through instance metadata",
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html>,
    /// read 2026-11-27.
    pub fn leaving(&self, notices: &[Notice]) -> Option<String> {
        notices.iter().find_map(|notice| match notice {
            Notice::Lifecycle => (is_told(&self.lifecycle_state) && self.lifecycle_state != "InService")
                .then(|| format!("the Auto Scaling group's target state is {}", self.lifecycle_state)),
            Notice::Spot => is_told(&self.spot_action).then(|| notice::spot(&self.spot_action)),
            Notice::Rebalance => is_told(&self.rebalance).then(|| notice::rebalance(&self.rebalance)),
        })
    }
}

/// Whether a value is one of the service's.
fn is_told(value: &str) -> bool {
    value != "none" && value != "unknown"
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Notice; 3] = [Notice::Lifecycle, Notice::Spot, Notice::Rebalance];

    #[test]
    fn only_the_chosen_notices_count_and_only_once_given() {
        assert_eq!(Identity::default().leaving(&ALL), None);
        let quiet = Identity { lifecycle_state: "InService".into(), ..Identity::all("none", Source::Imds) };
        assert_eq!(quiet.leaving(&ALL), None);
        let going = Identity { lifecycle_state: "Terminated".into(), ..quiet.clone() };
        assert!(going.leaving(&ALL).unwrap().contains("Terminated"));
        assert_eq!(going.leaving(&[Notice::Spot]), None);
        assert_eq!(going.leaving(&[]), None);
        let spot = Identity { spot_action: "{\"action\":\"terminate\"}".into(), ..quiet };
        assert!(spot.leaving(&ALL).unwrap().contains("terminate"));
    }

    #[test]
    fn every_state_but_in_service_is_one_of_leaving_or_of_not_having_come() {
        let at = |state: &str| Identity { lifecycle_state: state.into(), ..Identity::default() };
        for state in [
            "Terminated",
            "Detached",
            "Standby",
            "Warmed:Running",
            "Warmed:Stopped",
            "Warmed:Hibernated",
            "Warmed:Terminated",
            "Terminating:Retained",
            "Warmed:Terminating:Retained",
            "ReplacingRootVolume",
            "SomethingNew",
        ] {
            assert!(at(state).leaving(&ALL).unwrap().contains(state), "{state}");
        }
        for state in ["InService", "none", "unknown"] {
            assert_eq!(at(state).leaving(&ALL), None, "{state}");
        }
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
