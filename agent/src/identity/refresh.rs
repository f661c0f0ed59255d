//! Asking again and again: the facts once, the notices every few seconds, each path by itself, after a failure with
//! exponential backoff.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use super::backoff::random;
use super::imds::{Form, Imds, ImdsError};
use super::reading::{Failed, Kind, Reading};
use super::{IdFrom, Identity, Settings, Source, hardware, is_told};

/// JSON with `instanceId`, `availabilityZone` and `instanceType`, for where the paths of these are forbidden
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html>, read 2026-11-27).
const DOCUMENT: &str = "latest/dynamic/instance-identity/document";
/// The fields of that document, in the order of the facts.
const FIELDS: [&str; FACTS] = ["instanceId", "availabilityZone", "instanceType"];
/// How many of the readings are facts.
const FACTS: usize = 3;

/// Starts asking on the current runtime and returns the snapshot that is kept up to date. Ends with its receivers.
/// Receivers are woken when something changes, and not when the same is read again.
pub fn watch(settings: Settings) -> watch::Receiver<Identity> {
    let hardware = hardware::instance_id(&settings.hardware);
    let collector = Collector::new(settings.refresh.0, hardware, Instant::now());
    let (sender, receiver) = watch::channel(collector.snapshot());
    tokio::spawn(async move {
        match Imds::new(&settings.endpoint) {
            Ok(imds) => refresh(imds, collector, sender).await,
            Err(e) => tracing::error!("no HTTP client for the instance metadata service: {e}"),
        }
    });
    receiver
}

/// All that is asked for.
struct Collector {
    refresh: Duration,
    readings: Vec<Reading>,
    /// The facts as the identity document has them.
    document: [Option<String>; FACTS],
    hardware: Option<String>,
    /// Whether every path has been asked for once.
    asked: bool,
}

impl Collector {
    fn new(refresh: Duration, hardware: Option<String>, now: Instant) -> Self {
        let readings = [
            ("instance-id", Kind::Fact, Form::Line),
            ("placement/availability-zone", Kind::Fact, Form::Line),
            ("instance-type", Kind::Fact, Form::Line),
            ("autoscaling/target-lifecycle-state", Kind::Notice, Form::Line),
            ("spot/instance-action", Kind::Notice, Form::Json),
            ("events/recommendations/rebalance", Kind::Notice, Form::Json),
        ];
        let readings = readings.map(|(path, kind, form)| Reading::new(path, kind, form, now)).into();
        Self { refresh, readings, document: [const { None }; FACTS], hardware, asked: false }
    }

    /// Asks for what is due. One path that fails leaves the others known.
    async fn ask(&mut self, imds: &mut Imds) {
        let now = Instant::now();
        let jitter = random();
        let known = self.readings.iter().any(Reading::is_known);
        let pending = self.is_pending();
        // Without a token no path answers: one question for all of them.
        let ready = imds.ready().await.map_err(|e| failed(&e));
        for reading in self.readings.iter_mut().filter(|reading| reading.is_due(now)) {
            let answer = match &ready {
                Ok(()) => imds.get(reading.path, reading.form).await.map_err(|e| failed(&e)),
                Err(failed) => Err(failed.clone()),
            };
            let was_well = reading.failure().is_none();
            match answer {
                Ok(value) => {
                    if !was_well {
                        tracing::info!("{} of the instance metadata service answers again", reading.path);
                    }
                    reading.answered(value, now, Timestamp::now(), self.refresh);
                }
                Err(failed) => {
                    if was_well && ready.is_ok() {
                        tracing::warn!("{}; what was known stays, asked again with backoff", failed.why);
                    }
                    reading.failed(failed, now, known, pending, jitter);
                }
            }
        }
        let misses_a_fact =
            self.readings.iter().take(FACTS).any(|r| !is_told(r.shown()) && r.failure().is_some());
        if ready.is_ok() && misses_a_fact && self.document.iter().all(Option::is_none) {
            self.read_document(imds).await;
        }
        self.asked = true;
    }

