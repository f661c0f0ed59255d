//! `agent drill failover`: what clients lose when this target fails.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::args::{CheckArgs, ClientArgs};
use super::context::{self, Ask};
use super::ends::{can_be_written, exit, has_room, is_markdown, line, percent, refused, write};
use super::history::{EarlierArgs, keep};
use super::view::View;
use super::{result_view, start};
use crate::cli::exit::OrExit;
use crate::cli::fail::Fail;
use crate::cli::output::Output;
use crate::cli::told::failure;
use crate::cli::{Common, Exit, Failure, Settings};
use crate::config::{Span, parse_span};
use crate::drill::analysis::about::About;
use crate::drill::analysis::drain;
use crate::drill::analysis::predict::{Check, Failure as Failing, Range, predict};
use crate::drill::analysis::report::{self, Facts, Report, Run, Sources};
use crate::drill::analysis::rhythm::Rhythm;
use crate::drill::analysis::{markdown, page};
use crate::drill::client::request::Client;
use crate::drill::client::target::Target;
use crate::drill::client::tls::Tls;
use crate::drill::events::Outcome;
use crate::drill::schedule::guard::Limits;
use crate::drill::schedule::run::{Drill, What, run};
use crate::drill::schedule::signals::SignalStream;
use crate::fault::{self, Mode};
use crate::identity::{self, Notice};
use crate::sys::sigwait::Signals;

/// nginx's own restart, at most, where the fault's length is only planned.
const RESTART: Duration = Duration::from_secs(2);

/// Make this target fail, and measure what clients lose until it is back in use
///
/// Asks every address of the URL's name, on new connections and on kept ones, at a steady pace that no slow answer
/// delays: first while all is well, then while this nginx fails (as with `agent fail`, and it always ends), then until
/// every node of the load balancer uses this target again. Three answers: did the outage last as long as the health
/// check's interval and thresholds predict, is everything cleaned up, was it safe.
///
/// Exit code 0: three times yes. 1: any is no. 2: wrong usage. 3: cannot tell. 4: refused, as something is wrong already;
/// nothing was touched. Ctrl-C ends the fault at once and still reports.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    agent drill failover --url http://my-alb.example/ --interval 5s --healthy 2 --report drill.html\n  \
    agent drill failover --url https://my-alb.example/ --mode hang --secs 2m --max-outage 30s\n  \
    agent drill failover --url http://my-alb.example/ --observe --expect-instance i-0abc --secs 5m")]
pub(super) struct Failover {
    /// What clients ask the load balancer for; answered with 2xx or 3xx while all is well
    #[arg(long, value_name = "URL")]
    pub(super) url: String,
    /// How nginx fails
    #[arg(long, value_enum, default_value = "stop")]
    pub(super) mode: Mode,
    /// How long it fails; with --observe, how long to look on
    #[arg(long, value_name = "D", default_value = "60", value_parser = parse_span)]
    pub(super) secs: Span,
    /// Requests a second to each address of the name, half of them on new connections
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rps: u32,
    /// Only measure, from anywhere, while the failure happens elsewhere
    #[arg(long)]
    pub(super) observe: bool,
    /// The instance that should vanish [default: this one]
    #[arg(long, value_name = "ID")]
    pub(super) expect_instance: Option<String>,
    /// The report as one page of HTML, with every request in it; FILE.md: in Markdown, for a pull request
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    pub(super) earlier: EarlierArgs,
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    pub(super) check: CheckArgs,
    /// End the fault when more than this part of the last requests fails
    #[arg(long, value_name = "PCT", value_parser = percent, help_heading = "Safety")]
    pub(super) max_error_pct: Option<f64>,
    /// End the fault when clients have got errors for so long
    #[arg(long, value_name = "D", value_parser = parse_span, help_heading = "Safety")]
    pub(super) max_outage: Option<Span>,
    /// The nginx with this configuration, where several run
    #[arg(long, value_name = "NGINX.CONF", conflicts_with = "pid", help_heading = "Failure")]
    pub(super) conf: Option<PathBuf>,
    /// The nginx with this master process, where several run
    #[arg(long, value_name = "PID", help_heading = "Failure")]
    pub(super) pid: Option<i32>,
    /// slow: how late /health answers [default: 10s]
    #[arg(long, value_name = "D", value_parser = parse_span, help_heading = "Failure")]
    pub(super) delay: Option<Span>,
    /// error: what requests are answered [default: 503]
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(400..=599), help_heading = "Failure")]
    pub(super) status: Option<u16>,
    /// Go on although something speaks against it; also as in `agent fail --force`
    #[arg(long, help_heading = "Safety")]
    pub(super) force: bool,
    /// Whether it is how long requests are still sent that is wanted, and what of it is told (`agent drill drain`).
    #[arg(skip)]
    pub(super) drain: bool,
}

