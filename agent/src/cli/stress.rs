//! `agent stress`: CPU load at a share that is asked for.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::exit::OrExit;
use super::output::Output;
use super::stress_view::View;
use super::{Common, Exit, Failure, Settings};
use crate::config::parse_duration;
use crate::identity;
use crate::stress::alarm::Alarm;
use crate::stress::allowed::Allowed;
use crate::stress::curve::Curve;
use crate::stress::plan::{Priority, Wish, Workers};
use crate::stress::run::{Ended, Setting, run};
use crate::stress::summary::Summary;
use crate::sys::sigwait::Signals;

/// A day of seconds and percentages fits.
const MAX_PROFILE_BYTES: u64 = 4 << 20;

/// How long the metadata service may take; it is asked once.
const IMDS_LIMIT: Duration = Duration::from_secs(5);

/// Load the CPUs, and see what CloudWatch will read
///
/// Ends at its deadline, on Ctrl-C, SIGTERM, and when the terminal goes; whatever ends it, nothing is left behind.
/// The load comes after everything else on the host, so nginx stays prompt, and CloudWatch reads the same.
///
/// Exit code: 0 the load was held for the full time, within 2 points; 1 it was not; 2 an impossible wish;
/// 130 or 143 interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    agent stress --cpu 1 --secs 600           one CPU at 100 % for ten minutes, as with stress\n  \
    agent stress --target 70 --secs 15m       the whole host at 70 %, whatever else runs\n  \
    agent stress --load 30 --ramp 2m -t 10m   every CPU at 30 % more, after two minutes of ramp")]
pub(super) struct Args {
    /// How many workers: a number, or "all" that the cpuset and the cgroup quota allow
    #[arg(short, long, value_name = "N|all", default_value = "all", value_parser = workers)]
    cpu: Workers,
    /// How long: 600, 600s, 10m, 1h; 0 runs until interrupted [default: 60s, or the profile's end]
    #[arg(short = 't', long, visible_alias = "timeout", value_name = "D", value_parser = parse_duration)]
    secs: Option<Duration>,
    /// Each worker's share of one CPU, in percent, whatever else runs [default: 100]
    #[arg(short, long, value_name = "PCT", value_parser = percent)]
    load: Option<f64>,
    /// Hold the whole host at this percentage, steal excluded, whatever else runs
    #[arg(long, value_name = "PCT", value_parser = percent)]
    target: Option<f64>,
    /// Follow a curve: lines of "seconds percent" (of each worker's CPU), linear between; "-" reads stdin
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Rise to the load or the target over this time
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    ramp: Option<Duration>,
    /// idle: everything else comes first; normal: a noisy neighbour
    #[arg(long, value_enum, default_value = "idle")]
    priority: Priority,
    /// The scaling policy's target: tells in which minute its scale-out alarm would fire
    #[arg(long, value_name = "PCT", value_parser = percent)]
    alarm: Option<f64>,
    /// With --alarm: this many other instances in the group, all idle
    #[arg(long, value_name = "N", default_value_t = 0, requires = "alarm", value_parser = clap::value_parser!(u32).range(..=10_000))]
    fleet: u32,
    #[command(flatten)]
    foreign: Foreign,
}

/// Flags of stress that don't exist here, so that they get a better answer than "unexpected argument".
#[derive(Debug, clap::Args)]
struct Foreign {
    #[arg(short = 'i', long, hide = true, value_name = "N", num_args = 0..=1)]
    io: Option<Option<String>>,
    #[arg(short = 'm', long, hide = true, value_name = "N", num_args = 0..=1)]
    vm: Option<Option<String>>,
    #[arg(short = 'd', long, hide = true, value_name = "N", num_args = 0..=1)]
    hdd: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    vm_bytes: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    vm_stride: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    vm_hang: Option<Option<String>>,
    #[arg(long, hide = true)]
    vm_keep: bool,
    #[arg(long, hide = true, num_args = 0..=1)]
    hdd_bytes: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    backoff: Option<Option<String>>,
}

