//! `agent drill scale`: load here, and the instances that come and go because of it.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, anyhow};
use hyper::header::HeaderName;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::ends::percent;
use super::ends::{can_be_written, has_room, is_markdown, line, write};
use super::history::keep;
use super::paper::say;
use super::scale_view::View;
use super::start;
use crate::cli::exit::OrExit;
use crate::cli::output::Output;
use crate::cli::{Common, Exit, Failure, Settings};
use crate::config::{Span, parse_span};
use crate::drill::analysis::about::About;
use crate::drill::analysis::scale::{self, Facts, Loaded, Watch, silence};
use crate::drill::analysis::steps::Point;
use crate::drill::analysis::verdict::Answer;
use crate::drill::analysis::window::ms;
use crate::drill::analysis::{markdown, page};
use crate::drill::client::measure::{Measure, Seen};
use crate::drill::client::request::Client;
use crate::drill::client::sample::Book;
use crate::drill::client::target::Target;
use crate::drill::events::{DrillEvent, Outcome};
use crate::drill::schedule::load::{Load, Watched};
use crate::drill::schedule::phase::{Marks, Phase};
use crate::drill::schedule::signals::SignalStream;
use crate::stress::events::StressEvent;
use crate::stress::forecast::USUAL_WARMUP;
use crate::stress::forecast::words::sentence;
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
/// With --alarm each step is predicted: the CPU, the datapoints, the alarm, the new instance's first answer, the alarm below,
/// its last answer.
///
/// Exit code 0: new instances came, and went again, and when as predicted. 1: any of it is no. 2: wrong usage. 3: cannot
/// tell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    agent drill scale --url http://my-alb.example/ --target 90 --secs 10m --report scale.html")]
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
    /// The scaling policy's target, in percent: when its alarm fires, and what follows from that, is predicted
    #[arg(long, value_name = "PCT", value_parser = percent)]
    alarm: Option<f64>,
    /// From the alarm to the first answer of a new instance, at most: launch, boot and first health check
    #[arg(long, value_name = "D", default_value = "5m", value_parser = parse_span)]
    launch: Span,
    /// The group's default instance warmup, or its default cooldown where it has none: until then metrics of an instance
    /// don't count, and no new one goes [default: 5m]
    #[arg(long, value_name = "D", value_parser = parse_span)]
    warmup: Option<Span>,
    /// How long to watch after the load
    #[arg(long, value_name = "D", default_value = "30m", value_parser = parse_span)]
    watch: Span,
    /// How long to look before the load
    #[arg(long, alias = "before", value_name = "D", default_value = "5s", value_parser = parse_span)]
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
    /// The report as one page of HTML, with every request in it; FILE.md: in Markdown, for a pull request
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Scale {
    pub(super) fn run(&self, common: &Common) -> Result<Exit, Failure> {
        let signals = Signals::block().context("cannot wait for signals")?;
        let settings = Settings::load(common, Vec::new())?;
        if !(self.target > 0.0 && self.target <= 100.0) || self.secs.0 < Duration::from_secs(1) {
            return Err(Failure::new(
                Exit::Usage,
                anyhow!("--target is above 0, at most 100; --secs at least 1"),
            ));
        }
        has_room(self.rps, self.resolve.len(), self.baseline.0 + self.secs.0 + self.watch.0)
            .or_exit(Exit::Usage)?;
        if let Some(path) = &self.report {
            can_be_written(path).or_exit(Exit::Usage)?;
        }
        let (target, tls) = start::target(&self.url, self.host.as_deref(), &self.resolve)?;
        let mut out = Output::new(common.json);
        start::run(signals, &target, async |signals, first| {
            let facts = self.facts(&target);
            let client = Client::new(target.clone(), self.instance_header.clone(), DEADLINE, tls);
            let measure = Measure::start(client, target.clone(), self.rps, &first);
            let mut session = Session::new(self, measure, common.config.as_deref());
            let signal = session.go(signals, &mut out).await?;
            self.report(&session, &settings.paths.log, signal, facts, &mut out)
        })
    }

    fn facts(&self, target: &Target) -> Facts {
        Facts {
            about: About::of(target, self.rps),
            target_pct: self.target,
            secs: self.secs.0.as_secs_f64(),
            alarm_pct: self.alarm,
            launch_secs: self.launch.0.as_secs_f64(),
            warmup_secs: self.warmup.map_or(USUAL_WARMUP, |span| span.0).as_secs_f64(),
            watch_secs: self.watch.0.as_secs_f64(),
            instance_header: self.instance_header.to_string(),
        }
    }

    fn report(
        &self,
        session: &Session<'_>,
        log: &Path,
        signal: Option<i32>,
        facts: Facts,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let loaded = session.loaded.clone();
        let result = scale::build(&session.book, &session.watch, &session.marks, signal, facts, loaded);
        let line = line(Outcome::Scale(&result));
        keep(log, &line, out);
        let shown = |path: &Path| match is_markdown(path) {
            true => markdown::scale(&result),
            false => page::scale(&result, &session.book, &line),
        };
        let (page, written) = write(self.report.as_deref(), shown);
        session.view.report(out, &result, page);
        written?;
        Ok(match (signal, result.verdicts.answer()) {
            (Some(signal), _) => Exit::Signal(signal),
            (None, Answer::Yes) => Exit::Done,
            (None, Answer::No) => Exit::No,
            (None, Answer::Unknown) => Exit::CannotTell,
        })
    }
}

/// A drill under way: baseline → load → watch.
struct Session<'a> {
    scale: &'a Scale,
    config: Option<&'a Path>,
    measure: Measure,
    book: Book,
    marks: Marks,
    load: Option<Load>,
    loaded: Loaded,
    /// Whether it has begun.
    burning: bool,
    watch: Watch,
    view: View,
}

