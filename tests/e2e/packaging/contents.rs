//! What is in the package beside the binary.

use std::process::Command;

use super::package;

fn queried(package: &std::path::Path, args: &[&str]) -> String {
    let output = Command::new("rpm").arg("-qp").args(args).arg(package).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_verb_has_its_page_and_nothing_hidden_is_told() {
    let Some(package) = package("1") else { return };
    let files = queried(&package, &["-l"]);
    for verb in ["serve", "stress", "probes", "fail", "recover", "status"] {
        assert!(files.contains(&format!("/usr/share/man/man1/agent-{verb}.1.gz\n")), "{verb}: {files}");
    }
    for path in [
        "/usr/share/man/man1/agent.1.gz",
        "/usr/share/man/man5/agent.toml.5.gz",
        "/usr/share/bash-completion/completions/agent",
        "/usr/share/zsh/site-functions/_agent",
        "/usr/share/fish/vendor_completions.d/agent.fish",
        "/usr/share/doc/asg-agent/sbom.cdx.json",
        "/usr/share/licenses/asg-agent/LICENSES.txt",
        "/usr/share/asg-agent/nginx/http.conf",
    ] {
        assert!(files.lines().any(|line| line == path), "{path}: {files}");
    }
    assert!(!files.contains("__keep"));
    assert_eq!(queried(&package, &["-c"]), "/etc/asg-agent/agent.toml\n");
}
