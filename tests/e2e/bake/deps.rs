//! What building and the demo need is installed on the distributions that can't be run here: their package managers and
//! the names of their packages are stood for by scripts.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use world::place::Place;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/deps.sh");
const MAKEFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Makefile");

/// A machine with nothing but a shell, and this package manager, which has these packages and no others: as dnf and apt
/// do, it installs nothing of a line that names one it doesn't have. A package brings the commands behind its name.
struct Distribution {
    place: Place,
}

impl Distribution {
    fn new(manager: &str, packages: &[(&str, &str)]) -> Self {
        let place = Place::new().unwrap();
        let bin = place.join("bin");
        fs::create_dir(&bin).unwrap();
        for tool in ["bash", "id", "env", "cat", "touch", "chmod", "rm", "tee", "grep", "dirname"] {
            symlink(format!("/usr/bin/{tool}"), bin.join(tool)).unwrap();
        }
        let list: String =
            packages.iter().map(|(package, commands)| format!("{package}={commands}\n")).collect();
        fs::write(place.join("list"), list).unwrap();
        let list = place.join("list").display().to_string();
        let bin_at = bin.display().to_string();
        let log = place.join("log").display().to_string();
        let text = format!(
            "#!/bin/bash\necho \"$*\" >>{log}\nall=()\nfor word in \"$@\"; do case $word in -*|install|update) ;; *) \
             grep -q \"^$word=\" {list} || {{ echo \"No match for argument: $word\" >&2; exit 1; }}; all+=(\"$word\") ;; esac; done\n\
             for word in \"${{all[@]}}\"; do line=$(grep \"^$word=\" {list}); for c in ${{line#*=}}; do touch {bin_at}/$c; chmod +x {bin_at}/$c; done; done\n"
        );
        world::program::write(bin.join(manager), &text).unwrap();
        Self { place }
    }

    fn install(&self, commands: &[&str]) -> (Option<i32>, String) {
        let mut script = Command::new(self.place.join("bin/bash"));
        script.arg(SCRIPT).args(commands).env_clear().env("PATH", self.place.join("bin"));
        let output = script.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn has(&self, command: &str) -> bool {
        self.place.join("bin").join(command).exists()
    }
}

fn amazon_linux() -> Distribution {
    // No shellcheck, ShellCheck, haproxy-less: what its repositories have of ours (packages of Amazon Linux 2023).
    Distribution::new("dnf", &[("gcc", "cc gcc"), ("jq", "jq"), ("git", "git"), ("stress-ng", "stress-ng")])
}
fn ubuntu() -> Distribution {
    Distribution::new(
        "apt-get",
        &[("gcc", "cc gcc"), ("libc6-dev", ""), ("jq", "jq"), ("shellcheck", "shellcheck")],
    )
}

/// The commands that a target of the Makefile asks for.
fn asked_for(target: &str) -> Vec<String> {
    let text = fs::read_to_string(MAKEFILE).unwrap();
    let (_, rest) = text.split_once(&format!("\n{target}:")).unwrap();
    let recipe = rest.split("\n\n").next().unwrap();
    let line = recipe.lines().find_map(|line| line.trim().strip_prefix("packaging/deps.sh ")).unwrap();
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_package_that_a_distribution_lacks_keeps_no_other_from_being_there() {
    for (distribution, lacks) in [(amazon_linux(), true), (ubuntu(), false)] {
        let (code, said) = distribution.install(&["--optional", "shellcheck", "cc", "jq"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(distribution.has("cc") && distribution.has("jq"), "{said}");
        assert_eq!(distribution.has("shellcheck"), !lacks, "{said}");
        let (code, said) = distribution.install(&["shellcheck", "cc", "jq"]);
        assert_eq!(code, Some(i32::from(lacks)), "{said}");
        assert_eq!(said.contains("Still missing: shellcheck"), lacks, "{said}");
        let (code, said) = distribution.install(&["cc", "jq"]);
        assert!(code == Some(0) && said.is_empty(), "again does nothing: {said}");
    }
}

#[test]
fn the_demo_asks_for_a_compiler_and_not_for_what_only_the_gate_needs() {
    let demo = asked_for("demo");
    assert!(demo.contains(&"cc".to_owned()) && demo.contains(&"nginx".to_owned()), "{demo:?}");
    assert!(!demo.contains(&"shellcheck".to_owned()), "{demo:?}");
    for distribution in [amazon_linux(), ubuntu()] {
        // nginx and curl are this machine's own, or not a matter of the list.
        let wanted: Vec<_> =
            demo.iter().map(String::as_str).filter(|word| !["nginx", "curl"].contains(word)).collect();
        let (code, said) = distribution.install(&wanted);
        assert_eq!(code, Some(0), "{said}");
    }
}
