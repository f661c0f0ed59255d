//! `/metrics`: the same for Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use clap::ValueEnum;

use super::counters::BOUNDS_US;
use super::status::Sources;
use crate::fault::record::Mode;
use crate::health::Status;
use crate::stress::record;
use crate::sys::{clock, log};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text being written.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP asg_agent_{name} {help}\n# TYPE asg_agent_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "asg_agent_{name}");
        for (index, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{escaped}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// What is told by labels alone.
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, "gauge", help);
        self.sample(name, labels, 1);
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// All metrics at this moment.
pub(super) fn text(sources: &Sources) -> String {
    let mut out = Text(String::with_capacity(4096));
    let now = Instant::now();
    let report = sources.report.borrow().clone();

    out.info("build_info", "Version of the agent.", &[("version", env!("CARGO_PKG_VERSION"))]);
    let who = &report.identity;
    let labels =
        [("instance", who.instance.as_str()), ("zone", who.zone.as_str()), ("type", who.kind.as_str())];
    out.info("instance_info", "Who this instance is.", &labels);
    let help = "When the agent started, in seconds since 1970.";
    let started = sources.started_at.as_millisecond() as f64 / 1e3;
    // Without our prefix, as every exporter has it.
    let _ = writeln!(
        out.0,
        "# HELP process_start_time_seconds {help}\n# TYPE process_start_time_seconds gauge\n\
         process_start_time_seconds {started}"
    );
    out.single("healthy", "gauge", "Whether /health says 200.", u8::from(sources.is_healthy()));
    out.family("verdict", "gauge", "What /health says: 1 for the state that it is in.");
    for (state, pass) in [("pass", true), ("fail", false)] {
        out.sample("verdict", &[("state", state)], u8::from(sources.is_healthy() == pass));
    }
    out.family("verdict_changes_total", "counter", "How often /health began to say so.");
    for (state, count) in [("pass", report.turned.0), ("fail", report.turned.1)] {
        out.sample("verdict_changes_total", &[("to", state)], count);
    }
    out.single(
        "fresh",
        "gauge",
        "Whether the samplers have published lately.",
        u8::from(sources.board.is_fresh(now)),
    );
    out.single("draining", "gauge", "Whether the agent is ending.", u8::from(sources.board.is_draining()));
    for (name, status, help) in [
        ("check_failing", Status::Fail, "Whether the check makes the target unhealthy."),
        ("check_warning", Status::Warn, "Whether the check wants a look."),
    ] {
        out.family(name, "gauge", help);
        for check in &report.checks {
            out.sample(name, &[("check", check.name)], u8::from(check.status == status));
        }
    }
    out.family("check_age_seconds", "gauge", "Time since the check was made.");
    for check in &report.checks {
        let age = now.saturating_duration_since(check.at).as_secs_f64();
        out.sample("check_age_seconds", &[("check", check.name)], age);
    }
    if let Some(up) = report.nginx_up {
        out.single("nginx_up", "gauge", "Whether nginx answers.", u8::from(up));
    }
    let fault = report.fault.as_ref();
    out.family("fault", "gauge", "The simulated failure on record: 1 for its mode.");
    for mode in Mode::value_variants() {
        out.sample(
            "fault",
            &[("mode", mode.name())],
            u8::from(fault.is_some_and(|fault| fault.mode == *mode)),
        );
    }
    out.single(
        "fault_active",
        "gauge",
        "Whether a simulated failure is on record.",
        u8::from(fault.is_some()),
    );
    let help = "Whether the fault is past its deadline and waits for recovery.";
    out.single("fault_overdue", "gauge", help, u8::from(fault.is_some_and(|fault| fault.overdue)));
    let stress = record::read(&sources.run);
    out.single("stress_active", "gauge", "Runs of agent stress on this host.", stress.len());
    let left = stress.iter().filter_map(|running| running.remaining(clock::since_boot())).max();
    if let Some(left) = left {
        let help = "Time until the last stress with a deadline ends.";
        out.single("stress_remaining_seconds", "gauge", help, left.as_secs_f64());
    }
    if let Some(target) = stress.iter().filter_map(|running| running.target_pct).reduce(f64::max) {
        let help = "The busy share of the host that a stress holds.";
        out.single("stress_target_ratio", "gauge", help, target / 100.0);
    }
    if let Some(cpu) = report.host.and_then(|host| host.cpu) {
        out.single(
            "cpu_busy_ratio",
            "gauge",
            "CPU time used, of all CPUs, as CloudWatch counts it.",
            cpu.busy_pct / 100.0,
        );
        out.single(
            "cpu_steal_ratio",
            "gauge",
            "CPU time that the hypervisor withheld.",
            cpu.steal_pct / 100.0,
        );
    }
    probes(&mut out, sources);
    listener(&mut out, sources);
    out.0
}

