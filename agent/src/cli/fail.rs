//! `agent fail`: makes nginx fail for a while.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::fail_events::{FailEvent, Planned, PlannedNginx, PlannedStart};
use crate::cli::output::Output;
use crate::cli::told::{failure, print};
use crate::cli::{Common, Exit, Failure, Settings};
use crate::config::{Span, parse_span};
use crate::fault::event::Outcome;
use crate::fault::preflight::{Choose, Plan, Request, rehearsed};
use crate::fault::{self, MAX, MAX_FORCED, Mode, history};
use crate::nginx::target::Lookup;

/// Longer than any health check of a load balancer that probes every 5 s waits.
const DELAY: Span = Span::millis(10_000);

/// Make nginx fail for a while, and bring it back
///
/// Finds the one nginx that runs here, writes down how to bring it back, starts a keeper that ends the fault even
/// when this command is killed, and only then touches anything. Ends at the deadline, on Ctrl-C, and when the
/// terminal hangs up; it is over when nginx was seen to answer. Needs root.
///
/// Exit code 0: it failed and came back. 1: it had no effect, or did not come back (it is tried again). 2: wrong
/// usage. 3: no nginx found, or not permitted. 4: refused because unsafe; nothing was touched.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  agent fail --mode stop --secs 60        what `service nginx stop` does, for a minute\n  \
    agent fail --mode crash --dry-run       what would be killed, and how it would come back\n  \
    agent fail --mode slow --delay 10s      /health answers too late for the load balancer"
)]
pub(super) struct Fail {
    /// How nginx fails
    #[arg(long, value_enum)]
    pub(super) mode: Mode,
    /// How long: at most 300, with --force 3600
    #[arg(long, value_name = "D", default_value = "60", value_parser = parse_span)]
    pub(super) secs: Span,
    /// The nginx with this configuration, where several run
    #[arg(long, value_name = "NGINX.CONF", conflicts_with = "pid")]
    pub(super) conf: Option<PathBuf>,
    /// The nginx with this master process, where several run
    #[arg(long, value_name = "PID")]
    pub(super) pid: Option<i32>,
    /// slow: how late /health answers [default: 10s]
    #[arg(long, value_name = "D", value_parser = parse_span)]
    pub(super) delay: Option<Span>,
    /// error: what requests are answered, 400 to 599 [default: 503]
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(400..=599))]
    pub(super) status: Option<u16>,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Return once the effect was seen; the keeper ends the fault, or `agent recover`
    #[arg(long)]
    pub(super) detach: bool,
    /// Allow up to 3600 seconds, and a crash that a supervisor or systemd's Restart= undoes at once
    #[arg(long)]
    pub(super) force: bool,
}

impl Fail {
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        let settings = Settings::load(common, Vec::new())?;
        let request = self.request(&settings)?;
        let mut out = Output::unwaiting(common.json);
        if self.dry_run {
            return dry_run(&mut out, &settings, &request);
        }
        let mut tell = |told| print(&mut out, &told);
        let outcome = fault::run::fail(&settings.paths, &request, self.detach, &mut tell);
        let outcome = outcome.inspect_err(|e| {
            if let fault::FaultError::NotRecovered(_) | fault::FaultError::GoingDown = e {
                out.event(&FailEvent::NotRecovered { recovered: false });
            }
        });
        let outcome = outcome.map_err(failure)?;
        say_result(&mut out, &outcome);
        Ok(match outcome.signal {
            Some(signal) => Exit::Signal(signal),
            None if !outcome.effective || outcome.lost.is_some() || !outcome.differences.is_empty() => {
                Exit::No
            }
            None => Exit::Done,
        })
    }

    /// The fault that is asked for, with what the daemon knows.
    ///
    /// # Errors
    /// Exit 2 for flags that make no sense together.
    pub(super) fn request(&self, settings: &Settings) -> Result<Request, Failure> {
        let usage = |message: String| Failure::new(Exit::Usage, anyhow::anyhow!(message));
        let Span(lasts) = self.secs;
        if lasts < Duration::from_secs(1) || lasts > MAX_FORCED {
            let (most, forced) = (MAX.as_secs(), MAX_FORCED.as_secs());
            return Err(usage(format!(
                "--secs {}: a fault lasts 1 to {most} s, with --force up to {forced}",
                self.secs
            )));
        }
        if self.delay.is_some() && self.mode != Mode::Slow {
            return Err(usage(format!("--delay is for --mode slow, not {}", self.mode.name())));
        }
        if self.status.is_some() && self.mode != Mode::Error {
            return Err(usage(format!("--status is for --mode error, not {}", self.mode.name())));
        }
        let choose = match (&self.conf, self.pid) {
            (Some(conf), _) => Choose::Conf(conf.clone()),
            (None, Some(pid)) => Choose::Pid(pid),
            (None, None) => Choose::Only,
        };
        if choose != Choose::Only && !self.mode.touches_nginx() {
            return Err(usage(format!(
                "--mode {} touches no nginx: leave out --conf and --pid",
                self.mode.name()
            )));
        }
        let daemon = Daemon::ask(settings);
        Ok(Request {
            mode: self.mode,
            lasts,
            delay: (self.mode == Mode::Slow).then(|| self.delay.unwrap_or(DELAY).0),
            status: (self.mode == Mode::Error).then(|| self.status.unwrap_or(503)),
            health: crate::nginx::conf::on_this_machine(daemon.listen),
            choose,
            url: match crate::nginx::target::find(&settings.nginx) {
                Lookup::Found { target, .. } if settings.nginx.url.is_some() => Some(Box::new(target)),
                _ => None,
            },
            cadence: daemon.cadence,
            force: self.force,
            by: history::who(|name| std::env::var(name).ok()),
        })
    }
}

