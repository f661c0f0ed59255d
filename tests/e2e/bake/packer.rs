//! The Packer template, as far as the Packer at hand knows its words.

use std::fs;
use std::process::Command;

use world::place::Place;

const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/packer/asg-agent.pkr.hcl");

/// The template as Packer 1.6 (Debian's) can read it: without what came later.
fn for_old_packer() -> String {
    let text = fs::read_to_string(TEMPLATE).unwrap();
    let (before, rest) =
        text.split_once("  # Unknown to Packer 1.6, from here to the blank line.\n").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    format!("{before}{after}")
}

#[test]
#[allow(clippy::print_stderr)] // a test has no other voice
fn the_packer_template_is_valid() {
    let Ok(version) = Command::new("packer").arg("version").env("CHECKPOINT_DISABLE", "1").output() else {
        eprintln!("skipped: packer is not installed");
        return;
    };
    let place = Place::new().unwrap();
    fs::create_dir_all(place.join("packaging/packer")).unwrap();
    fs::create_dir_all(place.join("packaging/bake")).unwrap();
    fs::write(place.join("packaging/bake/instance.sh"), "").unwrap();
    fs::write(place.join("rpm"), "").unwrap();
    let validate = |text: &str| {
        fs::write(place.join("packaging/packer/t.pkr.hcl"), text).unwrap();
        let mut packer = Command::new("packer");
        packer.arg("validate").env("CHECKPOINT_DISABLE", "1").env("PACKER_CONFIG_DIR", place.path());
        // A newer one has its builders in plugins, which aren't here.
        if String::from_utf8_lossy(&version.stdout).contains(" v1.6.") {
            packer.args(["-var", "region=eu-west-1", "-var", "rpm=rpm"]);
        } else {
            packer.arg("-syntax-only");
        }
        let output = packer.arg("packaging/packer/t.pkr.hcl").current_dir(place.path()).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let text = for_old_packer();
    let (valid, said) = validate(&text);
    assert!(valid, "{said}");
    let (valid, said) = validate(&text.replace("build {", "bulid {"));
    assert!(!valid, "{said}");
}
