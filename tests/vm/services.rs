//! nginx as people run it, on a real PID 1: its package's unit, an init script in /opt, by hand out of another service;
//! and the package upgraded under a fault.

use anyhow::{Context, ensure};

use crate::machine::Vm;
use crate::power;
use crate::trials::Trial;

/// All of them; each leaves a machine that is otherwise.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("services unit".into(), 1, |vm| modes(vm, |vm| in_group(vm, "nginx.service"))).spoils(),
        Trial::new("services init-script".into(), 1, init_script).spoils(),
        Trial::new("services by-hand".into(), 1, by_hand).spoils(),
        Trial::new("services upgrade".into(), 1, upgrade).spoils(),
    ]
}

const SERVES: &str = "[ \"$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/)\" = 200 ]";

/// Makes it fail in each mode that ends or holds nginx, and sees it come back as it was.
fn modes(vm: &mut Vm<'_>, is_back: impl Fn(&mut Vm<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    vm.until(SERVES)?;
    for mode in ["stop", "crash", "hang"] {
        power::in_force(vm, &format!("agent fail --mode {mode} --secs 250 --json"))?;
        power::interrupt(vm)?;
        is_well(vm, &is_back).with_context(|| format!("{mode}, ended by its command"))?;
        // Neither command nor keeper is left: PID 1 alone ends it.
        vm.says(&format!("agent fail --mode {mode} --secs 60 --detach"))?;
        vm.says("pkill -KILL -f 'agent __keep'")?;
        is_well(vm, &is_back).with_context(|| format!("{mode}, ended by the timer"))?;
    }
    Ok("stop, crash and hang, ended by the command and by the timer".into())
}

fn is_well(vm: &mut Vm<'_>, is_back: &impl Fn(&mut Vm<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    vm.until(&format!("{SERVES} && ! test -e /var/lib/asg-agent/fault.json"))?;
    vm.until("[ -z \"$(systemctl list-units --all --plain --no-legend 'asg-agent-fault*')\" ]")?;
    let left = vm.sh("pgrep -fa 'agent (fail|__keep)'")?;
    ensure!(left.text.is_empty(), "left: {}", left.text);
    is_back(vm)
}

fn in_group(vm: &mut Vm<'_>, unit: &str) -> anyhow::Result<()> {
    let group = vm.says("cat /proc/$(pgrep -o -x nginx)/cgroup | grep ^0::")?;
    ensure!(group.ends_with(&format!("/{unit}")), "nginx is in {group}");
    let state = vm.says(&format!("systemctl is-active {unit}"))?;
    ensure!(state == "active", "{unit} is {state}");
    Ok(())
}

/// /opt/nginx as one that was built from source, with an init script as people write it.
fn init_script(vm: &mut Vm<'_>) -> anyhow::Result<String> {
    vm.says(
        "set -e
systemctl disable --now -q nginx
mkdir -p /opt/nginx/logs /opt/nginx/sbin
cp /usr/sbin/nginx /opt/nginx/sbin/
cat >/opt/nginx/nginx.conf <<'END'
pid /opt/nginx/logs/nginx.pid; error_log /opt/nginx/logs/error.log; events {}
http { access_log off; server { listen 80; location / { return 200; } } }
END
cat >/etc/init.d/web <<'END'
#!/bin/sh
### BEGIN INIT INFO
# Provides: web
# Required-Start: $remote_fs
# Required-Stop: $remote_fs
# Default-Start: 2 3 4 5
# Default-Stop: 0 1 6
# Short-Description: nginx in /opt
### END INIT INFO
N='/opt/nginx/sbin/nginx -c /opt/nginx/nginx.conf'
case $1 in
  start) $N ;;
  stop) $N -s stop ;;
  restart) $N -s stop; sleep 1; $N ;;
esac
END
chmod +x /etc/init.d/web
ln -s ../init.d/web /etc/rc3.d/S01web
ln -s ../init.d/web /etc/rc5.d/S01web
systemctl daemon-reload
systemctl start web",
    )?;
    let said = modes(vm, |vm| in_group(vm, "web.service"))?;
    // And by a power cut.
    power::in_force(vm, "agent fail --mode crash --secs 250 --json")?;
    vm.says("sync -f /etc/init.d/web")?;
    vm.cut_power()?;
    is_well(vm, &|vm: &mut Vm<'_>| in_group(vm, "web.service")).context("after a power cut")?;
    Ok(format!("{said}, and by a power cut"))
}

/// Out of the service that runs what these tests ask for: as out of the agent of Systems Manager.
fn by_hand(vm: &mut Vm<'_>) -> anyhow::Result<String> {
    vm.says(
        "set -e
systemctl disable --now -q nginx
echo 'pid /run/hand.pid; error_log /var/log/hand.log; events {}
http { access_log off; server { listen 80; location / { return 200; } } }' >/etc/hand.conf
nice -n 3 /usr/sbin/nginx -c /etc/hand.conf",
    )?;
    let shell = vm.says("systemctl show -P MainPID lab-shell")?;
    modes(vm, move |vm| {
        let now = vm.says("systemctl show -P MainPID lab-shell")?;
        ensure!(now == shell, "the service from which nginx was started was touched");
        let nice = vm.says("ps -o ni= -p $(cat /run/hand.pid)")?;
        ensure!(nice == "3", "nginx has nice {nice}");
        Ok(())
    })
}

/// The package is upgraded while nginx is stopped.
fn upgrade(vm: &mut Vm<'_>) -> anyhow::Result<String> {
    vm.until(SERVES)?;
    power::in_force(vm, "agent fail --mode stop --secs 250 --json")?;
    vm.says("rpm -U --nodeps --force-debian /root/newer.rpm")?;
    is_well(vm, &|vm: &mut Vm<'_>| in_group(vm, "nginx.service"))?;
    let release = vm.says("rpm -q --qf '%{RELEASE}' asg-agent")?;
    ensure!(release == "2", "release {release} is installed");
    vm.until("[ \"$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/health)\" = 200 ]")?;
    Ok("the fault was ended first".into())
}
