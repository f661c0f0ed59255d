//! `agent stress` beside stress, stress-ng and lookbusy, judged by `/proc/PID/schedstat` and by idle and iowait of
//! `/proc/stat` (user and system time there are only sampled at ticks).

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::kernel::{Errors, Machine, Others, Tool, cpus, errors_by_second, noise};
use super::{Table, stress_life, stress_nginx};
use crate::agent;
use crate::place::Place;

/// What isn't installed here, and why nothing stands in its place.
pub(super) const ABSENT: &str = "not installed";
pub(super) const NONE: &str = "–";

/// Measures everything, in about four minutes.
///
/// # Errors
/// When the agent wasn't built or the kernel's counters can't be read.
pub fn run() -> anyhow::Result<Vec<Table>> {
    let place = Place::new()?;
    let mut noisy: Vec<String> = noise("at the start")?.into_iter().collect();
    let mut tables = vec![loads(&place)?];
    noisy.extend(noise("after the loads")?);
    tables.push(targets(&place)?);
    noisy.extend(noise("after the targets")?);
    tables.push(stress_life::table(&place)?);
    noisy.extend(noise("before nginx")?);
    tables.push(stress_nginx::table(&place)?);
    noisy.extend(noise("at the end")?);
    if let Some(first) = tables.first_mut() {
        first.note(match noisy.is_empty() {
            true => "The machine was quiet before, between and after the measurements.".to_owned(),
            false => noisy.join(" "),
        });
    }
    Ok(tables)
}

/// The agent's command line.
pub(super) fn ours(place: &Place, args: &str) -> Command {
    let args: Vec<&str> = ["stress"].into_iter().chain(args.split_ascii_whitespace()).collect();
    agent::command(place, &args)
}

/// A peer's command line; `None` when it isn't installed.
pub(super) fn peer(line: &str) -> Option<Command> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    let probe = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let mut command = Command::new(name);
    command.args(words).current_dir("/");
    probe.is_ok().then_some(command)
}

fn pair(errors: &Errors) -> String {
    format!("{:.3} / {:.3}", errors.mean(), errors.largest())
}

/// `--load`: one worker's CPU time in each second.
fn loads(place: &Place) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "stress --load: mean / largest error of one-second buckets, percentage points",
        &["load, % of a CPU", "agent", "stress-ng", "stress", "lookbusy", "asked of the agent"],
    );
    for pct in [10, 30, 50, 70, 90] {
        let of = |command: Command| -> anyhow::Result<String> {
            let tool = Tool::start(command)?;
            sleep(Duration::from_millis(1200));
            let others = Others::watch(&[&tool])?;
            let errors = errors_by_second(5, f64::from(pct), || Ok(tool.cpu_secs()))?;
            Ok(pair(&errors) + &others.mark()?)
        };
        let agent = of(ours(place, &format!("--cpu 1 --load {pct} --secs 30")))?;
        let stress_ng =
            peer(&format!("stress-ng --cpu 1 --cpu-load {pct} --timeout 30")).map(of).transpose()?;
        let stress_ng = stress_ng.unwrap_or_else(|| ABSENT.to_owned());
        table.row(&[&pct, &agent, &stress_ng, &NONE, &lookbusy(), &"≤ 0.05 / ≤ 0.25"]);
    }
    Ok(table)
}

/// It isn't packaged everywhere; no figure is better than an invented one.
fn lookbusy() -> &'static str {
    match peer("lookbusy") {
        Some(_) => "installed, not measured here",
        None => ABSENT,
    }
}

