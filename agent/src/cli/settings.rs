//! The settings of all rooms together, as the file holds them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tracing::level_filters::LevelFilter;

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
    /// The folders of [paths], for what must end a fault whatever else is wrong with the settings; and what is wrong.
    pub fn paths(common: &Common) -> (config::Paths, Vec<String>) {
        let named = common.config.as_deref();
        let file = named.unwrap_or(Path::new(USUAL_FILE));
        let (paths, mut warnings) =
            config::Paths::known(file, named.is_some(), |name| std::env::var_os(name));
        if warnings.is_empty()
            && let Err(failure) = Self::load(common, Vec::new())
        {
            warnings.push(format!("{failure}; only [paths] is needed to recover"));
        }
        (paths, warnings)
    }

    /// Loads the file, then the environment, then what the flags ask for.
    ///
    /// # Errors
    /// Exit 2 with file, line and key of the first wrong value.
    pub fn load(common: &Common, flags: Vec<Asked>) -> Result<Self, Failure> {
        let file = match &common.config {
            Some(path) => FileChoice::Named(path.clone()),
            None => FileChoice::IfThere(PathBuf::from(USUAL_FILE)),
        };
        let mut asked: Vec<Asked> = config::from_environment(std::env::vars_os(), &SECTIONS).collect();
        asked.extend(flags);
        let mut settings: Self = config::load(&file, &asked).or_exit(Exit::Usage)?;
        settings.probes.metadata = Some(settings.identity.clone());
        Ok(settings)
    }
}

/// The level of the log on stderr, from `AGENT_LOG`: off, error, warn, info, debug or trace; without it info.
///
/// # Errors
/// Exit 2 on any other word.
pub(super) fn log_level() -> Result<LevelFilter, Failure> {
    let Some(text) = std::env::var_os("AGENT_LOG").filter(|text| !text.is_empty()) else {
        return Ok(LevelFilter::INFO);
    };
    let text = text.to_string_lossy();
    let wrong = || anyhow::anyhow!("AGENT_LOG: \"{text}\" is none of off, error, warn, info, debug, trace");
    let known = text.parse().ok().filter(|_| text.parse::<u8>().is_err());
    known.ok_or_else(wrong).or_exit(Exit::Usage)
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
