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

/// Logs and secrets where no list of usual places has them, and the configurations of nginx that name some of them.
const ELSEWHERE: &str = r#"set -e; mkdir -p /opt/nginx/conf/sites /data/nginx
    cat >/opt/nginx/conf/nginx.conf <<'END'
error_log logs/oops debug;
events {}
http {
    log_format x '$remote_addr; {"a": "$status"}';
    access_log logs/traffic;   # no name of a log
    include sites/*;
    server { listen 81; access_log
        "/srv/web/$host.traffic" x; }
}
END
    echo 'server { access_log /data/deep; access_log off; access_log syslog:server=[::1]; }' >/opt/nginx/conf/sites/a
    echo 'http { access_log /data/nginx/plain; }' >/srv/nginx-old.conf
    for f in /opt/nginx/logs/access.log /opt/nginx/logs/traffic /opt/nginx/logs/oops /opt/nginx/logs/traffic-2026.gz \
        /srv/web/example.org.traffic /data/deep /data/deep.1 /data/nginx/plain /srv/u/.ssh/authorized_keys \
        /srv/app/logs/y.log /usr/local/logs/z.log /srv/u/.zsh_history /srv/etc/ssh_host_rsa_key /etc/hostname \
        /var/lib/rsyslog/imjournal.state /var/lib/apt/lists/x_y /opt/nginx/conf/asg-agent-instance.conf; do mkdir -p "$(dirname "$f")"; echo secret >"$f"; done"#;

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
    for litter in [LITTER, ELSEWHERE] {
        let output = machine.sh(litter).unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

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
    for kind in [
        "logs of nginx's configuration: /data/deep",
        "keys and credentials elsewhere",
        "the instance's name",
        "ids of this instance elsewhere: /opt/nginx/conf/asg-agent-instance.conf",
    ] {
        assert!(text.contains(&format!("FAIL  {kind}")), "{kind}: {text}");
    }
    // A log in no folder for logs may be somebody's data: named, not removed.
    machine.sh("mkdir -p /srv/app; echo line >/srv/app/debug.log").unwrap();
    let (code, text) = bake(&machine, "clean");
    assert!(code == Some(1) && text.contains("FAIL  logs elsewhere: /srv/app/debug.log"), "{text}");
    assert_eq!(text.matches("FAIL").count(), 1, "{text}");
    machine.sh("rm /srv/app/debug.log").unwrap();
    let (code, text) = bake(&machine, "clean");
    assert_eq!(code, Some(0), "{text}");
    let before = machine.says("cat /run/machine-id /proc/sys/kernel/random/boot_id").unwrap();
    machine.power_off().unwrap();

    // What the shutdown wrote is gone as well: the disk as the image has it.
    let (code, text) = bake_root(machine.root(), &["clean", "--check"]);
    assert_eq!(code, Some(0), "{text}");
    let secrets =
        "grep -rlsxIF secret --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev --exclude-dir=run .";
    let left = Command::new("sh").arg("-c").arg(secrets).current_dir(machine.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "left in the image");
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

#[test]
fn a_busy_package_manager_is_waited_for_and_no_other_answer_is_taken_for_the_rpm() {
    let Some(rpm) = package("1") else { return };
    let name = rpm.file_name().unwrap().to_str().unwrap().to_owned();
    let sum = sha256(&rpm);
    let Some(machine) = machine(&[rpm]) else { return };
    fs::copy(SCRIPT, machine.root().join("opt/instance.sh")).unwrap();
    waits_and_says_for_whom(&machine, &format!("install --rpm-url file:///{name} --sha256 {sum}"));
    no_answer_is_taken_for_the_rpm(&machine, &sum);
}

/// One machine for all that an instance may have that isn't nginx.service.
#[test]
fn an_instance_whose_nginx_no_unit_has() {
    let Some(rpm) = package("1") else { return };
    let name = rpm.file_name().unwrap().to_str().unwrap().to_owned();
    let sum = sha256(&rpm);
    let Some(machine) = machine(&[rpm]) else { return };
    fs::copy(SCRIPT, machine.root().join("opt/instance.sh")).unwrap();
    let install = format!("install --rpm-url file:///{name} --sha256 {sum}");

    // Started by hand, from a folder of its own, by no unit.
    let own = "systemctl disable -q --now nginx; rm -f /lib/systemd/system/nginx.service /etc/init.d/nginx /etc/rc?.d/S*nginx; \
        systemctl daemon-reload; mkdir -p /opt/nginx/conf /opt/nginx/sbin /opt/nginx/logs /usr/share/nginx/logs; cp /usr/sbin/nginx /opt/nginx/sbin/; \
        rm /usr/sbin/nginx; printf 'error_log /opt/nginx/logs/error.log;\\npid /opt/nginx/logs/nginx.pid;\\nevents {}\\nhttp {\\n\
        access_log /opt/nginx/logs/requests;\\nserver { listen 80; location / { return 200; } }\\n}\\n' \
        >/opt/nginx/conf/nginx.conf; /opt/nginx/sbin/nginx -c /opt/nginx/conf/nginx.conf";
    let output = machine.sh(own).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let (code, text) = bake(&machine, &format!("{install} --nginx-conf /opt/nginx/conf/nginx.conf"));
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = bake(&machine, "verify");
    assert!(code == Some(1) && text.contains("FAIL  nothing starts nginx at boot"), "{text}");
    assert_eq!(text.matches("FAIL").count(), 1, "{text}");
    assert!(text.contains("modes that work here: stop"), "{text}");

    // Whatever starts it at boot counts.
    let unit = "[Unit]\n[Service]\nType=forking\nExecStart=/opt/nginx/sbin/nginx -c /opt/nginx/conf/nginx.conf\n[Install]\nWantedBy=multi-user.target\n";
    for (there, gone) in [
        (
            "printf '#!/bin/sh\n/opt/nginx/sbin/nginx\n' >/etc/rc.local; chmod +x /etc/rc.local".to_owned(),
            "rm /etc/rc.local",
        ),
        (
            "mkdir -p /etc/cron.d; echo '@reboot root /opt/nginx/sbin/nginx' >/etc/cron.d/n".to_owned(),
            "rm /etc/cron.d/n",
        ),
        (
            format!("printf '{unit}' >/etc/systemd/system/web.service; systemctl -q enable web"),
            "systemctl -q disable web",
        ),
    ] {
        machine.sh(&there).unwrap();
        let (code, text) = bake_root(machine.root(), &["verify"]);
        assert!(code == Some(0) && text.contains("nginx is started at boot by"), "{there}: {text}");
        machine.sh(gone).unwrap();
    }
    machine.sh("systemctl -q enable web; curl -s http://127.0.0.1/; true").unwrap();

    // What has failed is named, with its last words.
    machine.sh("systemd-run --unit=broken sh -c 'echo it is the disk; exit 1'; sleep 0.5; true").unwrap();
    let (code, text) = bake(&machine, "verify");
    assert!(code == Some(1) && text.contains("FAIL  no unit has failed"), "{text}");
    assert!(text.contains("broken.service has failed") && text.contains("it is the disk"), "{text}");
    machine.sh("systemctl reset-failed").unwrap();

    let (code, text) = bake(&machine, "clean");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("has ended"), "nginx runs on: {text}");
    assert_eq!(machine.says("pgrep -c nginx; find /opt/nginx/logs -type f -size +0").unwrap().trim(), "0");
}

fn waits_and_says_for_whom(machine: &Machine, install: &str) {
    let short = |more: &str| {
        let output = machine.sh(&format!("{more} AMI_BAKE_WAIT=2 bash /opt/instance.sh {install}")).unwrap();
        (output.status.code(), said(&output))
    };
    machine.sh("mkdir -p /run/cloud-init; printf '#!/bin/sh\nsleep 60\n' >/usr/bin/cloud-init; chmod +x /usr/bin/cloud-init").unwrap();
    let (code, text) = short("");
    assert!(code == Some(1) && text.contains("cloud-init has not ended after 2 s"), "{text}");
    machine.sh("rm /usr/bin/cloud-init").unwrap();
    // Held from another process, as rpm holds it and as yum says it.
    let (code, text) = short("flock /var/lib/rpm/.rpm.lock sleep 9 & sleep 0.2;");
    assert!(code == Some(1) && text.contains("/var/lib/rpm/.rpm.lock is held by process"), "{text}");
    let (code, text) =
        short("pkill sleep; cp /bin/sleep /tmp/yum-sleep; /tmp/yum-sleep 9 & echo $! >/var/run/yum.pid;");
    assert!(code == Some(1) && text.contains("/var/run/yum.pid names process"), "{text}");
    assert!(!machine.root().join("usr/bin/agent").exists(), "installed in spite of that");
    // Waited for: it ends in time.
    let output = machine
        .sh(&format!("rm -f /var/run/yum.pid; flock /var/lib/rpm/.rpm.lock sleep 1 & sleep 0.2; bash /opt/instance.sh {install}"))
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    machine.sh("rpm -e asg-agent").unwrap();
}

/// A redirect, an error page and a page with status 200 aren't the RPM, and none of them is called one with another hash.
fn no_answer_is_taken_for_the_rpm(machine: &Machine, sum: &str) {
    for (status, body, why) in [
        ("307", "<Error><Code>TemporaryRedirect</Code></Error>", "HTTP 307, a redirect"),
        ("301", "", "HTTP 301, a redirect"),
        ("403", "<Error><Code>SignatureDoesNotMatch</Code></Error>", "HTTP 403, SignatureDoesNotMatch"),
        ("200", "<html>sign in</html>", "is no RPM: it begins with <html>"),
    ] {
        // Writes the body to what follows -o, and says the status.
        let curl = format!(
            "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" != -o ] || out=$2; shift; done\n\
             printf '%s' '{body}' >\"$out\"\nprintf {status}\n"
        );
        let program = machine.root().join("usr/local/bin/curl");
        world::program::write(&program, &curl).unwrap();
        let line = format!(
            "PATH=/usr/local/bin:$PATH bash /opt/instance.sh install --sha256 {sum} \
             --rpm-url 'https://b.s3.eu-west-1.amazonaws.com/x?X-Amz-Signature=S3CR3T'"
        );
        let output = machine.sh(&line).unwrap();
        let (code, text) = (output.status.code(), said(&output));
        assert!(code == Some(1) && text.contains(why), "{status}: {text}");
        assert!(!text.contains("has SHA-256") && !text.contains("S3CR3T"), "{status}: {text}");
    }
    machine.sh("rm /usr/local/bin/curl").unwrap();
}