/// `--target`: the host beside other load.
fn targets(place: &Place) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "stress --target: the whole host beside other load",
        &["what", "agent", "stress-ng", "lookbusy", "asked of the agent"],
    );
    let n = cpus();
    let host = |target: u32, secs: usize| -> anyhow::Result<Errors> {
        let start = Machine::now()?;
        let busy = || Ok(Machine::now()?.busy_secs_since(&start));
        Ok(errors_by_second(secs, f64::from(target), busy)?)
    };
    // A steady one, so that the figure is the loop's; and one that comes and goes for tens of milliseconds.
    let steady = ours(place, &format!("--cpu {n} --load 50 --priority normal --secs 400"));
    let uneven = peer(&format!("stress-ng --cpu {n} --cpu-load 50 --timeout 400"));
    for (load, neighbour) in [("a steady 50 % load", Some(steady)), ("stress-ng at 50 %", uneven)] {
        let Some(neighbour) = neighbour else { continue };
        let beside = Tool::start(neighbour)?;
        sleep(Duration::from_millis(1200));
        for (target, secs) in [(60, 20), (75, 60), (90, 20)] {
            let tool = Tool::start(ours(place, &format!("--target {target} --secs 100")))?;
            sleep(Duration::from_millis(1500));
            let others = Others::watch(&[&tool, &beside])?;
            let errors = host(target, secs)?;
            let noise = others.mark()?;
            drop(tool);
            let mut figure = pair(&errors);
            let mut asked = "≤ 0.4 / ≤ 3".to_owned();
            if secs == 60 {
                figure += &format!("; 60-s mean {:+.3}", errors.overall());
                asked += "; 60-s mean ± 0.2";
            }
            figure += &noise;
            let share = target - 50;
            let open = peer(&format!("stress-ng --cpu {n} --cpu-load {share} --timeout 30"))
                .map(|command| -> anyhow::Result<String> {
                    let _tool = Tool::start(command)?;
                    sleep(Duration::from_millis(1200));
                    Ok(format!("{} (open loop, told what to add)", pair(&host(target, 3)?)))
                })
                .transpose()?
                .unwrap_or_else(|| ABSENT.to_owned());
            let what = format!("beside {load}, target {target} %: mean / largest error, points");
            table.row(&[&what, &figure, &open, &lookbusy(), &asked]);
        }
    }
    let beside = Tool::start(ours(place, &format!("--cpu {n} --load 50 --priority normal --secs 60")))?;
    let exceeded = Tool::start(ours(place, "--target 30 --secs 60"))?;
    sleep(Duration::from_millis(1500));
    let (at, before) = (Instant::now(), exceeded.cpu_secs());
    sleep(Duration::from_secs(5));
    let share = 100.0 * (exceeded.cpu_secs() - before) / at.elapsed().as_secs_f64() / n as f64;
    drop((exceeded, beside));
    table.row(&[
        &"own share beside a 50 % load, target 30 %",
        &format!("{share:.2} %"),
        &NONE,
        &NONE,
        &"≤ 1 %",
    ]);
    let back = step(place, n)?;
    table.row(&[
        &"back within 2 points after the others went from 10 % to 50 %, target 70 %",
        &back,
        &NONE,
        &NONE,
        &"≤ 1 s",
    ]);
    Ok(table)
}

/// How long after a step of the others every one-second window is within 2 points of the target again.
fn step(place: &Place, n: usize) -> anyhow::Result<String> {
    const EVERY: Duration = Duration::from_millis(50);
    let other =
        |pct: u32| Tool::start(ours(place, &format!("--cpu {n} --load {pct} --priority normal --secs 60")));
    let (_first, _held) = (other(10)?, Tool::start(ours(place, "--target 70 --secs 60"))?);
    sleep(Duration::from_secs(2));
    let _second = other(40)?;
    let step = Instant::now();
    let mut looks = vec![(Duration::ZERO, Machine::now()?)];
    while step.elapsed() < Duration::from_secs(5) {
        sleep(EVERY);
        looks.push((step.elapsed(), Machine::now()?));
    }
    let window = 20; // looks in a second
    let mut last_bad = looks
        .iter()
        .zip(looks.iter().skip(window))
        .filter(|((_, from), (_, to))| (to.since(from).0 - 70.0).abs() > 2.0);
    let back = last_bad.next_back().map_or(Duration::ZERO, |((at, _), _)| *at + EVERY);
    Ok(format!("{:.2} s", back.as_secs_f64()))
}
