//! `agent drill scale`: load here, and the instances that come and go because of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};
use hyper::header::HeaderName;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::exit::OrExit;
use super::output::Output;
use super::{Common, Exit, Failure, Settings};
use crate::config::{Span, parse_span};
use crate::drill::client::Client;
use crate::drill::measure::{Measure, Request, Seen};
use crate::drill::names;
use crate::drill::sample::{Book, Sample};
use crate::drill::scale::{Scaled, Watch, silence};
use crate::drill::signals::SignalStream;
use crate::drill::target::Target;
use crate::drill::tls::Tls;
use crate::sys::sigwait::Signals;

/// How often the instances are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Load this instance, and watch through the load balancer how the group grows and shrinks
///
/// Runs `agent stress` here and asks every address of the URL's name all the while: each instance that comes to answer
/// is told with the time since the load began, and each that goes again. Ends when all that came have gone, or when the
/// time to watch is over. Answers must name their instance (X-Instance-Id, or --instance-header).
///
/// Exit code 0: new instances came, and went again. 1: none came, or not all went. 2: wrong usage. 3: cannot tell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  agent drill scale --url http://my-alb.example/ --target 90 --secs 10m")]
pub(super) struct Scale {
    /// What clients ask the load balancer for
    #[arg(long, value_name = "URL")]
    url: String,
    /// Hold this host at this percentage, as `agent stress --target`
    #[arg(long, value_name = "PCT", default_value_t = 100.0)]
    target: f64,
    /// How long the load lasts
    #[arg(long, value_name = "D", default_value = "10m", value_parser = parse_span)]
    secs: Span,
    /// How long to watch after the load
    #[arg(long, value_name = "D", default_value = "30m", value_parser = parse_span)]
    watch: Span,
    /// How long to look before the load
    #[arg(long, value_name = "D", default_value = "5s", value_parser = parse_span)]
    baseline: Span,
    /// Requests a second to each address of the name
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rps: u32,
    /// Measure these addresses instead of those that the name has
    #[arg(long, value_name = "IP,…", value_delimiter = ',')]
    resolve: Vec<std::net::IpAddr>,
    /// The Host header, and the name on the certificate [default: the URL's]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The header in which an answer names its instance
    #[arg(long, value_name = "NAME", default_value = "x-instance-id")]
    instance_header: HeaderName,
}

/// The load. Dropped, it ends.
struct Load(Child);

impl Load {
    fn start(scale: &Scale, config: Option<&Path>) -> std::io::Result<Self> {
        let (target, secs) = (scale.target.to_string(), scale.secs.to_string());
        let mut stress = Command::new("/proc/self/exe");
        stress.args(["stress", "--target", &target, "--secs", &secs]);
        if let Some(config) = config {
            stress.arg("--config").arg(config);
        }
        stress.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map(Self)
    }

