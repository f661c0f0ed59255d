//! What people of stress(1) and stress-ng(1) write that exists here under another name, or not at all: a better answer
//! than "unexpected argument". Looked for before the command line is parsed, so that no suggestion names such a flag.

use std::ffi::{OsStr, OsString};

/// Flags of stress that take a value there; all of them load something else than a CPU.
const STRESS: [&str; 8] = ["io", "vm", "hdd", "vm-bytes", "vm-stride", "vm-hang", "vm-keep", "hdd-bytes"];
const STRESS_SHORT: [char; 3] = ['i', 'm', 'd'];
/// Stressors and options of stress-ng that are asked for most.
const STRESS_NG: [&str; 12] = [
    "matrix",
    "cpu-method",
    "cpu-ops",
    "all",
    "sequential",
    "random",
    "class",
    "metrics",
    "metrics-brief",
    "temp-path",
    "taskset",
    "fork",
];

/// What to answer to the first foreign flag among `args`, those after the verb.
pub(super) fn answer(args: &[OsString]) -> Option<String> {
    let given = args.iter().take_while(|arg| *arg != "--");
    given.filter_map(|arg| arg.to_str()).find_map(|arg| {
        let Some(long) = arg.strip_prefix("--") else {
            let short = arg.strip_prefix('-')?.chars().next()?;
            return STRESS_SHORT.contains(&short).then(|| of_stress(&format!("-{short}")));
        };
        let name = long.split('=').next().unwrap_or(long);
        if name == "cpu-load" {
            return Some("--cpu-load of stress-ng is --load here: agent stress --load 50".to_owned());
        }
        if STRESS.contains(&name) {
            return Some(of_stress(&format!("--{name}")));
        }
        STRESS_NG.contains(&name).then(|| {
            format!("--{name} of stress-ng does not exist here, only CPU load does ({OURS}); use stress-ng itself for it")
        })
    })
}

const OURS: &str = "--cpu, --secs, --load, --target, --profile, --ramp, --priority";

fn of_stress(flag: &str) -> String {
    format!(
        "{flag} of stress does not exist here, only CPU load does ({OURS}); for memory and disks there is stress-ng"
    )
}

/// A command line of stress(1) as this program's: `stress -c 2` is `agent stress -c 2`, and without `--timeout` it runs
/// until it is interrupted.
pub(super) fn as_stress(args: &[OsString]) -> Vec<OsString> {
    let after: Vec<&OsStr> = args.iter().skip(1).map(OsString::as_os_str).collect();
    let mut line: Vec<OsString> = vec!["agent".into(), "stress".into()];
    if after.is_empty() || after == ["-?"] {
        line.push("--help".into());
        return line;
    }
    let text = |arg: &OsStr| arg.to_string_lossy().into_owned();
    let ends =
        |arg: &str| arg.starts_with("-t") || ["--timeout", "--secs"].iter().any(|flag| arg.starts_with(flag));
    if !after
        .iter()
        .any(|arg| ends(&text(arg)) || ["--help", "--version", "-h", "-V"].contains(&text(arg).as_str()))
    {
        line.extend(["--secs".into(), "0".into()]);
    }
    line.extend(after.into_iter().map(OsStr::to_owned));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn foreign_flags_are_named_with_what_there_is() {
        for (given, says) in [
            ("--io 4", "--io of stress does not exist here"),
            ("-c 2 -i4", "-i of stress"),
            ("--vm-bytes=128M", "--vm-bytes of stress"),
            ("--cpu-load 50", "is --load here"),
            ("--matrix 1", "--matrix of stress-ng"),
        ] {
            assert!(answer(&args(given)).is_some_and(|text| text.contains(says)), "{given}");
        }
        for given in ["--cpu 2 -t 5", "-v -q -n", "--load 50", "-- --io", "--vmx"] {
            assert_eq!(answer(&args(given)), None, "{given}");
        }
    }

    #[test]
    fn called_as_stress_it_runs_until_interrupted() {
        assert_eq!(as_stress(&args("stress -c 2")), args("agent stress --secs 0 -c 2"));
        assert_eq!(as_stress(&args("stress -c 2 -t 5s")), args("agent stress -c 2 -t 5s"));
        assert_eq!(as_stress(&args("stress")), args("agent stress --help"));
        assert_eq!(as_stress(&args("stress --version")), args("agent stress --version"));
    }
}
