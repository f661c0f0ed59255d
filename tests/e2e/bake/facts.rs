//! The table of facts about AWS: it is as the pinned sources have it, and no change goes unseen.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use world::moto;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const EDITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/bake/facts_edits.py");

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The interpreter that has botocore and cfn-lint, and the folder with them.
#[allow(clippy::print_stderr)] // a test has no other voice
fn tools() -> Option<(PathBuf, PathBuf)> {
    let Some(bin) = moto::tools(Path::new(REPOSITORY)).unwrap() else {
        eprintln!("skipped: botocore and cfn-lint can't be installed");
        return None;
    };
    let python = bin.join("python");
    let output =
        Command::new(&python).args(["-c", "import botocore; print(botocore.__path__[0])"]).output().unwrap();
    let botocore = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Some((python, botocore.parent().unwrap().to_owned()))
}

fn facts(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(format!("{REPOSITORY}/packaging/aws/facts.py"));
    command
}

#[test]
fn the_table_is_as_the_pinned_sources_have_it_and_every_edit_of_them_is_found() {
    let Some((python, packages)) = tools() else { return };
    let output = facts(&python).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let mut edits = Command::new(&python);
    edits.arg(EDITS).arg(format!("{REPOSITORY}/packaging/aws/facts.py"));
    let output = edits.arg(packages.join("botocore")).arg(packages.join("cfnlint")).output().unwrap();
    let text = said(&output);
    let last = text.lines().last().unwrap_or_default();
    let found: u32 = last.split(' ').next().unwrap().parse().unwrap_or(0);
    assert!(text.starts_with("unedited: 0\n") && last.ends_with(" found, 0 missed") && found >= 40, "{text}");
}

#[test]
fn a_source_that_cannot_be_read_and_a_table_that_is_none_are_told_apart() {
    let Some((python, _)) = tools() else { return };
    let output = facts(&python).args(["--botocore", "/nowhere"]).output().unwrap();
    assert!(
        output.status.code() == Some(3) && said(&output).contains("has no model of"),
        "{}",
        said(&output)
    );
    let output = facts(&python).args(["--table", "/dev/null"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

/// What the registry has of two versions of botocore; `None` where it doesn't answer.
#[allow(clippy::print_stderr)]
fn versions(python: &Path, wanted: [&str; 2]) -> Option<[PathBuf; 2]> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("botocore");
    let mut folders = wanted.map(PathBuf::from);
    for (version, folder) in wanted.iter().zip(&mut folders) {
        let place = cache.join(version);
        if !place.join("botocore/data").exists() {
            let mut pip = Command::new(python);
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--no-compile",
            ]);
            pip.args(["--timeout", "10", "--retries", "1", "--target"])
                .arg(&place)
                .arg(format!("botocore=={version}"));
            if !pip.output().unwrap().status.success() {
                eprintln!("skipped: the package registry has no botocore {version}, or doesn't answer");
                return None;
            }
        }
        *folder = place.join("botocore");
    }
    Some(folders)
}

#[test]
fn the_day_on_which_the_high_resolution_metric_came_is_told() {
    let Some((python, _)) = tools() else { return };
    let Some([old, new]) = versions(&python, ["1.44.1", "1.44.2"]) else { return };
    let between = |old: &Path, new: &Path| {
        let output = facts(&python).arg("--from").arg(old).arg("--to").arg(new).output().unwrap();
        (output.status.code(), said(&output))
    };
    let (code, text) = between(&old, &new);
    assert!(code == Some(1) && text.contains("+ ASGAverageCPUUtilizationHighResolution"), "{text}");
    assert!(text.contains("concerns packaging/aws/autoscaling.yaml"), "{text}");
    assert_eq!(between(&new, &new).0, Some(0));
}
