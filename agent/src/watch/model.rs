//! All that the picture shows: what the daemon says now, the last hour, what clients get, and what happened.

use std::collections::VecDeque;

use super::clients::{Answer, Clients};
use super::facts::Facts;
use super::rows::hms;
use super::traffic::Traffic;
use crate::drill::analysis::predict::Check;
use crate::drill::analysis::report::Sources;
use crate::serve::history::{CELL_SECS, History, Observation};
use crate::stress::forecast::Capacity;
use crate::sys::cpu::CpuShare;

/// What happened is kept for so many lines.
const HAPPENED: usize = 100;

/// Probes that are missing within so many seconds are of one outage.
const OUTAGE: i64 = 120;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// Seconds since the epoch.
    pub at: i64,
    /// Of what: `health`, `nginx`, `fault`, …
    pub what: &'static str,
    /// In words.
    pub text: String,
}

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The target of the scaling policy, in percent.
    pub alarm_pct: Option<f64>,
    /// The load balancer.
    pub url: Option<String>,
    /// The target group's health check, and what of it is assumed.
    pub check: Option<(Check, Sources)>,
    /// The host's CPUs.
    pub host: Option<Capacity>,
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// What was asked for.
    pub asked: Asked,
    /// The last hour.
    pub history: History,
    /// What the daemon said last; `None` before it said anything.
    pub facts: Option<Facts>,
    /// Why the daemon says nothing now.
    pub no_daemon: Option<String>,
    /// The CPU in the last second.
    pub cpu: Option<CpuShare>,
    /// Through the load balancer.
    pub clients: Clients,
    /// Requests that are no probes.
    pub traffic: Traffic,
    /// Newest last.
    pub happened: VecDeque<Happened>,
    /// Seconds since the epoch.
    pub now: i64,
}

impl Model {
    /// Takes what is seen at `now`: the CPU's last second, and what the daemon says or why it doesn't.
    pub fn observe(&mut self, now: i64, cpu: Option<CpuShare>, daemon: Result<Facts, String>) {
        self.now = now;
        self.cpu = cpu.or(self.cpu);
        let mut seen = Observation { at: now, cpu, ..Observation::default() };
        match daemon {
            Ok(facts) => {
                match self.facts.take() {
                    Some(before) => self.changes(&before, &facts),
                    None => self.remember(&facts),
                }
                if let Some((lines, probes)) = facts.lines {
                    self.traffic.take(now, lines, probes);
                }
                seen.health = Some(facts.healthy);
                seen.nginx = facts.nginx_up;
                seen.fault = facts.fault.as_ref().map(|fault| fault.mode.clone());
                seen.stress = !facts.stress.is_empty();
                seen.nodes = facts.nodes.iter().map(|node| node.count.clone()).collect();
                self.facts = Some(facts);
                if self.no_daemon.take().is_some() {
                    self.tell("daemon", "answers again".to_owned());
                }
            }
            Err(why) => {
                if self.no_daemon.is_none() && self.facts.is_some() {
                    self.tell("daemon", format!("does not answer: {why}"));
                }
                self.no_daemon = Some(why);
            }
        }
        self.history.observe(&seen);
    }

    /// Takes the hour that the daemon has kept, beside what was seen here.
    pub fn join(&mut self, hour: History) {
        self.history.join(hour);
    }

    /// Takes an answer that a client got.
    pub fn answered(&mut self, answer: &Answer) {
        let outage = self.clients.outage_since;
        let first = self.clients.instances.is_empty();
        if self.clients.enter(answer) && !first {
            let name = answer.instance.as_deref().unwrap_or_default();
            self.tell("group", format!("{name} answers"));
        }
        match (outage, self.clients.outage_since) {
            (None, Some(_)) => {
                let error = answer.error.as_deref().unwrap_or_default();
                self.tell("clients", format!("{error} from {}", answer.node));
            }
            (Some(since), None) => {
                self.tell("clients", format!("no failure any more, after {} s", answer.at - since))
            }
            _ => {}
        }
    }

    /// What the daemon remembers of the time before this view.
    fn remember(&mut self, facts: &Facts) {
        for (at, pass, why) in facts.verdicts.iter().filter(|(at, ..)| *at <= self.now) {
            let says = if *pass { "200" } else { "503" };
            self.happened.push_back(Happened {
                at: *at,
                what: "health",
                text: format!("/health says {says}: {why}"),
            });
        }
        let cells: Vec<_> = self.history.cells.iter().cloned().collect();
        for two in cells.windows(2) {
            let [before, cell] = two else { continue };
            let mut tell = |what, text| self.happened.push_back(Happened { at: cell.at, what, text });
            match (&before.fault, &cell.fault) {
                (None, Some(mode)) => tell("fault", mode.clone()),
                (Some(mode), None) => tell("fault", format!("{mode} is over")),
                _ => {}
            }
            match (before.stress, cell.stress) {
                (false, true) => tell("stress", "begins".to_owned()),
                (true, false) => tell("stress", "is over".to_owned()),
                _ => {}
            }
        }
        self.happened.make_contiguous().sort_by_key(|happened| happened.at);
        let more = self.happened.len().saturating_sub(HAPPENED);
        self.happened.drain(..more);
    }

