//! Asking again and again: the facts once, the notices every few seconds, after a failure ever more rarely.

use std::time::Duration;

use tokio::sync::watch;

use super::backoff::{Backoff, random};
use super::imds::{Imds, ImdsError};
use super::{Identity, Settings, Source};

/// Starts asking on the current runtime and returns the snapshot that is kept up to date. Ends with its receivers.
pub fn watch(settings: Settings) -> watch::Receiver<Identity> {
    let (sender, receiver) = watch::channel(Identity::default());
    tokio::spawn(async move {
        match Imds::new(&settings.endpoint) {
            Ok(imds) => refresh(imds, settings.refresh.0, sender).await,
            Err(e) => tracing::error!("no HTTP client for the instance metadata service: {e}"),
        }
    });
    receiver
}

async fn refresh(mut imds: Imds, every: Duration, sender: watch::Sender<Identity>) {
    let mut backoff = Backoff::default();
    let mut known: Option<Identity> = None;
    while !sender.is_closed() {
        let wait = match ask(&mut imds, known.as_ref()).await {
            Ok(identity) => {
                if known.is_none() {
                    tracing::info!("instance {} in {}", identity.instance, identity.zone);
                }
                publish(&sender, identity.clone());
                known = Some(identity);
                backoff.reset();
                every
            }
            Err(e) => {
                let now = after_failure(known.as_ref(), &e);
                let is_there = now.source != Source::None;
                if sender.borrow().source != now.source {
                    tracing::info!("{e}; asking again ever more rarely");
                }
                publish(&sender, now);
                backoff.failed(is_there, random())
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// The facts don't change while the instance runs; a notice that can't be read any more is no longer known.
fn after_failure(known: Option<&Identity>, error: &ImdsError) -> Identity {
    match (known, error) {
        (Some(known), _) => {
            let unknown = Identity::default();
            Identity {
                source: Source::Unknown,
                lifecycle_state: unknown.lifecycle_state,
                spot_action: unknown.spot_action,
                rebalance: unknown.rebalance,
                ..known.clone()
            }
        }
        (None, ImdsError::Absent { .. } | ImdsError::NoToken { .. }) => Identity::all("none", Source::None),
        (None, _) => Identity::default(),
    }
}

fn publish(sender: &watch::Sender<Identity>, identity: Identity) {
    sender.send_if_modified(|now| {
        let changed = *now != identity;
        *now = identity;
        changed
    });
}

async fn ask(imds: &mut Imds, known: Option<&Identity>) -> Result<Identity, ImdsError> {
    async fn value(imds: &mut Imds, path: &str) -> Result<String, ImdsError> {
        Ok(imds.get(path).await?.unwrap_or_else(|| "none".to_owned()))
    }
    let (instance, zone, kind) = match known {
        Some(known) => (known.instance.clone(), known.zone.clone(), known.kind.clone()),
        None => (
            value(imds, "instance-id").await?,
            value(imds, "placement/availability-zone").await?,
            value(imds, "instance-type").await?,
        ),
    };
    Ok(Identity {
        source: Source::Imds,
        instance,
        zone,
        kind,
        lifecycle_state: value(imds, "autoscaling/target-lifecycle-state").await?,
        spot_action: value(imds, "spot/instance-action").await?,
        rebalance: value(imds, "events/recommendations/rebalance").await?,
    })
}
