//! From a clean instance to a launch template that works: `ami-bake.sh` and the AWS documents.

mod acceptance;
mod account;
mod bashes;
mod deps;
mod documents;
mod facts;
mod failures;
mod groups;
mod instance;
mod packer;
mod publish;
mod story;
mod watch;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use world::cloud::Cloud;
use world::place::Place;

const FRONT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ami-bake.sh");

/// A cloud that isn't there, and the script that works on it.
struct World {
    place: Place,
    cloud: Cloud,
    /// The bash that reads the script, where it isn't the one on the path.
    bash: Option<PathBuf>,
}

/// What a run said and did.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl World {
    /// With a group that uses this version of its launch template.
    fn new(pin: &str) -> Self {
        let place = Place::new().unwrap();
        let cloud = Cloud::create(place.path(), pin).unwrap();
        fs::create_dir(place.join("bin")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_aws_stand_in"), place.join("bin/aws")).unwrap();
        fs::write(place.join("asg-agent-0.1.0-1.x86_64.rpm"), lead()).unwrap();
        Self { place, cloud, bash: None }
    }

    fn rpm(&self) -> PathBuf {
        self.place.join("asg-agent-0.1.0-1.x86_64.rpm")
    }

    fn command(&self, args: &str) -> Command {
        let path = format!("{}:{}", self.place.join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = match &self.bash {
            Some(bash) => Command::new(bash),
            None => Command::new(FRONT),
        };
        command.args(self.bash.iter().map(|_| FRONT));
        command.env_clear().env("PATH", path).env("TMPDIR", self.place.path());
        for (name, folder) in [("STATE", "state"), ("RUN", "run"), ("LOG", "log")] {
            command.env(format!("AGENT_PATHS_{name}"), self.place.join(folder));
        }
        command.env("STAND_IN_FOLDER", self.place.path()).env("AMI_BAKE_POLL", "0.001");
        command.env("AMI_BAKE_PATIENCE", "50").args(args.split_ascii_whitespace());
        // Ctrl-C reaches a whole process group: one of its own.
        command.process_group(0).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &str) -> Run {
        Run::of(self.command(args))
    }

    /// `image` with a launch template, and more arguments; the Nth call fails in some way.
    fn image(&self, more: &str, fault: Option<&str>) -> Run {
        let rpm = self.rpm().display().to_string();
        let mut command = self.command(&format!("image --rpm {rpm} --base-ami ami-base {more}"));
        if let Some(fault) = fault {
            command.env("STAND_IN_FAULT", fault);
        }
        Run::of(command)
    }

    /// Changes what the cloud holds.
    fn set(&self, change: impl FnOnce(&mut Value)) {
        let _turn = self.cloud.turn().unwrap();
        let mut state = self.cloud.state().unwrap();
        change(&mut state);
        self.cloud.save(&state).unwrap();
    }

    fn holdings(&self) -> Value {
        self.cloud.holdings().unwrap()
    }
}

impl Run {
    fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Asserts that it succeeded.
    fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }
}

/// The lead of an RPM, which is all that is read of it away from the instance (rpm's lib/rpmlead.h).
fn lead() -> Vec<u8> {
    let mut lead = vec![0xed, 0xab, 0xee, 0xdb, 3, 0, 0, 0, 0, 1];
    lead.extend(b"asg-agent-0.1.0-1");
    lead.resize(96, 0);
    lead
}