/// What is left when it has run.
struct Ran {
    run: Run,
    result: Report,
}

impl Failover {
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        // Before anything starts: a signal from now on ends the fault and the drill, and there is a report.
        let signals = Signals::block().context("cannot wait for signals")?;
        let settings = Settings::load(common, Vec::new())?;
        self.validate()?;
        let (target, tls) = start::target(&self.url, self.client.host.as_deref(), &self.client.resolve)?;
        let request = if self.observe { None } else { Some(self.request(&settings)?) };
        let plan = request.as_ref().map(fault::preflight::plan).transpose().map_err(failure)?;
        let endpoint = match (&plan, &request) {
            (Some(plan), Some(request)) => {
                plan.fault.target().map_or(Some(request.health), |t| t.endpoint.addr.tcp())
            }
            // Whoever is to be stopped here is this nginx.
            _ if self.drain => context::here(&settings.nginx),
            _ => None,
        };
        let earlier = self.earlier.find(&settings.paths.log)?;
        let mut out = Output::new(common.json);
        start::run(signals, &target, async |signals, first| {
            let about = (target.clone(), tls, first);
            let ran = self.drill(&settings, about, (request, endpoint), signals, &mut out).await?;
            self.tell(&settings.paths.log, earlier.as_ref(), ran, &mut out)
        })
    }

    fn validate(&self) -> Result<(), Failure> {
        let usage = |message: String| Err(Failure::new(Exit::Usage, anyhow!(message)));
        let between = |name: &str, span: Span, least: u64, most: u64| match span.0.as_millis() {
            ms if (u128::from(least)..=u128::from(most)).contains(&ms) => Ok(()),
            _ => usage(format!("{name} {span}: between {} and {}", Span::millis(least), Span::millis(most))),
        };
        between("--deadline", self.client.deadline, 100, 60_000)?;
        between("--before", self.before(), 500, 600_000)?;
        if let Some(interval) = self.check.interval {
            between("--interval", interval, 100, 300_000)?;
        }
        if let Some(timeout) = self.check.timeout {
            between("--timeout", timeout, 10, 120_000)?;
        }
        if self.observe {
            between("--secs", self.secs, 1000, 86_400_000)?;
        }
        has_room(self.rps, self.client.resolve.len(), self.secs.0 + self.before().0).or_exit(Exit::Usage)?;
        if self.observe && (self.conf.is_some() || self.pid.is_some() || self.status.is_some()) {
            return usage("--observe touches nothing: leave out --conf, --pid and --status".to_owned());
        }
        if let Some(path) = &self.report {
            can_be_written(path).or_exit(Exit::Usage)?;
        }
        Ok(())
    }

    fn before(&self) -> Span {
        self.earlier.length().unwrap_or(self.client.before)
    }

    /// The fault, as `agent fail` would make it.
    fn request(&self, settings: &Settings) -> Result<fault::preflight::Request, Failure> {
        let fail = Fail {
            mode: self.mode,
            secs: self.secs,
            conf: self.conf.clone(),
            pid: self.pid,
            delay: self.delay,
            status: self.status,
            dry_run: false,
            detach: false,
            force: self.force,
        };
        fail.request(settings)
    }

    /// Does it.
    async fn drill(
        &self,
        settings: &Settings,
        (target, tls, first): (Target, Option<Tls>, Vec<SocketAddr>),
        (request, endpoint): (Option<fault::preflight::Request>, Option<SocketAddr>),
        signals: &SignalStream,
        out: &mut Output,
    ) -> Result<Ran, Failure> {
        // Who looks on from elsewhere isn't the one that fails.
        let identity = (!self.observe || self.drain).then(|| identity::watch(settings.identity.clone()));
        let header = &self.client.instance_header;
        let (us, here) =
            context::who(self.expect_instance.as_ref(), identity.clone(), &target, endpoint, header).await;
        let status = if self.observe { None } else { context::daemon(settings.serve.admin).await };
        let conf = self.conf.as_deref().or(settings.nginx.conf.as_deref());
        let rhythm =
            RefCell::new(if self.observe { None } else { context::rhythm(&settings.probes, conf, out) });
        let measured = rhythm.borrow().as_ref().and_then(Rhythm::interval);
        let measured = measured.or_else(|| status.as_ref().and_then(context::kept_interval));
        let (check, sources) = self.check.check(measured, &settings.probes);
        let failing = self.failing(&target);
        let facts = self.facts(&target, &check, &sources, us.clone());
        let what = match request {
            Some(request) => What::Fault(settings.paths.clone(), request),
            None => What::Observe(self.secs.0),
        };
        let deadline = self.client.deadline.0;
        let client = Client::new(target.clone(), header.clone(), deadline, tls);
        let drill = Drill {
            target,
            first,
            rps: self.rps,
            baseline: self.before().0,
            after: self.before().0.min(Duration::from_secs(5)),
            deadline,
            what,
            limits: Limits { error_pct: self.max_error_pct, outage: self.max_outage.map(|span| span.0) },
            // Who asks whether it is safe to stop this target breaks nothing.
            force: self.force || (self.drain && self.observe),
            until_drained: self.drain,
            us,
            here,
            header: header.to_string(),
            group: check.group,
        };
        let mut view = View::new(&facts, &predict(&check, &failing), self.drain);
        view.start(out);
        let context = Ask {
            rhythm: &rhythm,
            status: status.as_ref(),
            check,
            failing,
            observed: self.observe,
            identity: identity.clone(),
        };
        let run = run(drill, client, signals, &context, &mut |event| view.show(out, &event)).await;
        view.clear();
        let mut run = run.map_err(refused)?;
        run.leaving = identity.and_then(|identity| identity.borrow().leaving(&[Notice::Lifecycle]));
        let probes = rhythm.borrow_mut().as_mut().map_or_else(Vec::new, |rhythm| {
            rhythm.look();
            rhythm.nodes()
        });
        let result = report::build(&run, &check, &failing, facts, probes);
        Ok(Ran { run, result })
    }

    /// Keeps, writes and shows what it came to: the exit code.
    fn tell(&self, log: &Path, earlier: Option<&Value>, ran: Ran, out: &mut Output) -> Result<Exit, Failure> {
        let Ran { run, mut result } = ran;
        if self.drain {
            let mut result = drain::build(&run, &result);
            if let Some(earlier) = earlier {
                let now = line(Outcome::Drain(&result));
                (result.comparison, result.regression) = self.earlier.compare(earlier, &now);
            }
            keep(log, &line(Outcome::Drain(&result)), out);
            super::drain::show(out, &result);
            return Ok(super::drain::exit(&result));
        }
        if let Some(earlier) = earlier {
            let now = line(Outcome::Failover(&result));
            (result.comparison, result.regression) = self.earlier.compare(earlier, &now);
        }
        let line = line(Outcome::Failover(&result));
        keep(log, &line, out);
        let shown = |path: &Path| match is_markdown(path) {
            true => markdown::failover(&result),
            false => page::failover(&result, &run, &line),
        };
        let (page, written) = write(self.report.as_deref(), shown);
        result_view::report(out, &result, &run, page);
        written?;
        Ok(exit(&result))
    }

    /// The fault as it is planned.
    fn failing(&self, target: &Target) -> Failing {
        let lasts = self.secs.0;
        Failing {
            mode: self.mode,
            lasts: Range::new(lasts, lasts + RESTART),
            delay: self.delay.map_or(Duration::from_secs(10), |span| span.0),
            deadline: self.client.deadline.0,
            of_health: target.is_health(),
            targets: None,
            elsewhere: false,
            rps: self.rps,
        }
    }

    fn facts(&self, target: &Target, check: &Check, sources: &Sources, instance: Option<String>) -> Facts {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        Facts {
            about: About::of(target, self.rps),
            mode: self.mode,
            observed: self.observe,
            secs: self.secs.0.as_secs_f64(),
            deadline_ms: ms(self.client.deadline.0),
            instance,
            interval_ms: ms(check.interval),
            interval_source: sources.interval,
            timeout_ms: ms(check.timeout),
            timeout_source: sources.timeout,
            healthy: check.healthy,
            healthy_source: sources.healthy,
            unhealthy: check.unhealthy,
            unhealthy_source: sources.unhealthy,
            routing_min: check.group.routing_min.to_string(),
            routing_min_source: sources.routing_min,
            dns_failover: check.group.dns_min.map(|least| least.to_string()),
            anomaly_mitigation: check.group.anomaly_mitigation,
            slow_start_ms: ms(check.group.slow_start),
            checks: check.via,
        }
    }
}
