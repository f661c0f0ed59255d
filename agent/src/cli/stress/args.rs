//! The flags of `agent stress`, and what they wish for.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use crate::cli::{Exit, Failure};
use crate::config::parse_duration;
use crate::stress::curve::Curve;
use crate::stress::forecast::{Alarm, Period};
use crate::stress::plan::{Of, Priority, Wish, Workers};

/// Load the CPUs, and see what CloudWatch will read
///
/// Ends at its deadline, on Ctrl-C, SIGTERM, and when the terminal goes; whatever ends it, nothing is left behind.
/// The load comes after everything else, as far as the first line says, so nginx stays prompt, and CloudWatch reads the
/// same.
///
/// Exit code: 0 what was asked for was reached, within 2 points: with --cpu alone and with --target the host was as busy
/// as that or busier, with --load and --profile each worker had its share, with --alarm and --until-alarm the alarm is
/// certain; 1 it was not; 2 what was asked for is impossible; 3 the alarm is only possible, or the host doesn't allow a
/// run; 129, 130 or 143 interrupted.
#[derive(Debug, clap::Args)]
#[command(
    version,
    after_help = "Examples:\n  \
    agent stress --cpu 1 --secs 600           one CPU at 100 % for ten minutes, as with stress\n  \
    agent stress --until-alarm 50             until the policy's scale-out alarm is certain\n  \
    agent stress --target 70 --secs 15m       the whole host at 70 %, whatever else runs\n  \
    agent stress --load 30 --ramp 2m -t 10m   every CPU at 30 % more, after two minutes of ramp\n  \
    agent stress --alarm 50 --secs 4m -n      what would happen, and no load"
)]
pub(in crate::cli) struct Args {
    /// How many workers: a number, or "all" that the cpuset and the cgroup quota allow
    #[arg(short, long, value_name = "N|all", default_value = "all", value_parser = workers, allow_hyphen_values = true)]
    pub(super) cpu: Workers,
    /// How long: 600, 600s, 10m, 1h; 0 runs until interrupted [default: 60s, or the profile's end; 30m with --until-alarm]
    #[arg(short = 't', long, visible_alias = "timeout", value_name = "D", value_parser = parse_duration, allow_hyphen_values = true)]
    pub(super) secs: Option<Duration>,
    /// Each worker's share of one CPU, in percent, whatever else runs [default: 100]
    #[arg(short, long, value_name = "PCT", value_parser = percent, allow_hyphen_values = true)]
    pub(super) load: Option<f64>,
    /// Hold the whole host at this percentage, steal excluded, whatever else runs
    #[arg(long, value_name = "PCT", value_parser = percent, allow_hyphen_values = true)]
    pub(super) target: Option<f64>,
    /// With --target: a host that others keep above it is a failure
    #[arg(long, requires = "target")]
    pub(super) exact: bool,
    /// Follow a curve: lines of "seconds percent" (of each worker's CPU), linear between; "-" reads stdin
    #[arg(long, value_name = "FILE")]
    pub(super) profile: Option<PathBuf>,
    /// Rise to the load or the target over this time
    #[arg(long, value_name = "D", value_parser = parse_duration, allow_hyphen_values = true)]
    pub(super) ramp: Option<Duration>,
    /// idle: everything else comes first; normal: a noisy neighbour
    #[arg(long, value_enum, default_value = "idle")]
    pub(super) priority: Priority,
    /// What --load and --profile are a share of: a CPU of the host, or what the cgroup allows
    #[arg(long, value_enum, default_value = "host")]
    pub(super) of: Of,
    /// The scaling policy's target: tells whether and when its scale-out alarm fires, which is then the exit code
    #[arg(long, value_name = "PCT", value_parser = percent, allow_hyphen_values = true)]
    pub(super) alarm: Option<f64>,
    /// Burn until that alarm's datapoints are certain, --secs at most
    #[arg(long, value_name = "PCT", value_parser = percent, conflicts_with = "alarm", allow_hyphen_values = true)]
    pub(super) until_alarm: Option<f64>,
    /// With --until-alarm: how much longer, once they are certain
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "60s", requires = "until_alarm")]
    pub(super) hold: Duration,
    /// How long a datapoint is: 60s; 10s, 20s, 30s (high resolution); 5m (basic monitoring)
    #[arg(long, value_name = "D", value_parser = period, default_value = "60s")]
    pub(super) alarm_period: Period,
    /// This many other instances in the group, all idle
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000), allow_hyphen_values = true)]
    pub(super) fleet: u32,
    /// The group's instance warm-up: metrics of a fresh instance don't count [default: 300s while the host is younger]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub(super) warmup: Option<Duration>,
    /// Tell everything that is known, and burn nothing
    #[arg(short = 'n', long, visible_alias = "dry-run")]
    pub(super) explain: bool,
    /// Tell all that is known at the start
    #[arg(short, long, conflicts_with = "quiet")]
    pub(super) verbose: bool,
    /// Tell nothing but errors, and with --json the JSON
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Taken for the sake of stress, where it keeps forks apart; threads need none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64))]
    pub(super) backoff: Option<u64>,
}

impl Args {
    /// The policy's alarm.
    pub(super) fn policy(&self) -> Result<Option<Alarm>, Failure> {
        let named = self.alarm.map(|pct| ("--alarm", pct));
        let Some((flag, target_pct)) = named.or(self.until_alarm.map(|pct| ("--until-alarm", pct))) else {
            if self.fleet > 0 {
                return Err(Failure::new(Exit::Usage, anyhow!("--fleet goes with --alarm or --until-alarm")));
            }
            return Ok(None);
        };
        if !(target_pct > 0.0 && target_pct <= 100.0) {
            let wrong = anyhow!("{flag} {target_pct}: a percentage above 0, at most 100");
            return Err(Failure::new(Exit::Usage, wrong));
        }
        Ok(Some(Alarm { target_pct, fleet: self.fleet }))
    }

    /// What is wished for, with the profile that was read.
    pub(super) fn wish(&self, profile: Option<Curve>) -> Wish {
        // Nobody burns for a day because an alarm doesn't fire: two rows of datapoints and more.
        let limit = Duration::from_secs(if self.alarm_period == Period::FiveMinutes { 3600 } else { 1800 });
        let until = self.until_alarm.filter(|_| profile.is_none()).map(|_| limit);
        Wish {
            workers: self.cpu,
            secs: self.secs.or(until),
            load_pct: self.load,
            target_pct: self.target,
            ramp: self.ramp,
            profile,
            priority: self.priority,
            of: self.of,
            exact: self.exact,
        }
    }
}

fn workers(text: &str) -> Result<Workers, String> {
    match text {
        "all" => Ok(Workers::All),
        _ => text
            .parse()
            .map(Workers::Count)
            .map_err(|_| "write a whole number of workers, from 1 to 4096, or all".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|pct: &f64| pct.is_finite());
    number.ok_or_else(|| "write a percentage, such as 70".to_owned())
}

fn period(text: &str) -> Result<Period, String> {
    let period = parse_duration(text).ok().and_then(Period::of);
    period.ok_or_else(|| "write 60s, 10s, 20s, 30s or 5m".to_owned())
}