fn probes(out: &mut Text, sources: &Sources) {
    let seen = sources.probes.borrow().clone();
    let help = "Whether the load balancer's probes come in their rhythm.";
    out.single("probes_confirmed", "gauge", help, u8::from(seen.confirmed));
    // A node that probes several paths has a report for each.
    let mut nodes: BTreeMap<IpAddr, (u64, u64)> = BTreeMap::new();
    for node in &seen.nodes {
        let (probes, missed) = nodes.entry(node.node).or_default();
        (*probes, *missed) = (*probes + node.probes, *missed + node.missed_total);
    }
    let nodes: Vec<_> = nodes.iter().map(|(node, counts)| (node.to_string(), *counts)).collect();
    out.family("probes_total", "counter", "Probes by load-balancer node.");
    for (address, (probes, _)) in &nodes {
        out.sample("probes_total", &[("node", address)], *probes);
    }
    out.family("probes_missed_total", "counter", "Probes that did not come, by node.");
    for (address, (_, missed)) in &nodes {
        out.sample("probes_missed_total", &[("node", address)], *missed);
    }
    out.single("probes_log_gaps_total", "counter", "Times that log lines may have been lost.", seen.gaps);
    out.single("probes_spoofed_total", "counter", "Lines that only pretend to be probes.", seen.spoofed);
}

fn listener(out: &mut Text, sources: &Sources) {
    let counters = &sources.counters;
    out.family("requests_total", "counter", "Answers of the public listener by status.");
    for (code, count) in counters.by_code() {
        out.sample("requests_total", &[("code", &code)], count);
    }
    let help = "Time from a request read to its answer written.";
    out.family("request_duration_seconds", "histogram", help);
    let (buckets, sum) = counters.latencies();
    let mut total = 0;
    for (index, count) in buckets.iter().enumerate() {
        total += count;
        let bound = BOUNDS_US.get(index).map_or("+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
        out.sample("request_duration_seconds_bucket", &[("le", &bound)], total);
    }
    out.sample("request_duration_seconds_sum", &[], sum);
    out.sample("request_duration_seconds_count", &[], total);
    for (name, kind, help, counter) in [
        ("connections_open", "gauge", "Connections open now.", &counters.open),
        ("connections_accepted_total", "counter", "Connections taken.", &counters.accepted),
        ("connections_evicted_total", "counter", "Connections closed to make room.", &counters.evicted),
        (
            "connections_timed_out_total",
            "counter",
            "Connections of clients that were too slow.",
            &counters.timed_out,
        ),
        ("connections_refused_total", "counter", "Connections that found no place.", &counters.refused),
        ("floods_total", "counter", "Floods at the public listener.", &counters.floods),
    ] {
        out.single(name, kind, help, counter.load(Relaxed));
    }
    out.family(
        "wrong_clients_total",
        "counter",
        "What clients sent to the public listener that gets no 200.",
    );
    for (kind, count) in counters.wrong.counts() {
        out.sample("wrong_clients_total", &[("kind", kind.name())], count);
    }
    let help = "Lines of the log that found no reader in time.";
    out.single("log_lines_dropped_total", "counter", help, log::dropped());
    let realtime = u8::from(counters.realtime.load(Relaxed));
    out.single("realtime", "gauge", "Whether the serving thread has real-time priority.", realtime);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut out = Text(String::new());
        out.sample("x", &[("a", "b\"c\\d\ne"), ("f", "g")], 1);
        assert_eq!(out.0, "asg_agent_x{a=\"b\\\"c\\\\d\\ne\",f=\"g\"} 1\n");
    }
}
