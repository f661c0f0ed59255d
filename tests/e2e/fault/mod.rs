//! Faults against a real nginx: what is seen of each, and that each one ends.

mod as_started;
mod decoys;
mod first;
mod graceful;
mod hang;
mod hostile;
mod kept;
mod killed;
mod left;
mod life;
mod listeners;
mod lost;
pub(crate) mod net;
mod refused;
mod rehearsal;
mod robbed;
mod session;
mod strangers;
mod systemd;
mod traffic;
mod units;
mod upgraded;
mod warned;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use world::agent;
use world::client::now_ms;
use world::daemon::Daemon;
use world::nginx::Nginx;
use world::place::{Place, wait_until};

/// Far more than anything here takes: a busy machine breaks no test.
const LONG: Duration = Duration::from_secs(20);

/// An nginx in a place of its own.
struct World {
    nginx: Nginx,
    place: Place,
}

impl World {
    fn new() -> Self {
        let place = Place::new().unwrap();
        let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
        Self { nginx, place }
    }

    /// A daemon that finds this nginx well.
    fn daemon(&self) -> Daemon {
        let daemon =
            Daemon::start(&self.place, &[&format!("--nginx-url=http://{}/", self.nginx.addr)]).unwrap();
        daemon.wait_for(200, LONG).unwrap();
        daemon
    }

    /// `agent fail` on this nginx, with `--json`.
    fn fail(&self, args: &str) -> Command {
        let conf = self.nginx.conf.to_str().unwrap();
        let mut all = vec!["fail", "--json", "--conf", conf];
        all.extend(args.split_ascii_whitespace());
        agent::command(&self.place, &all)
    }

    /// Any command line, run to its end: exit code, JSON lines, stderr.
    fn run(&self, args: &[&str]) -> (i32, Vec<Value>, String) {
        finish(agent::command(&self.place, args))
    }

    fn record(&self) -> PathBuf {
        self.place.join("state/fault.json")
    }

    /// The keeper, by what it wrote into its lock; none while it writes.
    fn keeper(&self) -> Option<i32> {
        let text = std::fs::read(self.place.join("run/keeper.lock")).ok()?;
        let keeper: Value = serde_json::from_slice(&text).ok()?;
        i32::try_from(keeper["pid"].as_i64()?).ok()
    }

    /// The processes of ours in this place: the agent's, not nginx's.
    fn agents(&self) -> Vec<i32> {
        agent::processes(&self.place)
    }

    /// Waits until the fault on record, if any, is past its deadline.
    fn wait_for_deadline(&self) {
        let deadline = || {
            let record: Value = serde_json::from_slice(&std::fs::read(self.record()).ok()?).ok()?;
            record["deadline_boottime_ms"].as_u64()
        };
        assert!(wait_until(LONG, || deadline().is_none_or(|deadline| now_ms() > deadline)));
    }

    /// Waits until nothing of a fault is left: no record, no agent, and nginx answers with its own master.
    fn is_well(&self) {
        let well = || {
            !self.record().exists()
                && self.agents().is_empty()
                && self.nginx.answers()
                && self.nginx.master().is_ok_and(|pid| exists(pid) && self.nginx.workers().len() == 2)
        };
        assert!(
            wait_until(LONG, well),
            "record: {:?}, agents: {:?}, nginx answers: {}, workers: {:?}, history: {}",
            std::fs::read_to_string(self.record()),
            self.agents(),
            self.nginx.answers(),
            self.nginx.workers(),
            self.history(),
        );
    }

    /// Nothing happened: same master, nginx answers, no agent.
    fn is_untouched(&self, master: i32) {
        assert_eq!(self.nginx.master().unwrap(), master);
        assert!(exists(master) && self.nginx.answers() && self.agents().is_empty());
    }

    fn history(&self) -> String {
        std::fs::read_to_string(self.place.join("log/faults.jsonl")).unwrap_or_default()
    }
}

/// Says that a test can't be done here, and why.
#[allow(clippy::print_stderr)] // the harness shows it with --nocapture; a test has no other voice
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

fn finish(mut command: Command) -> (i32, Vec<Value>, String) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), agent::events(&output.stdout), stderr)
}

/// Whether a process runs: one that ended and that init hasn't reaped yet doesn't.
fn exists(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|fields| !fields.is_empty() && !fields.starts_with(" Z"))
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["event"].as_str().unwrap()).collect()
}
