//! What a drill of failing over learns of this machine: who it is, what the load balancer's probes say, whether it is about
//! to go.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hyper::header::HeaderName;
use tokio::sync::watch;

use crate::cli::output::Output;
use crate::drill::analysis::predict::{Check, Failure as Failing, Prediction};
use crate::drill::analysis::report;
use crate::drill::analysis::rhythm::{self, Rhythm};
use crate::drill::client::request::{Client, Pool};
use crate::drill::client::sample::Stream;
use crate::drill::client::target::Target;
use crate::drill::schedule::phase::Marks;
use crate::drill::schedule::run;
use crate::health::Verdict;
use crate::identity::{self, Identity, Notice};
use crate::nginx;
use crate::probes;
use crate::serve::status::Status;

/// How long the metadata service may take; without it nobody knows who we are, and the drill goes on.
const IMDS_LIMIT: Duration = Duration::from_secs(3);
/// How long what runs here may take to say who it is.
const HERE_LIMIT: Duration = Duration::from_secs(1);

/// The name by which the target answers, and what the target here calls itself where it can be asked at `endpoint`.
pub(super) async fn who(
    expected: Option<&String>,
    identity: Option<watch::Receiver<Identity>>,
    target: &Target,
    endpoint: Option<SocketAddr>,
    header: &HeaderName,
) -> (Option<String>, Option<String>) {
    // As nginx itself says it is what clients will read.
    let here = match endpoint {
        Some(endpoint) => named_here(target, endpoint, header).await,
        None => None,
    };
    if let Some(name) = expected.or(here.as_ref()) {
        return (Some(name.clone()), here);
    }
    let Some(mut identity) = identity else { return (None, here) };
    let known = identity.wait_for(|now| now.source != identity::Source::Unknown);
    let _ = tokio::time::timeout(IMDS_LIMIT, known).await;
    let us = identity.borrow().instance_id().map(str::to_owned);
    (us, here)
}

/// What the target here calls itself, asked as clients ask; `None` where it doesn't say, or speaks no plain HTTP.
async fn named_here(target: &Target, endpoint: SocketAddr, header: &HeaderName) -> Option<String> {
    let client = Client::new(target.clone(), header.clone(), HERE_LIMIT, None);
    client.ask(endpoint, Stream::New, &Pool::default()).await.instance
}

/// The probes in the access log here; without them the interval is assumed, and that is said.
pub(super) fn rhythm(settings: &probes::Settings, conf: Option<&Path>, out: &mut Output) -> Option<Rhythm> {
    match Rhythm::find(settings, conf) {
        Ok(rhythm) => Some(rhythm),
        Err(e) => {
            out.note(&format!("agent: the load balancer's probes are not seen: {e}"));
            None
        }
    }
}

/// Where nginx answers here, by the settings.
pub(super) fn here(settings: &nginx::target::Settings) -> Option<SocketAddr> {
    let url = settings.url.as_deref().unwrap_or("http://127.0.0.1/");
    Target::parse(url, None).ok().filter(|target| !target.tls)?.literal()?.first().copied()
}

/// What the daemon here knows, if one runs.
pub(super) async fn daemon(admin: SocketAddr) -> Option<Status> {
    let client = reqwest::Client::builder().no_proxy().timeout(HERE_LIMIT).build().ok()?;
    let text = client.get(format!("http://{admin}/status")).send().await.ok()?.text().await.ok()?;
    serde_json::from_str(&text).ok()
}

/// The slowest interval of the probes that the daemon sees.
pub(super) fn kept_interval(status: &Status) -> Option<Duration> {
    let nodes = status.probes.nodes.iter();
    let slowest = nodes.filter_map(|node| u64::try_from(node.interval_p50_ms?).ok()).max()?;
    Some(rhythm::rounded(Duration::from_millis(slowest)))
}

/// What the drill asks while it runs.
pub(super) struct Ask<'a> {
    pub(super) rhythm: &'a RefCell<Option<Rhythm>>,
    pub(super) status: Option<&'a Status>,
    pub(super) check: Check,
    pub(super) failing: Failing,
    pub(super) observed: bool,
    pub(super) identity: Option<watch::Receiver<Identity>>,
}

impl run::Context for Ask<'_> {
    fn predict(&self, marks: &Marks, targets: Option<u32>, elsewhere: bool) -> Option<Prediction> {
        let failing = Failing { targets, elsewhere, ..self.failing };
        report::prediction(&self.check, &failing, marks, self.observed)
    }

    fn leaving(&self) -> Option<String> {
        self.identity.as_ref()?.borrow().leaving(&[Notice::Lifecycle, Notice::Spot])
    }

    fn unhealthy(&self) -> Option<String> {
        let log = self.rhythm.borrow_mut().as_mut().and_then(|rhythm| {
            rhythm.look();
            rhythm.unhealthy()
        });
        let daemon = || {
            let failing = self.status.is_some_and(|status| status.health.status == Verdict::Fail);
            failing.then(|| "this target is unhealthy already: its agent answers 503 on /health".to_owned())
        };
        log.or_else(daemon)
    }
}