    /// What is different from what the daemon said before.
    fn changes(&mut self, old: &Facts, new: &Facts) {
        if old.healthy != new.healthy {
            let says = if new.healthy { "200" } else { "503" };
            self.tell("health", format!("/health says {says}: {}", new.cause));
        }
        if old.nginx_up != new.nginx_up && new.nginx_up.is_some() {
            self.tell("nginx", new.nginx.clone());
        }
        match (&old.fault, &new.fault) {
            (None, Some(fault)) => {
                let secs = fault.remaining_ms / 1000;
                self.tell("fault", format!("{} for {secs} s, by {}", fault.mode, fault.by));
            }
            (Some(fault), None) => self.tell("fault", format!("{} is over", fault.mode)),
            _ => {}
        }
        match (old.stress.first(), new.stress.first()) {
            (None, Some(stress)) => self.tell("stress", stress.clone()),
            (Some(_), None) => self.tell("stress", "is over".to_owned()),
            _ => {}
        }
        for node in &new.nodes {
            let before = old.nodes.iter().find(|n| n.count.node == node.count.node);
            let missed = node.count.missed.saturating_sub(before.map_or(0, |n| n.count.missed));
            if before.is_some() && missed > 0 {
                self.missing(&node.count.node, missed);
            }
        }
    }

    /// Probes of a node that did not come: those of one outage are one line.
    fn missing(&mut self, node: &str, missed: u64) {
        let start = format!("{node}: ");
        let last = self.happened.iter_mut().rev().find(|h| h.what == "node" && h.text.starts_with(&start));
        let recent = last.filter(|last| self.now - last.at <= OUTAGE);
        let before = recent.as_ref().and_then(|last| last.text.split(' ').nth(1)?.parse::<u64>().ok());
        match (recent, before) {
            (Some(last), Some(before)) => {
                last.text = format!("{start}{} missing until {}", before + missed, hms(self.now));
            }
            _ => self.tell("node", format!("{start}{missed} missing")),
        }
    }

    /// Enters what happened.
    pub fn tell(&mut self, what: &'static str, text: String) {
        if self.happened.len() == HAPPENED {
            self.happened.pop_front();
        }
        self.happened.push_back(Happened { at: self.now, what, text });
    }

    /// The start of the cell that is now, where a cell of the picture is `span` seconds.
    pub fn cell(&self, span: i64) -> i64 {
        self.now.div_euclid(span.max(CELL_SECS)) * span.max(CELL_SECS)
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Fault;
    use super::*;

    #[test]
    fn what_the_daemon_remembers_is_told_by_a_view_that_is_opened_later() {
        let mut hour = History::default();
        for (at, fault, stress) in
            [(0, None, true), (5, Some("stop"), false), (10, Some("stop"), false), (15, None, false)]
        {
            let fault = fault.map(str::to_owned);
            hour.observe(&Observation { at, fault, stress, ..Observation::default() });
        }
        let mut model = Model::default();
        model.join(hour);
        let verdicts = vec![(6, false, "nginx".to_owned()), (14, true, "nginx".to_owned())];
        let well = Facts { healthy: true, verdicts, ..Facts::default() };
        model.observe(20, None, Ok(well.clone()));
        model.observe(21, None, Ok(well));
        let told: Vec<String> =
            model.happened.iter().map(|h| format!("{} {} {}", h.at, h.what, h.text)).collect();
        assert_eq!(
            told,
            [
                "5 fault stop",
                "5 stress is over",
                "6 health /health says 503: nginx",
                "14 health /health says 200: nginx",
                "15 fault stop is over",
            ]
        );
    }

    #[test]
    fn what_changes_between_two_looks_is_told_once() {
        let mut model = Model::default();
        let well = Facts { healthy: true, nginx_up: Some(true), ..Facts::default() };
        let fault =
            Fault { mode: "stop".into(), by: "root".into(), remaining_ms: 30_000, ..Fault::default() };
        let failing = Facts {
            healthy: false,
            nginx_up: Some(false),
            cause: "nginx refuses".into(),
            nginx: "refuses".into(),
            fault: Some(fault),
            ..Facts::default()
        };
        model.observe(100, None, Ok(well.clone()));
        assert!(model.happened.is_empty());
        model.observe(101, None, Ok(failing.clone()));
        model.observe(102, None, Ok(failing));
        model.observe(103, None, Err("gone".into()));
        model.observe(104, None, Err("gone".into()));
        model.observe(105, None, Ok(well));
        let told: Vec<String> =
            model.happened.iter().map(|h| format!("{} {} {}", h.at, h.what, h.text)).collect();
        assert_eq!(
            told,
            [
                "101 health /health says 503: nginx refuses",
                "101 nginx refuses",
                "101 fault stop for 30 s, by root",
                "103 daemon does not answer: gone",
                "105 health /health says 200: ",
                "105 nginx ",
                "105 fault stop is over",
                "105 daemon answers again",
            ]
        );
    }
}
