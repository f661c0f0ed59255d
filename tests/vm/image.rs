//! What a machine is made of: QEMU, a kernel with the few modules that find its disk, and a Debian in which our package
//! was installed as `ami-bake.sh install` does it. What is downloaded is kept; the rest is made for every run.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The emulator lies beside the host's packages, not among them: it may conflict with what is installed.
const TOOLS: &str = "qemu-system-x86,busybox-static";
const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,kmod,nginx-light,curl,iproute2,procps,nftables,\
                        sysvinit-utils,rpm,jq,dmsetup,e2fsprogs,linux-image-cloud-amd64";
/// In the order in which they need each other.
const MODULES: [&str; 7] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
];
/// What no test looks at, and what takes an emulated processor seconds at every boot.
const MASKED: [&str; 18] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "kmod-static-nodes.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-random-seed.service",
    "systemd-udev-trigger.service",
];
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for m in MODULES; do $b insmod /$m.ko; done
until [ -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 /dev/vda /new
$b mount --move /dev /new/dev
exec $b switch_root /new /sbin/init
";

/// All that QEMU is given.
#[derive(Debug)]
pub(crate) struct Image {
    /// The folder of everything.
    pub(crate) cache: PathBuf,
    /// The emulator's own root, if it isn't the host's.
    tools: PathBuf,
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// What mounts the disk.
    pub(crate) initrd: PathBuf,
    /// The disk, to be copied for each machine.
    pub(crate) disk: PathBuf,
}

impl Image {
    /// Makes it, with the agent that `cargo build` has left.
    ///
    /// # Errors
    /// When packages can't be had, or a step fails.
    pub(crate) fn make(cache: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(cache)?;
        let tools = unpacked(cache, "tools", "extract", TOOLS)?;
        let root = unpacked(cache, "root", "minbase", PACKAGES)?;
        let packages = [package(cache, "1")?, package(cache, "2")?];
        let kernel = only(&root.join("boot"), "vmlinuz-")?;
        let initrd = initrd(cache, &tools, &root)?;
        let disk = cache.join("disk.img");
        if !is_newer(&disk, &inputs(&packages)?) {
            make_disk(cache, &root, &packages, &disk)?;
        }
        Ok(Self { cache: cache.to_owned(), tools, kernel, initrd, disk })
    }

    /// The emulator, to which arguments may be added. It ends with the thread that starts it.
    pub(crate) fn qemu(&self) -> Command {
        let at = |path: &str| self.tools.join(path);
        let libraries =
            ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|l| at(l).display().to_string());
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(at("lib64/ld-linux-x86-64.so.2"));
        command.args(["--library-path", &libraries.join(":")]).arg(at("usr/bin/qemu-system-x86_64"));
        command.arg("-L").arg(at("usr/share/qemu")).arg("-L").arg(at("usr/share/seabios"));
        command.env("QEMU_MODULE_DIR", at("usr/lib/x86_64-linux-gnu/qemu"));
        command
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(said)
}

/// A root of these packages, made when missing or when others are wanted.
fn unpacked(cache: &Path, name: &str, variant: &str, packages: &str) -> anyhow::Result<PathBuf> {
    let mut wanted = DefaultHasher::new();
    packages.hash(&mut wanted);
    let root = cache.join(format!("{name}-{:x}", wanted.finish()));
    if !root.exists() {
        let new = cache.join(format!("{name}.new"));
        let _ = fs::remove_dir_all(&new);
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", &format!("--variant={variant}"), &format!("--include={packages}")]);
        run(command.args(["bookworm"]).arg(&new))?;
        fs::rename(&new, &root)?;
    }
    Ok(root)
}

/// The one file of a folder whose name begins so.
fn only(folder: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let all = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut named =
        all.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)));
    named.next().with_context(|| format!("no {prefix}* in {}", folder.display()))
}

fn initrd(cache: &Path, tools: &Path, root: &Path) -> anyhow::Result<PathBuf> {
    let initrd = cache.join("initrd");
    let work = tempfile::Builder::new().prefix("initrd-").tempdir_in(cache)?;
    let at = |name: &str| work.path().join(name);
    ["bin", "dev", "new"].iter().try_for_each(|folder| fs::create_dir(at(folder)))?;
    fs::copy(tools.join("bin/busybox"), at("bin/busybox"))?;
    let modules = only(&root.join("lib/modules"), "")?.join("kernel/drivers");
    for module in MODULES {
        let folder = match module {
            "virtio_blk" => "block",
            "virtio_console" => "char",
            _ => "virtio",
        };
        fs::copy(modules.join(folder).join(format!("{module}.ko")), at(&format!("{module}.ko")))?;
    }
    fs::write(at("init"), INIT.replace("MODULES", &MODULES.join(" ")))?;
    fs::set_permissions(at("init"), fs::Permissions::from_mode(0o755))?;
    let pack = "cd \"$1\" && find . | bin/busybox cpio -o -H newc >\"$2\" 2>/dev/null";
    run(Command::new("sh").args(["-c", pack, "sh"]).arg(work.path()).arg(&initrd))?;
    Ok(initrd)
}

