//! What nginx's clients notice of a stress on the same CPU.

use std::fs;
use std::process::Command;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Table;
use super::kernel::Tool;
use super::stress::{ABSENT, ours, peer};
use crate::http;
use crate::nginx::Nginx;
use crate::place::Place;

const REQUESTS_A_SECOND: u32 = 50;
const SECONDS: u32 = 5;
const LIMIT: Duration = Duration::from_secs(3);

/// The table.
///
/// # Errors
/// When nginx isn't installed.
pub(super) fn table(place: &Place) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "stress beside nginx: one CPU, 8 workers, 50 gzip pages a second",
        &["beside", "p50, ms", "p99, ms", "p99 against no stress", "asked of the agent"],
    );
    let nginx = one_cpu_nginx(place)?;
    let own = |more: &str| Some(ours(place, &format!("--cpu 8 --secs 60 {more}")));
    let rows: [(&str, Option<Command>, &str); 5] = [
        ("nothing", Some(Command::new("true")), ""),
        ("agent stress --cpu 8", own(""), "≤ 1.4 ×"),
        ("agent stress --cpu 8 --priority normal", own("--priority normal"), "a noisy neighbour by wish"),
        ("stress --cpu 8", peer("stress --cpu 8 --timeout 60"), ""),
        ("stress-ng --cpu 8", peer("stress-ng --cpu 8 --timeout 60"), ""),
    ];
    let mut alone = None;
    for (name, command, asked) in rows {
        let Some(command) = command else {
            table.row(&[&name, &ABSENT, &"", &"", &asked]);
            continue;
        };
        let tool = Tool::start(on_cpu_0(&command))?;
        sleep(Duration::from_millis(700));
        let (p50, p99) = latencies(&nginx);
        drop(tool);
        let alone = *alone.get_or_insert(p99);
        table.row(&[
            &name,
            &format!("{p50:.1}"),
            &format!("{p99:.1}"),
            &format!("{:.2} ×", p99 / alone),
            &asked,
        ]);
    }
    table.note(format!(
        "Open loop, {} requests each; nginx and the stress are pinned to the first CPU and share one session.",
        REQUESTS_A_SECOND * SECONDS
    ));
    nginx.stop()?;
    Ok(table)
}

/// The same command where only the first CPU is allowed (taskset(1)).
fn on_cpu_0(command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", "0"]).arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        pinned.env(name, value);
    }
    pinned.env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir("/");
    pinned
}

/// An nginx on the first CPU with a page that costs it some 5 ms to compress.
fn one_cpu_nginx(place: &Place) -> anyhow::Result<Nginx> {
    let root = place.join("pages");
    fs::create_dir_all(&root)?;
    let mut state = 1_u32;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("{} ", (state >> 16) % 9000)
    });
    let mut page: String = words.take(50_000).collect();
    page.truncate(110_000);
    fs::write(root.join("page.txt"), page)?;
    let server = format!("gzip on; gzip_comp_level 9; gzip_types text/plain; root {};", root.display());
    let nginx = Nginx::start(place, "", &server)?;
    for pid in nginx.workers() {
        let pinned = Command::new("taskset").args(["-apc", "0", &pid.to_string()]).output();
        anyhow::ensure!(pinned.context("taskset")?.status.success(), "cannot pin nginx to the first CPU");
    }
    Ok(nginx)
}

/// The median and the 99th percentile in milliseconds, from the moment each request was due: a late answer delays
/// no other request.
fn latencies(nginx: &Nginx) -> (f64, f64) {
    let request = format!(
        "GET /page.txt HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n",
        nginx.addr
    );
    let start = Instant::now();
    let mut times: Vec<f64> = scope(|scope| {
        let ask = |number: u32| {
            let due = start + Duration::from_secs(1) * number / REQUESTS_A_SECOND;
            let request = request.as_bytes();
            sleep(due.saturating_duration_since(Instant::now()));
            scope.spawn(move || {
                let answer = http::exchange(nginx.addr, None, request, LIMIT);
                answer.map_or(LIMIT, |_| due.elapsed()).as_secs_f64() * 1e3
            })
        };
        let asked: Vec<_> = (0..REQUESTS_A_SECOND * SECONDS).map(ask).collect();
        asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    (at(0.5), at(0.99))
}
