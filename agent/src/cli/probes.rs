//! `agent probes`: does the load balancer probe in its rhythm?

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::exit::OrExit;
use super::output::Output;
use super::probes_balancer::Balancer;
use super::probes_view::{View, held as view_held};
use super::{Common, Exit, Failure, Settings};
use crate::access_log::balancer;
use crate::access_log::locate::Located;
use crate::access_log::logs::From;
use crate::cadence::verdict::{Answer, Reason, Verdict};
use crate::config::{Asked, parse_duration};
use crate::logtail::wait::{News, Waiter};
use crate::nginx::conf::Held;
use crate::probes::Expect;
use crate::probes::follow::{Follow, recently};
use crate::sys::sigwait::Signals;

/// Without --for or --follow: a verdict is waited for this many intervals.
const PATIENCE: u32 = 6;
/// The same while the interval isn't known.
const PATIENCE_AUTO: Duration = Duration::from_secs(60);

/// Confirm from nginx's access log that the load balancer probes in its rhythm
///
/// Every node of the load balancer probes every target on its own schedule. This finds the probes
/// (ELB-HealthChecker/2.0), groups them by node, and says whether each node keeps the expected interval. Without
/// --once, --for or --follow it reads the last five minutes and goes on until it can tell.
///
/// Exit code: 0 confirmed; 1 not (probes missing, late, or stopped); 2 wrong usage; 3 cannot tell (no log, no probes
/// logged, too few); 130 or 143 interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    agent probes --expect 5s                          is it every five seconds?\n  \
    agent probes --follow                             a line for each probe, as it comes\n  \
    agent probes --log old.log --once --expect auto   which interval was it in this log?")]
pub(super) struct Args {
    /// The access log [default: from nginx's configuration, else the usual places]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// nginx's main configuration file, which names the logs [default: the running nginx's, else the usual places]
    #[arg(long, value_name = "NGINX.CONF", conflicts_with = "log")]
    conf: Option<PathBuf>,
    /// The log's format, as in log_format, or the name of one in nginx.conf [default: nginx.conf's, else combined]
    #[arg(long, value_name = "FMT", allow_hyphen_values = true)]
    format: Option<String>,
    /// The target group's interval, or "auto" to find it [default: 5s]
    #[arg(long, value_name = "D|auto")]
    expect: Option<String>,
    /// How far an interval may be off [default: a fifth of it, and at least what the log's times resolve]
    #[arg(long, value_name = "D")]
    tolerance: Option<String>,
    /// The load balancer's subnets [default: all private addresses]
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    nodes: Vec<String>,
    /// The load balancer's own health-check log, a file or a folder of them, plain or gzip: what it sent beside what
    /// arrived here; implies --once
    #[arg(long, value_name = "FILE|FOLDER", conflicts_with_all = ["follow", "duration"])]
    elb_log: Option<PathBuf>,
    /// Judge only the probes of this path [default: each path by itself]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Read the log from its first byte
    #[arg(long)]
    from_start: bool,
    /// Stop and judge after this time
    #[arg(long = "for", value_name = "D", value_parser = parse_duration, conflicts_with_all = ["once", "follow"])]
    duration: Option<Duration>,
    /// Judge what is in the log, from its first byte, by the log's own time, and don't wait for more
    #[arg(long, conflicts_with = "follow")]
    once: bool,
    /// Go on from now until interrupted, a line for each probe
    #[arg(long)]
    follow: bool,
}

/// When the work is done.
enum Until {
    /// What is there was read.
    Read,
    /// This time.
    Deadline(Instant),
    /// A verdict, or this time.
    Verdict(Instant),
    /// A signal.
    Interrupted,
}

impl Args {
    /// Runs the verb to its end.
    ///
    /// # Errors
    /// Exit 2 for wrong settings, exit 3 where there is no log or it can't be read.
    pub(super) fn run(mut self, common: &Common) -> Result<Exit, Failure> {
        self.once |= self.elb_log.is_some();
        let Settings { probes: settings, nginx, serve, .. } = Settings::load(common, self.asked())?;
        let signals = Signals::block().context("cannot wait for signals")?;
        let located = settings.locate(nginx.conf.as_deref());
        if let Some(exit) = self.by_daemon(common, &settings, serve.admin, &signals) {
            return Ok(exit);
        }
        let located = located.map_err(|e| {
            let exit = if e.is_usage() { Exit::Usage } else { Exit::CannotTell };
            Failure::new(exit, e)
        })?;
        let start = match (self.once || self.from_start, self.follow) {
            (true, _) => From::Beginning,
            (false, true) => From::Now,
            (false, false) => recently(),
        };
        let mut follow = Follow::new(&located, start, &settings, &[]);
        let mut out = Output::new(common.json);
        let checks = self.elb_log.as_deref().map(balancer::read).transpose().or_exit(Exit::CannotTell)?;
        let mut view = View::new(self.follow, checks.map(Balancer::new));
        if !self.once
            && let Some(held) = view_held(follow.held())
        {
            out.note(&format!("{held}: probes show up late, and without their interval."));
        }
        let ended = self.watch(&located, &mut follow, &signals, &mut out, &mut view)?;
        follow.finish(&mut |found, interval| view.probe(&mut out, found, interval, None));
        let verdict = self.verdict(&follow);
        view.verdict(&mut out, &verdict, &follow, &located);
        Ok(match (ended, verdict.answer) {
            (Some(signal), _) => Exit::Signal(signal),
            (None, Answer::Yes) => Exit::Done,
            (None, Answer::No) => Exit::No,
            (None, Answer::Unknown) => Exit::CannotTell,
        })
    }

