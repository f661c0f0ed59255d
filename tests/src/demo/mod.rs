//! The story of `make demo`.
//!
//! `story`: chapters 1 to 3 · `failover`: chapter 4 · `stage`: what they need · `traffic`: the clients · `view`: `agent watch` beside it · `summary`: what
//! they saw · `voice`: how it is told · `interrupt`: how it ends early.

mod failover;
mod interrupt;
mod stage;
mod story;
mod summary;
mod traffic;
mod view;
mod voice;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use interrupt::{Interrupt, Interrupted};
use stage::Stage;
use story::Story;
use voice::Voice;

/// The probes' interval of the story; tests tell it faster.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells the story; `interval` is the first argument, in seconds, and the report goes to `folder`, the second. The exit code is 0, 1 when something was not as
/// told, 2 for a wrong argument, 3 without root's rights, or 128 and the signal's number.
pub fn main(interval: Option<&str>, folder: Option<&str>) -> ExitCode {
    let folder = Path::new(folder.unwrap_or("target/demo"));
    let voice = Voice::new();
    let sensible = |secs: &f64| (0.5..=60.0).contains(secs);
    let interval = match interval.map(|text| text.parse().ok().filter(sensible)) {
        None => INTERVAL,
        Some(Some(secs)) => Duration::from_secs_f64(secs),
        Some(None) => {
            voice.say(
                "usage: demo [SECONDS BETWEEN PROBES, 0.5 to 60; 5 unless told] [FOLDER FOR THE REPORT]",
            );
            return ExitCode::from(2);
        }
    };
    if !nix::unistd::geteuid().is_root() {
        let us = std::env::current_exe().unwrap_or_else(|_| "demo".into());
        voice.say(&format!("Only root may make nginx fail: run `sudo {}`", us.display()));
        return ExitCode::from(3);
    }
    let start = Instant::now();
    match tell(voice, interval, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let voice = Voice::new();
            voice.say(&format!("Ended after {:.0} s: {e:#}", start.elapsed().as_secs_f64()));
            match e.downcast_ref() {
                Some(Interrupted(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn tell(voice: Voice, interval: Duration, folder: &Path) -> anyhow::Result<()> {
    let interrupt = Interrupt::watch()?;
    let mut story = Story { interrupt, voice, interval };
    story.voice.chapter("agent: the four jobs in a minute");
    let stage = Stage::build(interval, &story.interrupt)?;
    let told = story.chapters(&stage, folder);
    if told.is_err() {
        story.voice.chapter("The story ends here: recovering, and taking everything down");
    }
    drop(stage);
    told?;
    story.voice.chapter("The end");
    story.voice.say(
        "Both nginx, both agents and the load balancer are gone, and so are their files, but for the report and the picture.",
    );
    Ok(())
}