/// What the daemon of this machine knows that matters here; the settings where there is none.
struct Daemon {
    /// Where it serves `/health`, also where its command line says so.
    listen: SocketAddr,
    /// How far apart the slowest node's probes are.
    cadence: Option<Duration>,
}

impl Daemon {
    fn ask(settings: &Settings) -> Self {
        let status = super::status::ask(settings.serve.admin).ok();
        let listen = status.as_ref().map(|status| status.listener.address);
        let nodes = status.iter().flat_map(|status| &status.probes.nodes);
        let cadence = nodes.filter_map(|node| u64::try_from(node.interval_p50_ms?).ok()).max();
        Self { listen: listen.unwrap_or(settings.serve.listen), cadence: cadence.map(Duration::from_millis) }
    }
}

/// Only looks: the rehearsal's answer is the exit code.
fn dry_run(out: &mut Output, settings: &Settings, request: &Request) -> Result<Exit, Failure> {
    let active =
        fault::Record::read(&settings.paths.state).map_err(fault::FaultError::from).map_err(failure)?;
    if let Some(record) = active {
        let text = fault::describe(&record);
        out.event(&FailEvent::Active { mode: request.mode, active: &text });
        return Err(failure(fault::FaultError::Active(text)));
    }
    let plan = rehearsed(request).map_err(failure)?;
    plan.notes.iter().for_each(|text| out.note(&format!("agent: {text}")));
    say_plan(out, request, &plan);
    let Some(because) = &plan.rehearsal.because else {
        out.text("can be brought back: yes");
        return Ok(Exit::Done);
    };
    out.text(&format!("can be brought back: no, because {because}"));
    Ok(Exit::Refused)
}

fn say_plan(out: &mut Output, request: &Request, plan: &Plan) {
    let workers: Vec<i32> = plan.workers.iter().map(|w| w.pid).collect();
    let (mode, secs) = (request.mode, request.lasts.as_secs_f64());
    let mut planned =
        Planned { mode, secs, signals: Vec::new(), restore: None, rehearsal: &plan.rehearsal, nginx: None };
    let Some(target) = plan.fault.target() else {
        out.event(&FailEvent::Plan(planned));
        out.text(&format!("would put {} on record for {secs} s; nginx is not touched", mode.name()));
        return;
    };
    let pid = target.master.pid;
    let mut nginx = PlannedNginx {
        pid,
        workers: &workers,
        conf: &target.conf,
        answers_at: &target.endpoint.addr,
        ports: None,
        start: None,
    };
    let signals = match mode {
        Mode::Crash => format!("SIGKILL to master {pid} and its workers {workers:?}"),
        mode if mode == Mode::Hang || mode.touches_packets() => {
            let addrs = &target.listens;
            let what = match mode {
                Mode::Hang => format!("would hold master {pid} and its workers {workers:?} in a ptrace stop"),
                _ => format!("would {} connections from other machines to {addrs:?} (nftables)", mode.name()),
            };
            let until = format!("after {secs} s would end that and wait until nginx answers at");
            nginx.ports = Some(addrs);
            planned.nginx = Some(nginx);
            out.event(&FailEvent::Plan(planned));
            return out.text(&format!("{what}\n{until} {}", target.endpoint.addr));
        }
        _ if target.unit.is_some() => {
            format!("`systemctl stop {}`", target.unit.as_deref().unwrap_or_default())
        }
        _ => format!("SIGQUIT to master {pid}; SIGTERM after 5 s, SIGKILL after 10"),
    };
    let restore = match &target.unit {
        Some(unit) => format!("systemctl restart {unit}"),
        None => format!("{} {}", target.exe.path.display(), target.args.join(" ")),
    };
    let (restore, uid) = (restore.trim_end(), target.credentials.uid);
    nginx.start = Some(PlannedStart {
        cwd: &target.cwd,
        uid,
        unit: target.unit.as_deref(),
        dependents: &target.dependents,
    });
    (planned.signals, planned.restore, planned.nginx) = (vec![signals.clone()], Some(restore), Some(nginx));
    out.event(&FailEvent::Plan(planned));
    out.text(&format!("would send {signals}"));
    out.text(&format!("after {secs} s would run `{restore}` in {} as uid {uid}", target.cwd.display()));
    out.text(&format!("and wait until nginx answers at {}", target.endpoint.addr));
}

fn say_result(out: &mut Output, outcome: &Outcome) {
    out.event(&FailEvent::Result(outcome));
    if outcome.detached {
        out.text("the keeper ends it; `agent recover` ends it now");
    }
}