    fn is_over(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !self.is_over() {
            let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}

impl Scale {
    pub(super) fn run(&self, common: &Common) -> Result<Exit, Failure> {
        let signals = Signals::block().context("cannot wait for signals")?;
        Settings::load(common, Vec::new())?;
        if !(self.target > 0.0 && self.target <= 100.0) || self.secs.0 < Duration::from_secs(1) {
            return Err(Failure::new(
                Exit::Usage,
                anyhow!("--target is above 0, at most 100; --secs at least 1"),
            ));
        }
        let mut target = Target::parse(&self.url, self.host.as_deref()).or_exit(Exit::Usage)?;
        target.instead.clone_from(&self.resolve);
        let tls =
            target.tls.then(|| Tls::new(&target.certificate_name())).transpose().or_exit(Exit::CannotTell)?;
        let mut out = Output::new(common.json);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
        runtime.block_on(async {
            let signals = SignalStream::new(signals).context("cannot wait for signals")?;
            let first = names::resolve(&target).await;
            let first =
                first.with_context(|| format!("cannot resolve {}", target.name)).or_exit(Exit::CannotTell)?;
            let client = Client::new(target.clone(), self.instance_header.clone(), DEADLINE, tls);
            let measure = Measure::start(client, target, self.rps, &first);
            self.drill(measure, &signals, common.config.as_deref(), &mut out).await
        })
    }

    async fn drill(
        &self,
        mut measure: Measure,
        signals: &SignalStream,
        config: Option<&Path>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let (zero, mut book, mut tick) = (measure.zero, Book::default(), Instant::now());
        let mut load: Option<Load> = None;
        let mut watch = Watch { from: Duration::MAX, until: Duration::MAX, silence: Duration::MAX };
        let mut told = BTreeMap::new();
        let phase = |out: &mut Output, name: &str, text: &str| {
            out.event(&json!({"event": "phase", "phase": name, "at_ms": zero.elapsed().as_secs_f64() * 1e3}));
            out.text(text);
        };
        phase(out, "baseline", "baseline   who is there before the load");
        let signal = loop {
            tokio::select! {
                seen = measure.next() => if let Some(Seen::Request(request)) = seen { note(&mut book, &request) },
                signal = signals.next() => break Some(signal),
                () = sleep_until(tick) => {
                    tick = Instant::now() + TICK;
                    let now = zero.elapsed();
                    if load.is_none() && watch.from == Duration::MAX {
                        if now < self.baseline.0 {
                            continue;
                        }
                        let before = book.instances().len();
                        if before == 0 {
                            return Err(Failure::new(Exit::CannotTell, anyhow!(nameless(&book, &self.instance_header))));
                        }
                        let every = Duration::from_secs(1) * u32::try_from(before + 1).unwrap_or(2) / self.rps;
                        (watch.from, watch.silence) = (now, silence(every));
                        load = Some(Load::start(self, config).context("cannot start agent stress")?);
                        phase(out, "load", &format!("load       {} % of this host for {}", self.target, self.secs));
                    }
                    if load.as_mut().is_some_and(Load::is_over) {
                        (load, watch.until) = (None, now);
                        phase(out, "watch", "watching   until those that came have gone");
                    }
                    let scaled = watch.at(&book, now);
                    tell(out, &scaled, &mut told);
                    let over = watch.until.checked_add(self.watch.0).is_some_and(|end| now >= end);
                    if load.is_none() && (over || scaled.back == Some(true)) {
                        break None;
                    }
                }
            }
        };
        drop(load);
        watch.until = watch.until.min(zero.elapsed());
        let scaled = watch.at(&book, zero.elapsed());
        let mut result = serde_json::to_value(&scaled).unwrap_or_default();
        (result["event"], result["drill"], result["signal"]) =
            ("result".into(), "scale".into(), json!(signal));
        out.event(&result);
        report(out, &scaled);
        Ok(match (signal, scaled.back) {
            (Some(signal), _) => Exit::Signal(signal),
            (None, Some(true)) => Exit::Done,
            (None, _) => Exit::No,
        })
    }
}

fn note(book: &mut Book, request: &Request) {
    let us = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    let sample = Sample {
        due_us: us(request.due),
        start_us: us(request.start),
        end_us: us(request.end),
        node: book.node(request.node),
        instance: request.instance.as_deref().and_then(|name| book.instance(name)),
        stream: request.stream,
        outcome: request.outcome,
    };
    book.samples.push(sample);
}

fn nameless(book: &Book, header: &HeaderName) -> String {
    match book.samples.iter().filter(|one| one.is_ok()).count() {
        0 => format!("nothing answers: {} requests failed", book.samples.len()),
        _ => format!("no answer names its instance in {header}: add it in nginx, or measure /health"),
    }
}

/// Tells of each instance once when it comes and once when it goes.
fn tell(out: &mut Output, scaled: &Scaled, told: &mut BTreeMap<String, bool>) {
    for stay in scaled.instances.iter().filter(|stay| !stay.before || stay.gone_after_ms.is_some()) {
        let gone = stay.gone_after_ms.is_some();
        if told.insert(stay.instance.clone(), gone) == Some(gone) {
            continue;
        }
        let (change, after) = match stay.gone_after_ms {
            Some(after) => ("gone", after),
            None => ("came", stay.came_after_ms),
        };
        out.event(
            &json!({"event": "instance", "instance": stay.instance, "change": change, "after_ms": after}),
        );
        out.text(&format!("{change:<10} {} {:.1} s after the load began", stay.instance, after / 1e3));
    }
}

fn report(out: &mut Output, scaled: &Scaled) {
    let secs = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms / 1e3));
    out.text("");
    out.text(&format!("{:<22} {:>8} {:>10} {:>10}", "instance", "answers", "came", "gone"));
    for stay in &scaled.instances {
        let came = if stay.before { "before".to_owned() } else { secs(Some(stay.came_after_ms)) };
        out.text(&format!(
            "{:<22} {:>8} {came:>10} {:>10}",
            stay.instance,
            stay.answers,
            secs(stay.gone_after_ms)
        ));
    }
    out.text(&format!("{} requests, {} failed", scaled.requests, scaled.errors));
    out.text(&match (scaled.out, scaled.back) {
        (false, _) => "scaled out  no: no new instance came to answer".to_owned(),
        (true, Some(true)) => format!(
            "scaled out  yes, after {}; and in again, {} after the load",
            secs(scaled.out_after_ms),
            secs(scaled.in_after_ms)
        ),
        (true, _) => format!("scaled out  yes, after {}; not in again yet", secs(scaled.out_after_ms)),
    });
}
