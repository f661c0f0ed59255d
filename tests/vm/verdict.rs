//! How a machine is after its boot, as `judge.sh` says it, and whether that is as it must be.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

/// How long `/health` may take to notice that nginx answers, on an emulated processor that is shared.
const NOTICED_MS: u64 = 60_000;

/// One line of the watch: when, and what nginx, `/health` and nginx again have answered; 0 where nobody took the
/// connection, 1 where nothing came.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ms: u64,
    before: u16,
    health: u16,
    after: u16,
}

/// Checks the facts and gives what the history says of the fault's end.
///
/// # Errors
/// Says what is not as it must be.
pub(crate) fn at_rest(said: &str) -> anyhow::Result<String> {
    let facts: BTreeMap<&str, &str> = said.lines().filter_map(|line| line.split_once('=')).collect();
    let fact = |name: &str| facts.get(name).copied().with_context(|| format!("no {name} in {said}"));
    ensure!(fact("nginx")? == "200", "nginx answers {}", fact("nginx")?);
    ensure!(fact("health")? == "200", "/health says {}", fact("health")?);
    for (name, what) in [
        ("left", "in the state folder"),
        ("agents", "processes of ours"),
        ("leases", "timers"),
        ("rules", "packet rules"),
        ("failed", "units that have failed"),
    ] {
        ensure!(fact(name)?.is_empty(), "left {what}: {}", fact(name)?);
    }
    ensure!(fact("units")? == "active active", "the units of nginx and the agent are {}", fact("units")?);
    let watch: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("watch=")).collect();
    let uptime: u64 = fact("uptime")?.parse()?;
    always_true(&watch, uptime * 1000)?;
    ensure!(!fact("ended")?.is_empty(), "the history doesn't say how the fault has ended");
    Ok(fact("ended")?.to_owned())
}

/// `/health` never says 200 while nginx doesn't answer, never another thing while it does, but for the time it takes to
/// notice, and is never silent once it has answered. The last sample lasts until `end`.
fn always_true(watch: &[&str], end: u64) -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for line in watch {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [at_ms, before, health, after] = numbers[..] else { anyhow::bail!("the watch says {line}") };
        let [before, health, after] = [before, health, after].map(|status| status as u16);
        samples.push(Sample { at_ms, before, health, after });
    }
    let mut answered = false;
    for (index, sample) in samples.iter().enumerate() {
        let up = sample.before == 200 || sample.after == 200;
        ensure!(sample.health != 200 || up, "/health lies: {sample:?}");
        answered |= sample.health > 1;
        ensure!(!answered || sample.health > 1, "/health has answered, and is silent: {sample:?}");
        let until = samples.get(index + 1).map_or(end, |next| next.at_ms);
        let late = up && sample.health != 200 && until.saturating_sub(sample.at_ms) > NOTICED_MS;
        ensure!(!late || !answered, "/health doesn't see nginx: {sample:?} until {until}");
    }
    ensure!(answered, "/health was never heard: {watch:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: &str = "nginx=200\nhealth=200\nleft=\nagents=\nleases=\nrules=\nfailed=\nunits=active active\n\
                        ended=reboot\nuptime=60\nwatch=9000 0 503 0\nwatch=9500 200 503 200\nwatch=11000 200 200 200\n";

    #[test]
    fn a_machine_that_is_well_says_how_its_fault_has_ended() {
        assert_eq!(at_rest(WELL).unwrap(), "reboot");
    }

    #[test]
    fn everything_else_is_wrong() {
        for (was, is) in [
            ("nginx=200", "nginx=000"),
            ("health=200", "health=503"),
            ("left=", "left=fault.json"),
            ("agents=", "agents=7"),
            ("leases=", "leases=asg-agent-fault-1.timer"),
            ("rules=", "rules=table"),
            ("failed=", "failed=nginx.service"),
            ("active active", "active failed"),
            ("ended=reboot", "ended="),
            ("9000 0 503 0", "9000 0 200 0"),
            ("9500 200 503 200", "9500 200 0 200"),
            ("uptime=60\nwatch=9000 0 503 0", "uptime=60\nwatch=100 200 503 200\nwatch=60101 0 503 0"),
        ] {
            assert!(WELL.contains(was) && at_rest(&WELL.replace(was, is)).is_err(), "{is}");
        }
    }
}