    async fn read_document(&mut self, imds: &mut Imds) {
        let Ok(Some(text)) = imds.get_at(DOCUMENT, Form::Json).await else { return };
        let Ok(document) = serde_json::from_str::<Value>(&text) else { return };
        self.document = FIELDS.map(|field| document.get(field)?.as_str().map(str::to_owned));
    }

    /// Whether an end is announced.
    fn is_pending(&self) -> bool {
        use super::Notice::{Lifecycle, Rebalance, Spot};
        self.snapshot().leaving(&[Lifecycle, Spot, Rebalance]).is_some()
    }

    /// When the next path is due.
    fn next(&self) -> Option<Instant> {
        self.readings.iter().filter_map(Reading::next).min()
    }

    fn source(&self) -> Source {
        let mut notices = self.readings.iter().skip(FACTS);
        let is_known = self.readings.iter().any(Reading::is_known);
        let absent = |r: &Reading| r.failure().is_some_and(|failed| failed.absent);
        match () {
            () if !self.asked => Source::Unknown,
            () if notices.clone().any(|r| r.is_known() && r.failure().is_none()) => Source::Imds,
            () if is_known => Source::Unknown,
            () if notices.all(absent) => Source::None,
            () => Source::Unknown,
        }
    }

    fn snapshot(&self) -> Identity {
        let source = self.source();
        let shown = |at: usize| self.readings.get(at).map_or("unknown", Reading::shown);
        let value = |at: usize| match (shown(at), source) {
            ("unknown", Source::None) => "none".to_owned(),
            (shown, _) => shown.to_owned(),
        };
        let fact = |at: usize| {
            let elsewhere = self.document.get(at).cloned().flatten();
            elsewhere.filter(|_| !is_told(shown(at))).unwrap_or_else(|| value(at))
        };
        let (mut instance, mut from) = (fact(0), None);
        if is_told(shown(0)) {
            from = Some(IdFrom::Imds);
        } else if is_told(&instance) {
            from = Some(IdFrom::Document);
        } else if let Some(id) = &self.hardware {
            (instance, from) = (id.clone(), Some(IdFrom::Hardware));
        }
        Identity {
            source,
            instance,
            instance_from: from,
            zone: fact(1),
            kind: fact(2),
            lifecycle_state: value(3),
            spot_action: value(4),
            rebalance: value(5),
            paths: self.readings.iter().map(Reading::state).collect(),
        }
    }
}

async fn refresh(mut imds: Imds, mut collector: Collector, sender: watch::Sender<Identity>) {
    while !sender.is_closed() {
        collector.ask(&mut imds).await;
        publish(&sender, collector.snapshot());
        let wait = collector.next().map(|next| next.saturating_duration_since(Instant::now()));
        tokio::time::sleep(wait.unwrap_or(collector.refresh)).await;
    }
}

/// Puts the snapshot there; wakes whoever waits for a change unless only times of answers differ.
fn publish(sender: &watch::Sender<Identity>, new: Identity) {
    sender.send_if_modified(|now| {
        let errors = |of: &Identity| of.paths.iter().map(|p| p.error.clone()).collect::<Vec<_>>();
        let without_paths = |of: &Identity| Identity { paths: Vec::new(), ..of.clone() };
        let changed = errors(now) != errors(&new) || without_paths(now) != without_paths(&new);
        if now.source != new.source || now.instance != new.instance {
            tell(&new);
        }
        *now = new;
        changed
    });
}

fn tell(new: &Identity) {
    let why = new.paths.iter().find_map(|path| path.error.as_deref()).unwrap_or("no answer");
    match (new.source, new.instance_id()) {
        (Source::Imds, _) => tracing::info!("instance {} in {}", new.instance, new.zone),
        (_, Some(id)) => tracing::info!("instance {id}; {why}; asked again with backoff"),
        (_, None) => tracing::info!("{why}; asked again with backoff"),
    }
}

fn failed(error: &ImdsError) -> Failed {
    let absent = matches!(error, ImdsError::Absent { .. } | ImdsError::NoToken { .. });
    Failed { why: error.to_string(), absent }
}
