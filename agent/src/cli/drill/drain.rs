//! `agent drill drain`: how long the load balancer still sends requests here, and whether it is safe to stop now.

use super::args::{CheckArgs, ClientArgs};
use super::ends::last_line;
use super::failover::Failover;
use super::history::EarlierArgs;
use super::paper::{say, table};
use super::result_view::answer;
use crate::cli::output::Output;
use crate::cli::{Common, Exit, Failure};
use crate::config::{Span, parse_span};
use crate::drill::analysis::drain::{DrainReport, NodeDrain, summary};
use crate::drill::analysis::verdict::{Answer, secs};
use crate::drill::events::Outcome;
use crate::fault::Mode;

/// How long it may take where nobody says: until `/health` is failed by every address, until a deregistered target is left
/// alone, and for a look.
const OURS: u64 = 120_000;
const WAIT: u64 = 600_000;
const LOOK: u64 = 10_000;

/// Measure how long the load balancer still sends requests to this target when it is to be used no more
///
/// Lets /health answer 503, as the agent does when it ends, until no address of the URL's name sends requests here any
/// more; then takes that back. With --observe nothing is touched: for a target that is deregistered, in
/// Terminating:Wait, in standby, or drained by hand.
///
/// Exit code 0: it is safe to stop this target now: no request was sent here for long enough, and none is under way. 1: it
/// is not, or it took another time than predicted. 2: wrong usage. 3: cannot tell. 4: refused, nothing was touched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    agent drill drain --url http://my-alb.example/\n  \
    aws elbv2 deregister-targets …; agent drill drain --url http://my-alb.example/ --observe --wait && systemctl stop nginx")]
pub(super) struct Drain {
    /// What clients ask the load balancer for
    #[arg(long, value_name = "URL")]
    url: String,
    /// Touch nothing: it is deregistered, or drained, by somebody else
    #[arg(long)]
    observe: bool,
    /// Wait until it is safe to stop this target, for as long as --secs
    #[arg(long)]
    wait: bool,
    /// How long at most [default: 2m; with --observe 10s; with --observe --wait 10m]
    #[arg(long, value_name = "D", value_parser = parse_span)]
    secs: Option<Span>,
    /// Requests a second to each address of the name, half of them on new connections
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rps: u32,
    /// The instance that is to be used no more [default: this one]
    #[arg(long, value_name = "ID")]
    expect_instance: Option<String>,
    #[command(flatten)]
    earlier: EarlierArgs,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    check: CheckArgs,
    /// Go on although something speaks against it
    #[arg(long)]
    force: bool,
}

impl Drain {
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        let usual = match (self.observe, self.wait) {
            (false, _) => OURS,
            (true, true) => WAIT,
            (true, false) => LOOK,
        };
        let failover = Failover {
            url: self.url,
            mode: Mode::Unhealthy,
            secs: self.secs.unwrap_or(Span::millis(usual)),
            rps: self.rps,
            observe: self.observe,
            expect_instance: self.expect_instance,
            report: None,
            earlier: self.earlier,
            client: self.client,
            check: self.check,
            max_error_pct: None,
            max_outage: None,
            conf: None,
            pid: None,
            delay: None,
            status: None,
            force: self.force,
            drain: true,
        };
        failover.run(common)
    }
}

/// The end.
pub(super) fn show(out: &mut Output, result: &DrainReport) {
    if out.is_json() {
        return out.event(&last_line(Outcome::Drain(result), None));
    }
    out.text("");
    let time = |ms: Option<f64>| {
        ms.map_or_else(|| "-".to_owned(), |ms| secs(std::time::Duration::from_secs_f64(ms / 1e3)))
    };
    let row = |node: &NodeDrain| {
        vec![node.node.clone(), time(node.drained_after_ms), time(node.last_answer_after_ms)]
    };
    let heads = [("address", -22), ("last request", 14), ("last answer", 14)];
    table(out, &heads, &result.nodes.iter().filter(|node| node.used).map(row).collect::<Vec<_>>());
    say(out, &summary(result));
    say(
        out,
        &format!(
            "in flight: {} when it began, {} at the end; {} requests; {} failed since it began",
            result.in_flight_at_start, result.in_flight, result.requests, result.errors
        ),
    );
    out.text("");
    answer(out, "hypothesis", result.hypothesis.as_ref());
    answer(out, "clean-up", result.cleanup.as_ref());
    answer(out, "safe to stop", Some(&result.safe_to_stop));
    answer(out, "regression", result.regression.as_ref());
}

/// The exit code, in the order of a drill of failing over.
pub(super) fn exit(result: &DrainReport) -> Exit {
    let of = |verdict: &Option<crate::drill::analysis::verdict::Verdict>| {
        verdict.as_ref().map_or(Answer::Yes, |verdict| verdict.answer)
    };
    let answers =
        [of(&result.cleanup), result.safe_to_stop.answer, of(&result.hypothesis), of(&result.regression)];
    match result.signal {
        _ if answers[0] == Answer::No => Exit::No,
        Some(signal) => Exit::Signal(signal),
        None if answers.contains(&Answer::No) => Exit::No,
        None if answers.contains(&Answer::Unknown) => Exit::CannotTell,
        None => Exit::Done,
    }
}
