//! The volume of the state folder: frozen, read-only or full beneath a running daemon, on a real file system.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use world::agent::configure;
use world::daemon::Daemon;
use world::place::{Place, wait_until};

const LONG: Duration = Duration::from_secs(30);

/// An ext4 of 16 MB in a file, mounted. Dropped, it is unmounted.
struct Volume(PathBuf);

impl Volume {
    /// `None` where nothing can be mounted from a file.
    fn mount(place: &Place) -> Option<Self> {
        let (image, folder) = (place.join("volume.img"), place.join("state"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let made = run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        let mounted = made && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&folder));
        if !mounted {
            crate::fault::skipped("no file system can be mounted from a file here");
            return None;
        }
        Some(Self(folder))
    }

    fn make(&self, state: State) -> Broken<'_> {
        match state {
            State::Frozen => assert!(run(Command::new("fsfreeze").arg("-f").arg(&self.0))),
            State::ReadOnly => assert!(remount(&self.0, "ro")),
            State::Full => {
                let fill = Command::new("dd")
                    .args(["if=/dev/zero", "bs=64k"])
                    .arg(format!("of={}/fill", self.0.display()))
                    .output()
                    .unwrap();
                assert!(String::from_utf8_lossy(&fill.stderr).contains("No space left"), "{fill:?}");
            }
        }
        Broken { volume: self, state }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let unmounted = || run(Command::new("umount").arg(&self.0));
        assert!(wait_until(LONG, unmounted) || std::thread::panicking());
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Frozen,
    ReadOnly,
    Full,
}

/// Dropped, the volume is well again.
struct Broken<'a> {
    volume: &'a Volume,
    state: State,
}

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        let mended = match self.state {
            State::Frozen => run(Command::new("fsfreeze").arg("-u").arg(&self.volume.0)),
            State::ReadOnly => remount(&self.volume.0, "rw"),
            State::Full => std::fs::remove_file(self.volume.0.join("fill")).is_ok(),
        };
        assert!(mended || std::thread::panicking());
    }
}

fn remount(folder: &Path, how: &str) -> bool {
    run(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(folder))
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_volume_that_cannot_be_written_to_is_told_and_fails_where_asked_for() {
    for policy in ["warn", "fail"] {
        let place = Place::new().unwrap();
        let Some(volume) = Volume::mount(&place) else { return };
        configure(&place, &format!("[health]\nvolume = \"{policy}\"\n")).unwrap();
        let daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
        let check = || daemon.check("volume").unwrap();
        let comes =
            |status: &str| assert!(wait_until(LONG, || check()["status"] == status), "{status}: {}", check());
        comes("pass");
        for (state, says) in [
            (State::Frozen, "hangs since"),
            (State::ReadOnly, "Read-only file system"),
            (State::Full, "less than 1 MiB is left"),
        ] {
            let broken = volume.make(state);
            comes(policy);
            let detail = check()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(says), "{detail}");
            daemon.wait_for(if policy == "fail" { 503 } else { 200 }, LONG).unwrap();
            drop(broken);
            comes("pass");
            daemon.wait_for(200, LONG).unwrap();
        }
    }
}

#[test]
fn a_daemon_that_ends_on_a_frozen_volume_lets_go_of_its_ports() {
    let place = Place::new().unwrap();
    let Some(volume) = Volume::mount(&place) else { return };
    let mut daemon = Daemon::start(&place, &["--no-nginx"]).unwrap();
    let broken = volume.make(State::Frozen);
    assert!(wait_until(LONG, || daemon.check("volume").unwrap()["status"] == "warn"));
    daemon.process.signal(Signal::SIGINT).unwrap();
    assert!(wait_until(LONG, || TcpStream::connect(daemon.public).is_err()), "clients would wait");
    drop(broken);
    assert_eq!(daemon.process.wait(LONG).unwrap().code(), Some(130));
}