    /// Where the health check asks the agent's own port, and no log has a probe, the daemon is who knows. A log that is
    /// named is judged, whatever the daemon knows.
    fn by_daemon(
        &self,
        common: &Common,
        settings: &crate::probes::Settings,
        admin: std::net::SocketAddr,
        signals: &Signals,
    ) -> Option<Exit> {
        let named = settings.log.is_some() || self.conf.is_some() || self.from_start || self.path.is_some();
        if named || self.follow || self.elb_log.is_some() {
            return None;
        }
        let patience = match (self.once, self.duration, settings.expect) {
            (true, ..) => Duration::ZERO,
            (_, Some(duration), _) => duration,
            (_, _, Expect::Every(interval)) => interval.0 * PATIENCE,
            (_, _, Expect::Auto) => PATIENCE_AUTO,
        };
        let verdict = match super::probes_daemon::verdict(admin, settings.expect, patience, signals)? {
            Ok(verdict) => verdict,
            Err(signal) => return Some(Exit::Signal(signal)),
        };
        let located = Located::default();
        let follow = Follow::new(&located, From::Now, settings, &[]);
        View::new(false, None).by_daemon(&mut Output::new(common.json), &verdict, &follow, &located);
        Some(match verdict.answer {
            Answer::Yes => Exit::Done,
            Answer::No => Exit::No,
            Answer::Unknown => Exit::CannotTell,
        })
    }

    fn asked(&self) -> Vec<Asked> {
        let mut asked = Vec::new();
        let mut flag = |place, key, value: Option<String>| {
            asked.extend(value.map(|value| Asked::flag(place, key, value)));
        };
        flag("--log", "probes.log", self.log.as_ref().map(|path| path.to_string_lossy().into_owned()));
        flag("--conf", "nginx.conf", self.conf.as_ref().map(|path| path.to_string_lossy().into_owned()));
        flag("--format", "probes.format", self.format.clone());
        flag("--expect", "probes.expect", self.expect.clone());
        flag("--tolerance", "probes.tolerance", self.tolerance.clone());
        flag("--path", "probes.path", self.path.clone());
        flag("--nodes", "probes.nodes", (!self.nodes.is_empty()).then(|| self.nodes.join(",")));
        asked
    }

    /// By the log's own time where only what is there counts, else by the clock's.
    fn verdict(&self, follow: &Follow) -> Verdict {
        if self.once { follow.verdict_of_all() } else { follow.verdict(None) }
    }

    /// Reads until done; the signal, if one ended it.
    fn watch(
        &self,
        located: &Located,
        follow: &mut Follow,
        signals: &Signals,
        out: &mut Output,
        view: &mut View,
    ) -> Result<Option<i32>, Failure> {
        let patience = match follow.expected() {
            Some(expected) => Duration::from_millis(expected.interval_ms.unsigned_abs()) * PATIENCE,
            None => PATIENCE_AUTO,
        };
        let patience = match follow.held() {
            Held::Until(flush) => patience + flush,
            Held::No | Held::Unbounded => patience,
        };
        let until = match (self.once, self.follow, self.duration) {
            (true, ..) => Until::Read,
            (_, true, _) => Until::Interrupted,
            (_, _, Some(duration)) => Until::Deadline(Instant::now() + duration),
            _ => Until::Verdict(Instant::now() + patience),
        };
        let mut waiter = Waiter::default();
        let mut news = News::None;
        let mut first = true;
        loop {
            let expected = self.follow.then(|| follow.expected()).flatten();
            let looked = follow.look(news, &mut |found, interval| view.probe(out, found, interval, expected));
            // A log that comes later is waited for; a folder or a pipe in its place isn't one.
            looked.context("cannot read the access log").or_exit(Exit::CannotTell)?;
            if std::mem::take(&mut first) && !follow.logs.is_there() {
                let paths: Vec<_> = located.logs.iter().map(|log| log.path.display().to_string()).collect();
                let paths = paths.join(", ");
                // Nobody said how long a log that was named is to be waited for.
                let named = self.log.is_some() && matches!(until, Until::Verdict(_));
                if named || matches!(until, Until::Read) {
                    let missing = anyhow::anyhow!("there is no {paths} to read");
                    return Err(Failure::new(Exit::CannotTell, missing));
                }
                out.note(&format!("agent: there is no {paths} yet: it is waited for"));
            }
            let left = match &until {
                Until::Read => return Ok(None),
                Until::Interrupted => Duration::MAX,
                Until::Deadline(end) => end.saturating_duration_since(Instant::now()),
                Until::Verdict(_) if is_decided(&self.verdict(follow)) => return Ok(None),
                Until::Verdict(end) => end.saturating_duration_since(Instant::now()),
            };
            if left.is_zero() || out.is_closed() {
                return Ok(None);
            }
            view.progress(out, follow, (!self.follow).then_some(left));
            let woken;
            (news, woken) = waiter.wait(&follow.logs.tails(), &[signals.as_fd()], left);
            if woken == [true]
                && let Some(signal) = signals.wait(Duration::ZERO).context("cannot wait for signals")?
            {
                return Ok(Some(signal));
            }
        }
    }
}

/// Whether waiting can't be expected to change the verdict.
fn is_decided(verdict: &Verdict) -> bool {
    match verdict.answer {
        Answer::Yes | Answer::No => true,
        Answer::Unknown => {
            matches!(verdict.reason, Reason::NotLogged | Reason::WrongFormat | Reason::CoarseStamps)
        }
    }
}