impl Foreign {
    fn first(&self) -> Option<&'static str> {
        let named = [
            ("--io", self.io.is_some()),
            ("--vm", self.vm.is_some()),
            ("--hdd", self.hdd.is_some()),
            ("--vm-bytes", self.vm_bytes.is_some()),
            ("--vm-stride", self.vm_stride.is_some()),
            ("--vm-hang", self.vm_hang.is_some()),
            ("--vm-keep", self.vm_keep),
            ("--hdd-bytes", self.hdd_bytes.is_some()),
            ("--backoff", self.backoff.is_some()),
        ];
        named.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

impl Args {
    /// Runs the verb to its end.
    ///
    /// # Errors
    /// Exit 2 for an impossible wish, exit 3 where the host doesn't allow a run.
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        if let Some(flag) = self.foreign.first() {
            return Err(Failure::new(
                Exit::Usage,
                anyhow!(
                    "{flag} of stress does not exist here, only CPU load does: --cpu, --secs, --load, --target, \
                     --profile, --ramp, --priority; for memory and disks there is stress-ng"
                ),
            ));
        }
        // Before anything starts: a signal from now on ends the run with its summary.
        let signals = Signals::block().context("cannot wait for signals")?;
        let settings = Settings::load(common, Vec::new())?;
        let allowed = Allowed::now().context("cannot tell which CPUs may be used")?;
        let plan = self.wish()?.plan(allowed.workers()).or_exit(Exit::Usage)?;
        let alarm = self.alarm()?;
        let identity = settings.identity;
        let mut out = Output::new(common.json);
        let mut view = View::new(&plan, &allowed, alarm);
        let setting = Setting {
            cpus: &allowed.cpus,
            quota: allowed.quota.clone(),
            run_dir: &settings.paths.run,
            who: who(),
            instance_type: Arc::new(move || instance_type(identity.clone())),
            signals: &signals,
        };
        let outcome =
            run(&plan, setting, &mut |event| view.show(&mut out, event)).or_exit(Exit::CannotTell)?;
        let summary = Summary::of(&plan, &outcome, allowed.count(), alarm);
        view.ended(&mut out, &summary);
        Ok(match outcome.ended {
            Ended::Signal(signal) => Exit::Signal(signal),
            Ended::Deadline if summary.reached => Exit::Done,
            Ended::Deadline => Exit::No,
        })
    }

    fn alarm(&self) -> Result<Option<Alarm>, Failure> {
        let Some(target_pct) = self.alarm else { return Ok(None) };
        if !(target_pct > 0.0 && target_pct <= 100.0) {
            let wrong = anyhow!("--alarm {target_pct}: a percentage above 0, at most 100");
            return Err(Failure::new(Exit::Usage, wrong));
        }
        Ok(Some(Alarm { target_pct, fleet: self.fleet }))
    }

    fn wish(&self) -> Result<Wish, Failure> {
        Ok(Wish {
            workers: self.cpu,
            secs: self.secs,
            load_pct: self.load,
            target_pct: self.target,
            ramp: self.ramp,
            profile: self.profile.as_deref().map(profile).transpose().or_exit(Exit::Usage)?,
            priority: self.priority,
        })
    }
}

fn profile(path: &Path) -> anyhow::Result<Curve> {
    let mut text = String::new();
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    let read = match path.to_str() {
        Some("-") => std::io::stdin().lock().take(MAX_PROFILE_BYTES).read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|f| f.take(MAX_PROFILE_BYTES).read_to_string(&mut text)),
    };
    read.with_context(|| format!("cannot read the profile {name}"))?;
    Curve::parse(&text).with_context(|| format!("profile {name}"))
}

/// The instance's type. Asked on a thread of its own, and only once the hypervisor withholds time: no run needs a
/// runtime before.
fn instance_type(settings: identity::Settings) -> Option<String> {
    let ask = async {
        let mut identity = identity::watch(settings);
        let known = identity.wait_for(|now| now.source != identity::Source::Unknown);
        let now = tokio::time::timeout(IMDS_LIMIT, known).await.ok()?.ok()?.clone();
        now.instance_type().map(str::to_owned)
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?.block_on(ask)
}

/// Who started this, as far as the environment and the user database tell.
fn who() -> String {
    let uid = nix::unistd::getuid();
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| uid.is_root() && !name.is_empty());
    let user = || Some(nix::unistd::User::from_uid(uid).ok()??.name);
    sudo.or_else(user)
        .unwrap_or_else(|| format!("uid {uid}"))
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect()
}

fn workers(text: &str) -> Result<Workers, String> {
    match text {
        "all" => Ok(Workers::All),
        _ => text.parse().map(Workers::Count).map_err(|_| "write a number of workers, or all".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    text.trim_end_matches('%').parse().map_err(|_| "write a percentage, such as 70".to_owned())
}
