//! The scripts are read by the bash of macOS (3.2) and of Amazon Linux 2 (4.2).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::World;

const BAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/bake");

/// The scripts, and the oldest bash that has to read them.
fn scripts() -> Vec<(PathBuf, bool)> {
    let mut all = vec![(PathBuf::from(super::FRONT), true)];
    for entry in fs::read_dir(BAKE).unwrap().flatten() {
        let path = entry.path();
        let anywhere = !path.ends_with("instance.sh");
        all.push((path, anywhere));
    }
    all
}

/// What a line says that bash 3.2 (and, of these, 4.2 what is false behind it) doesn't read or reads otherwise.
fn pitfalls(line: &str, anywhere: bool) -> Vec<&'static str> {
    let code = if line.trim_start().starts_with('#') { "" } else { line };
    let mut found = Vec::new();
    // An empty array is an unbound variable until bash 4.4.
    for (at, _) in code.match_indices("[@]}") {
        let start = code[..at].rfind("${").unwrap_or(0);
        let before = &code[..start];
        let guarded = before.ends_with("[@]+\"") || code[start..at].starts_with("${#");
        if !guarded && !code[start..].contains("[@]+") {
            found.push("an array that may be empty, unguarded");
        }
    }
    // Parentheses and blanks of a pattern are syntax to bash 3.2, unless the pattern is in a variable.
    if let Some((_, pattern)) = code.split_once("=~ ") {
        let pattern = pattern.split(" ]]").next().unwrap_or_default();
        if pattern.contains('(') || pattern.contains('\\') {
            found.push("a pattern that isn't in a variable");
        }
    }
    let everywhere = ["local -n", "declare -n", "${@@", "@Q}", "mapfile -d", "wait -n -p", "[-1]"];
    found.extend(everywhere.iter().filter(|word| code.contains(**word)));
    if anywhere {
        let old = [
            "declare -A",
            "mapfile",
            "readarray",
            "&>>",
            "|&",
            "coproc",
            ",,}",
            "^^}",
            ";;&",
            "printf '%(",
            "[[ -v",
        ];
        found.extend(old.iter().filter(|word| code.contains(**word)));
        // Programs that macOS lacks or knows otherwise.
        let missing =
            ["readlink -f", "realpath ", "stat -c", "sed -i ", "date -d", "grep -P", "xargs -r", "tac "];
        found.extend(missing.iter().filter(|word| code.contains(**word)));
    }
    found
}

#[test]
fn nothing_in_the_scripts_is_newer_than_the_bash_that_reads_them() {
    for (path, anywhere) in scripts() {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let found = pitfalls(line, anywhere);
            assert!(found.is_empty(), "{}:{}: {line}: {found:?}", path.display(), number + 1);
        }
    }
    // It finds what it is for.
    for line in [
        "[[ $a =~ ^(b)$ ]]",
        "declare -A OPT=()",
        "f \"${more[@]}\"",
        "mapfile -t a < b",
        "echo ${x,,}",
        "cmd &>>log",
        "local -n a=b",
    ] {
        assert!(!pitfalls(line, true).is_empty(), "{line}");
    }
    for line in ["f ${a[@]+\"${a[@]}\"}", "[ ${#left[@]} -eq 0 ]"] {
        assert!(pitfalls(line, true).is_empty(), "{line}: {:?}", pitfalls(line, true));
    }
}

/// Old bashes at hand: target/tools/bash-VERSION/bash, and those that AMI_BAKE_BASHES names, parted by colons.
fn old_bashes() -> Vec<PathBuf> {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tools");
    let named = std::env::var("AMI_BAKE_BASHES").unwrap_or_default();
    let beside = ["bash-3.2", "bash-4.2"].map(|name| tools.join(name).join("bash"));
    let all = named.split(':').map(PathBuf::from).chain(beside);
    all.filter(|bash| bash.is_file()).collect()
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that is left out says so")]
fn old_bashes_do_all_that_a_new_one_does() {
    let bashes = old_bashes();
    if bashes.is_empty() {
        eprintln!(
            "skipped: no old bash in target/tools/bash-3.2 or AMI_BAKE_BASHES; the lint above stands for them"
        );
    }
    for bash in bashes {
        let version = Command::new(&bash).args(["-c", "echo $BASH_VERSION"]).output().unwrap();
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let mut world = World::new("1");
        world.bash = Some(bash.clone());
        let before = world.holdings();
        world.image("--asg web --refresh --dry-run", None).done();
        world.image("--asg web --tags team=web", None).done();
        world.run("rollback --asg web").done();
        assert_eq!(world.holdings()["asg"]["version"], "1", "{version}");
        world.run("prune --all --launch-template web --dry-run").done();
        world.run("doctor --asg web").done();
        let run = world.run("image");
        assert!(run.code == Some(2) && run.stderr.contains("image wants --rpm"), "{version}: {}", run.stderr);
        // Undone after a failure as well: the way out has arrays that may be empty.
        let fault = world.cloud.calls().len() + 13;
        fs::write(world.rpm(), [super::lead(), vec![7]].concat()).unwrap();
        let run = world.image("--asg web", Some(&format!("before:{fault}")));
        assert!(run.code == Some(1) && !run.stderr.contains("unbound"), "{version}: {}", run.stderr);
        for what in ["instances", "groups", "objects", "volumes"] {
            assert_eq!(world.holdings()[what], before[what], "{version}: {what}: {}", run.stderr);
        }
        for (script, _) in scripts() {
            let parsed = Command::new(&bash).arg("-n").arg(&script).output().unwrap();
            let said = String::from_utf8_lossy(&parsed.stderr).into_owned();
            assert!(parsed.status.success(), "{version} {}: {said}", script.display());
        }
    }
}
