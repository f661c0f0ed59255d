//! Every flush is a possible end: the state folder lies on a volume whose writes are logged, and each power cut that a
//! fault could have met is made and looked at.

use anyhow::{Context, ensure};

use crate::machine::Vm;
use crate::power;
use crate::trials::Trial;

/// All of them: one for each way in which the record is written.
pub(crate) fn trials() -> Vec<Trial> {
    let modes = ["stop", "crash", "hang", "drop", "reject", "error", "unhealthy", "slow"];
    let trial = |mode| {
        Trial::new(
            format!("flushes {mode}{}", if mode == "stop" { " short" } else { "" }),
            1,
            move |vm: &mut Vm<'_>| trial(vm, mode),
        )
    };
    modes.into_iter().map(trial).collect()
}

const BEGIN: &str = "
modprobe dm-log-writes && modprobe loop
# Nothing of an earlier log: what isn't written is not part of it.
dd if=/dev/zero of=/dev/vdc bs=1M count=1 conv=notrunc status=none
dmsetup create logged --table \"0 $(blockdev --getsz /dev/vdb) log-writes /dev/vdb /dev/vdc\"
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/logged
mount /dev/mapper/logged /var/lib/asg-agent
mkdir -p /var/lib/asg-agent/serve && chown asg-agent:asg-agent /var/lib/asg-agent/serve
sync && dmsetup message logged 0 mark begin
";
/// What is looked at comes from another boot, as after a real cut.
const LOOK: &str = "
echo 00000000-0000-0000-0000-000000000000 >/run/other-boot
mount --bind /run/other-boot /proc/sys/kernel/random/boot_id
truncate -s 16M /run/image
/usr/local/lib/lab/guest replay /dev/vdc /run/image begin /usr/local/lib/lab/look.sh >/run/looked
code=$?
umount /proc/sys/kernel/random/boot_id
rm -f /run/image*
grep -v ^ok /run/looked
exit $code
";

fn trial(vm: &mut Vm<'_>, mode: &str) -> anyhow::Result<String> {
    vm.until("[ \"$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/health)\" = 200 ]")?;
    vm.says(&format!("set -e; {BEGIN}"))?;
    power::in_force(vm, &format!("agent fail --mode {mode} --secs 250 --json"))?;
    power::interrupt(vm)?;
    vm.says("grep -q '\"event\":\"recovered\"' /run/fault.said")?;
    // The timer's command may have been started, and look at the folder.
    vm.until("umount /var/lib/asg-agent")?;
    vm.until("dmsetup remove logged")?;
    let said = vm.sh(LOOK).context("replay")?;
    ensure!(said.code == 0, "{}", said.text);
    let records = vm.says(
        "sed -n 's/^ok *entry [0-9]*: \\([a-z]* *[a-z]*\\):.*/\\1/p' /run/looked | sort | uniq -c | xargs",
    )?;
    Ok(format!("{}: {records}", said.text))
}