impl<'a> Session<'a> {
    fn new(scale: &'a Scale, measure: Measure, config: Option<&'a Path>) -> Self {
        let watch = Watch { from: Duration::MAX, until: Duration::MAX, silence: Duration::MAX };
        let (book, marks, view) = (Book::default(), Marks::default(), View::new());
        Self {
            burning: false,
            scale,
            config,
            measure,
            book,
            marks,
            load: None,
            loaded: Loaded::default(),
            watch,
            view,
        }
    }

    /// Goes on to the end: a signal, if that was it.
    async fn go(&mut self, signals: &SignalStream, out: &mut Output) -> Result<Option<i32>, Failure> {
        self.begin(Phase::Baseline, "baseline   who is there before the load", out);
        let mut tick = Instant::now();
        let signal = loop {
            tokio::select! {
                seen = self.measure.next() => match seen {
                    Some(Seen::Request(request)) => drop(request.enter(&mut self.book)),
                    Some(Seen::Unresolved(why)) => {
                        out.note(&format!("agent: the name is not resolved any more: {why}"));
                    }
                    Some(Seen::Name(_)) | None => {}
                },
                signal = signals.next() => break Some(signal),
                () = sleep_until(tick) => {
                    tick = Instant::now() + TICK;
                    if self.tick(out)? {
                        break None;
                    }
                }
            }
        };
        self.load = None;
        self.marks.end = self.measure.zero.elapsed();
        self.watch.until = self.watch.until.min(self.marks.end);
        Ok(signal)
    }

    fn begin(&mut self, phase: Phase, text: &str, out: &mut Output) {
        let now = self.measure.zero.elapsed();
        self.marks.begin(phase, now);
        self.view.phase(out, phase, now, text);
    }

    /// Looks at who is there; says whether it is over.
    fn tick(&mut self, out: &mut Output) -> Result<bool, Failure> {
        let now = self.measure.zero.elapsed();
        if self.marks.now() == Phase::Baseline {
            if now >= self.scale.baseline.0 {
                self.start_load(now, out)?;
            }
            return Ok(false);
        }
        self.hear(out);
        let ended = self.load.as_mut().map(Load::ended).transpose().context("agent stress")?;
        if let Some(status) = ended.flatten() {
            if !self.burning {
                has_run(status)?;
            }
            (self.load, self.watch.until) = (None, now);
            self.begin(Phase::Watch, "watching   until those that came have gone", out);
        }
        let scaled = self.watch.at(&self.book, now);
        self.view.instances(out, &scaled);
        let over = self.watch.until.checked_add(self.scale.watch.0).is_some_and(|end| now >= end);
        Ok(self.load.is_none() && (over || scaled.back == Some(true)))
    }

    fn start_load(&mut self, now: Duration, out: &mut Output) -> Result<(), Failure> {
        let before = self.book.instances().len();
        if before == 0 {
            return Err(Failure::new(Exit::CannotTell, anyhow!(self.nameless())));
        }
        let every = Duration::from_secs(1) * u32::try_from(before + 1).unwrap_or(2) / self.scale.rps;
        (self.watch.from, self.watch.silence) = (now, silence(every));
        let Scale { target, secs, .. } = *self.scale;
        let others = u32::try_from(before.saturating_sub(1)).unwrap_or(u32::MAX);
        let warmup = self.scale.warmup;
        let alarm = self.scale.alarm.map(|target_pct| Watched { target_pct, others, warmup });
        self.loaded.started = Some(Timestamp::now());
        self.load = Some(Load::start(target, secs, alarm, self.config).context("cannot start agent stress")?);
        self.begin(Phase::Load, &format!("load       {target} % of this host for {secs}"), out);
        Ok(())
    }

    /// Takes in what the load tells of the CPU, the minutes and the alarm.
    fn hear(&mut self, out: &mut Output) {
        let began = self.watch.from;
        while let Some(event) = self.load.as_mut().and_then(Load::told) {
            match event {
                StressEvent::Started(opening) => {
                    self.burning = true;
                    let Some(forecast) = opening.forecast else { continue };
                    say(out, &format!("predicted  {}", sentence(&forecast)));
                    out.event(&DrillEvent::Forecast { forecast: &forecast });
                    self.loaded.forecast.get_or_insert(forecast);
                }
                StressEvent::Progress(look) => {
                    let to_ms = ms(began) + look.elapsed_ms as f64;
                    let from_ms = self.loaded.curve.last().map_or(ms(began), |point| point.to_ms);
                    self.loaded.curve.push(Point { from_ms, to_ms, busy_pct: look.host_busy_pct });
                }
                StressEvent::Minute(minute) => {
                    out.event(&DrillEvent::Minute { minute: &minute });
                    self.loaded.minutes.push(minute);
                }
                _ => {}
            }
        }
    }

    fn nameless(&self) -> String {
        let all = self.book.samples();
        if (all.errors() as usize) < all.len() {
            let header = &self.scale.instance_header;
            return format!("no answer names its instance in {header}: add it in nginx, or measure /health");
        }
        let why = self.measure.client.untrusted().map_or_else(String::new, |why| format!(" ({why})"));
        format!("nothing answers: {} requests failed{why}", all.len())
    }
}

/// Whether there was any load: not where stress refused its wish, or the host didn't let it.
fn has_run(status: ExitStatus) -> Result<(), Failure> {
    match status.code() {
        Some(2 | 3) => Err(Failure::new(
            Exit::CannotTell,
            anyhow!("there was no load: agent stress ended with {status}"),
        )),
        _ => Ok(()),
    }
}
