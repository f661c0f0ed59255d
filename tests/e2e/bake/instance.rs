//! `ami-bake.sh install|verify|clean` on a machine with a real systemd, whose files then boot as another machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use world::machine::Machine;

use crate::packaging::signature::Signed;
use crate::packaging::{machine, package};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/bake/instance.sh");
const FRONT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ami-bake.sh");

/// What people and their tools leave on an instance, and what must not be in an image.
const LITTER: &str = "set -e; useradd -m ubuntu; \
    for f in /etc/ssh/ssh_host_rsa_key /etc/ssh/ssh_host_rsa_key.pub /root/.ssh/authorized_keys \
    /home/ubuntu/.ssh/authorized_keys /root/.bash_history '/home/ubuntu/.python_history' /root/.aws/credentials \
    /var/lib/cloud/instances/i-0/user-data.txt /var/log/cloud-init-output.log /var/log/nginx/old.log.1.gz \
    /var/lib/dhcp/dhclient.eth0.leases /var/lib/systemd/random-seed /var/cache/apt/archives/a.deb \
    '/tmp/two words' /var/tmp/.hidden /var/lib/amazon/ssm/i-0/document/orchestration/x/stdout; \
    do mkdir -p \"$(dirname \"$f\")\"; echo secret >\"$f\"; done; mkdir -p /var/log/journal; journalctl --flush";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Runs the script in the machine: exit code and all it said.
fn bake(machine: &Machine, args: &str) -> (Option<i32>, String) {
    let output = machine.sh(&format!("bash /opt/instance.sh {args}")).unwrap();
    (output.status.code(), said(&output))
}

/// Runs it from outside, on the machine's files.
fn bake_root(root: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(FRONT).args(args).arg("--root").arg(root).output().unwrap();
    (output.status.code(), said(&output))
}

fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

fn base64(file: &Path) -> String {
    let output = Command::new("base64").arg("-w0").arg(file).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_instance_becomes_an_image_that_boots_as_a_machine_of_its_own() {
    let Some(rpm) = package("1") else { return };
    let Some(signed) = Signed::of(&rpm) else { return };
    let name = rpm.file_name().unwrap().to_str().unwrap().to_owned();
    let Some(mut machine) = machine(&[rpm.clone(), signed.rpm()]) else { return };
    fs::copy(SCRIPT, machine.root().join("opt/instance.sh")).unwrap();
    let output = machine.sh(LITTER).unwrap();
    assert!(output.status.success(), "{}", said(&output));

    let (code, text) = bake(&machine, &format!("install --rpm-url file:///{name} --sha256 {:064}", 0));
    assert!(code == Some(1) && text.contains("the RPM has SHA-256"), "{text}");
    assert!(!machine.root().join("usr/bin/agent").exists(), "installed in spite of its hash");
    let key = base64(&signed.key());
    let unsigned =
        format!("install --rpm-url file:///{name} --sha256 {} --rpm-key-base64 {key}", sha256(&rpm));
    let (code, text) = bake(&machine, &unsigned);
    assert!(code == Some(1) && text.contains("the RPM is not signed"), "{text}");
    assert!(!machine.root().join("usr/bin/agent").exists(), "installed in spite of its signature");
    let install = format!(
        "install --rpm-url file:///signed.rpm --sha256 {} --rpm-key-base64 {key} --run r --base ami-0",
        sha256(&signed.rpm())
    );
    let (code, text) = bake(&machine, &install);
    assert!(code == Some(0) && text.contains("signed by"), "{text}");
    let (code, text) = bake(&machine, &install);
    assert!(code == Some(0) && text.contains("installed already"), "{text}");

    machine.sh("systemctl disable -q asg-agent-recover").unwrap();
    let (code, text) = bake(&machine, "verify");
    assert!(code == Some(1) && text.contains("FAIL  asg-agent-recover.service is enabled"), "{text}");
    assert_eq!(text.matches("FAIL").count(), 1, "{text}");
    machine.sh("systemctl enable -q asg-agent-recover").unwrap();
    let (code, text) = bake(&machine, "verify");
    assert_eq!(code, Some(0), "{text}");

    let (code, text) = bake(&machine, "clean --check");
    assert!(code == Some(1) && text.contains("FAIL  histories: /home/ubuntu/.python_history"), "{text}");
    let (code, text) = bake(&machine, "clean");
    assert_eq!(code, Some(0), "{text}");
    let before = machine.says("cat /run/machine-id /proc/sys/kernel/random/boot_id").unwrap();
    machine.power_off().unwrap();

    // What the shutdown wrote is gone as well: the disk as the image has it.
    let (code, text) = bake_root(machine.root(), &["clean", "--check"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = bake_root(machine.root(), &["verify"]);
    assert_eq!(code, Some(0), "{text}");
    // On a root that doesn't run, everything works as well, and leaves no mount behind.
    let (code, text) = bake_root(machine.root(), &["install", "--rpm", rpm.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains("installed already"), "{text}");
    let planted = machine.root().join("home/ubuntu/.ssh/authorized_keys");
    fs::write(&planted, "ssh-rsa").unwrap();
    let (code, text) = bake_root(machine.root(), &["clean", "--check"]);
    assert!(code == Some(1) && text.contains("FAIL  authorized keys: /home/ubuntu"), "{text}");
    let (code, text) = bake_root(machine.root(), &["clean"]);
    assert!(code == Some(0) && !planted.exists(), "{text}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(machine.root().to_str().unwrap()), "{mounts}");

    machine.power_on().unwrap();
    let (code, text) = bake(&machine, "verify --booted");
    assert_eq!(
        code,
        Some(0),
        "{text}\nbefore: {before}\n{}",
        machine.says("journalctl -b --no-pager -n 80").unwrap()
    );
}
