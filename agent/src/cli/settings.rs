//! The settings of all rooms together, as the file holds them.

use std::path::PathBuf;

use serde::Deserialize;

use crate::cli::{Common, Exit, Failure, exit::OrExit};
use crate::config::{self, Asked, FileChoice, Invalid, Validate};
use crate::{health, identity, nginx, probes, serve};

const USUAL_FILE: &str = "/etc/asg-agent/agent.toml";
const SECTIONS: [&str; 6] = ["paths", "serve", "health", "nginx", "identity", "probes"];

/// All settings, valid.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where state is kept.
    pub paths: config::Paths,
    /// The listeners.
    pub serve: serve::Settings,
    /// The verdict.
    pub health: health::Settings,
    /// Which nginx.
    pub nginx: nginx::target::Settings,
    /// The metadata service.
    pub identity: identity::Settings,
    /// Which probes are expected.
    pub probes: probes::Settings,
}

impl Settings {
    /// Loads the file, then the environment, then what the flags ask for.
    ///
    /// # Errors
    /// Exit 2 with file, line and key of the first wrong value.
    pub fn load(common: &Common, flags: Vec<Asked>) -> Result<Self, Failure> {
        let file = match &common.config {
            Some(path) => FileChoice::Named(path.clone()),
            None => FileChoice::IfThere(PathBuf::from(USUAL_FILE)),
        };
        let mut asked: Vec<Asked> = Asked::environment(std::env::vars(), &SECTIONS).collect();
        asked.extend(flags);
        config::load(&file, &asked).or_exit(Exit::Usage)
    }
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), Invalid> {
        self.serve.validate()?;
        self.health.validate()?;
        self.nginx.validate()?;
        self.identity.validate()?;
        self.probes.validate()
    }
}
