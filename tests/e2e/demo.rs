//! The demo tells its story to the end, and leaves nothing behind wherever it is interrupted.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use world::agent::Running;
use world::place::{Place, wait_until};

/// Demos share ports on 127.0.0.1: one at a time.
static STAGE: Mutex<()> = Mutex::new(());

/// Longer than any chapter takes.
const LIMIT: Duration = Duration::from_secs(60);

struct Demo {
    running: Running,
    folder: PathBuf,
    place: Place,
    _alone: MutexGuard<'static, ()>,
}

impl Demo {
    /// Starts the demo with a probe a second, its files in a folder of its own.
    fn start() -> Self {
        let alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Place::new().unwrap();
        let folder = place.join("tmp");
        fs::create_dir(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
        command.arg("1").arg(place.join("report")).env("TMPDIR", &folder).env("NO_COLOR", "1");
        let running = Running::spawn(&place, command).unwrap();
        Self { running, folder, place, _alone: alone }
    }

    fn wait_for_line(&self, text: &str) {
        self.wait_for_lines(&[text]);
    }

    /// In whichever order they come.
    fn wait_for_lines(&self, texts: &[&str]) {
        let mut missing = texts.to_vec();
        while let Some(line) = self.running.line(LIMIT).unwrap() {
            missing.retain(|text| !line.contains(text));
            if missing.is_empty() {
                return;
            }
        }
        panic!("ended without {missing:?}: {}", self.running.stderr());
    }

    /// The processes that name its folder in their command line or environment, or hold something open in it.
    fn processes(&self) -> Vec<i32> {
        let mut all = self.place.processes();
        let names = |pid: &i32| {
            ["cmdline", "environ"].iter().any(|file| {
                let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let folder = self.folder.as_os_str().as_bytes();
                text.windows(folder.len()).any(|part| part == folder)
            })
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        all.extend(pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(names));
        all
    }

    fn leaves_nothing(&self) {
        // A killed process stays in /proc until its parent has noticed.
        assert!(wait_until(Duration::from_secs(5), || self.processes().is_empty()), "{:?}", self.processes());
        let files: Vec<_> = fs::read_dir(&self.folder).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(files.is_empty(), "{files:?}");
    }

    fn interrupt_at(text: &str, signal: Signal) {
        let mut demo = Self::start();
        demo.wait_for_line(text);
        demo.running.signal(signal).unwrap();
        let status = demo.running.wait(LIMIT).unwrap();
        assert_eq!(status.code(), Some(128 + signal as i32), "{text}: {}", demo.running.stderr());
        demo.leaves_nothing();
    }
}

#[test]
fn the_story_is_told_to_its_end() {
    let mut demo = Demo::start();
    for text in [
        "/health",
        "\"status\":\"pass\"",
        "agent probes",
        "agent stress",
        "worst",
        "agent drill",
        "effective",
        "is unhealthy (Target.FailedHealthChecks)",
    ] {
        demo.wait_for_line(text);
    }
    // The drill says the one, the load balancer the other.
    demo.wait_for_lines(&["recovered", "is healthy"]);
    for text in [
        "timeline",
        "hypothesis",
        "clean-up",
        "safety",
        "report.html",
        "5. agent watch",
        "agent-watch.svg",
        "The end",
    ] {
        demo.wait_for_line(text);
    }
    assert!(demo.running.wait(LIMIT).unwrap().success());
    assert!(fs::read_to_string(demo.place.join("report/report.html")).unwrap().ends_with("</html>\n"));
    let picture = fs::read_to_string(demo.place.join("report/agent-watch.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.contains("/health says"), "{picture}");
    demo.leaves_nothing();
}

#[test]
fn interrupted_while_the_stage_is_built_it_leaves_nothing() {
    Demo::interrupt_at("the four jobs", Signal::SIGINT);
}

#[test]
fn interrupted_while_probes_are_counted_it_leaves_nothing() {
    Demo::interrupt_at("$ agent probes", Signal::SIGTERM);
}

#[test]
fn interrupted_during_a_fault_it_recovers_and_leaves_nothing() {
    Demo::interrupt_at("effective", Signal::SIGHUP);
}