/// Our package, of the binary that `cargo build` has left: its failpoints stop a fault at any of its steps.
fn package(cache: &Path, release: &str) -> anyhow::Result<PathBuf> {
    let target = cache.join("package");
    let agent = target.join("dist/x86_64/agent");
    let built = world::agent::binary();
    let inputs = [built.clone()];
    if !is_newer(&agent, &inputs) {
        let _ = fs::remove_dir_all(&target);
        fs::create_dir_all(target.join("dist/x86_64"))?;
        run(Command::new("strip").arg("-o").arg(&agent).arg(&built))?;
    }
    let finished = only(&target.join("rpm"), "").and(Ok(target.join("rpm")));
    if let Some(package) = finished.ok().and_then(|rpms| named(&rpms, release))
        && is_newer(&package, &inputs)
    {
        return Ok(package);
    }
    let mut build = Command::new(Path::new(REPOSITORY).join("rpm/build.sh"));
    build.arg("x86_64").env("RELEASE", release).env("CARGO_TARGET_DIR", &target);
    run(build.env("PAPERS", built.with_file_name("papers")))?;
    named(&target.join("rpm"), release).context("rpm/build.sh has left no package")
}

fn named(rpms: &Path, release: &str) -> Option<PathBuf> {
    let all = fs::read_dir(rpms).ok()?.flatten().map(|entry| entry.path());
    all.into_iter().find(|path| path.to_string_lossy().ends_with(&format!("-{release}.x86_64.rpm")))
}

/// Whether a file was made after all of these.
fn is_newer(made: &Path, inputs: &[PathBuf]) -> bool {
    let time = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    let made = time(made);
    made.is_some() && inputs.iter().all(|input| time(input) < made)
}

/// What a disk is made from, beside Debian's packages.
fn inputs(packages: &[PathBuf; 2]) -> anyhow::Result<Vec<PathBuf>> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm");
    let mut all = vec![ours.join("image.rs"), world::agent::binary().with_file_name("vm-guest")];
    all.extend(packages.iter().cloned());
    all.extend(fs::read_dir(ours.join("guest"))?.flatten().map(|entry| entry.path()));
    Ok(all)
}

fn make_disk(cache: &Path, root: &Path, packages: &[PathBuf; 2], disk: &Path) -> anyhow::Result<()> {
    let work = tempfile::Builder::new().prefix("root-").tempdir_in(cache)?;
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(root.join(".")).arg(work.path()))?;
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755))?;
    furnish(work.path(), packages)?;
    let new = cache.join("disk.new");
    let _ = fs::remove_file(&new);
    fs::File::create(&new)?.set_len(1 << 30)?;
    run(Command::new("mkfs.ext4").args(["-q", "-d"]).arg(work.path()).arg(&new))?;
    Ok(fs::rename(new, disk)?)
}

/// Installs the package, and what the lab needs inside.
fn furnish(root: &Path, packages: &[PathBuf; 2]) -> anyhow::Result<()> {
    // What an image brings that was booted before.
    fs::write(root.join("etc/machine-id"), "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e\n")?;
    fs::write(root.join("etc/hostname"), "lab\n")?;
    let mut bake = Command::new(Path::new(REPOSITORY).join("ami-bake.sh"));
    run(bake.args(["install", "--rpm"]).arg(&packages[0]).arg("--root").arg(root))?;
    fs::copy(&packages[1], root.join("root/newer.rpm"))?;
    let units = root.join("etc/systemd/system");
    for unit in MASKED {
        std::os::unix::fs::symlink("/dev/null", units.join(unit))?;
    }
    let lab = root.join("usr/local/lib/lab");
    fs::create_dir_all(&lab)?;
    let inside = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/guest");
    for script in ["shell.sh", "judge.sh", "look.sh"] {
        fs::copy(inside.join(script), lab.join(script))?;
    }
    for unit in ["lab-shell.service", "lab-watch.service"] {
        fs::copy(inside.join(unit), units.join(unit))?;
        let wants = units.join("sysinit.target.wants");
        fs::create_dir_all(&wants)?;
        std::os::unix::fs::symlink(format!("../{unit}"), wants.join(unit))?;
    }
    let guest = world::agent::binary().with_file_name("vm-guest");
    run(Command::new("strip").arg("-o").arg(lab.join("guest")).arg(guest))?;
    Ok(())
}
