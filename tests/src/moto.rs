//! AWS without AWS: moto_server on a loopback address of its own, and the real `aws` command line against it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::http;
use crate::place::{Place, wait_until};

/// The folder of the tools, installed where they are missing; `None` where they can't be had.
///
/// # Errors
/// When the script that installs them can't be run.
pub fn tools(repository: &Path) -> anyhow::Result<Option<PathBuf>> {
    let output = Command::new(repository.join("packaging/aws-tools.sh")).stderr(Stdio::inherit()).output()?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then(|| PathBuf::from(folder).join("bin")))
}

/// A running moto_server. Dropped, it ends.
#[derive(Debug)]
pub struct Moto {
    server: Child,
    url: String,
    path: String,
    home: PathBuf,
}

impl Moto {
    /// Starts it.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start(place: &Place, tools: &Path) -> anyhow::Result<Self> {
        let bin = place.join("moto-bin");
        std::fs::create_dir(&bin)?;
        // moto knows tags of an image's snapshots in no way but an internal error: that one argument is left out.
        let script = format!(
            "#!/bin/bash\nargs=()\nfor a; do [[ $a == ResourceType=snapshot,* ]] || args+=(\"$a\"); done\n\
             exec '{}' \"${{args[@]}}\"\n",
            tools.join("aws").display()
        );
        crate::program::write(bin.join("aws"), &script)?;
        let log = std::fs::File::create(place.join("moto.log"))?;
        let server = Command::new(tools.join("moto_server"))
            .args(["-H", &place.ip.to_string(), "-p", "5000"])
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("moto_server")?;
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let moto =
            Self { server, url: format!("http://{}:5000", place.ip), path, home: place.path().to_owned() };
        let addr = (place.ip, 5000).into();
        let up = || http::get(addr, "/moto-api/", Duration::from_secs(5)).is_ok();
        ensure!(wait_until(Duration::from_secs(60), up), "moto_server does not answer");
        Ok(moto)
    }

    /// A program that has it for AWS.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", &self.path).env("HOME", &self.home).env("TMPDIR", &self.home);
        command.env("AWS_ENDPOINT_URL", &self.url).env("AWS_DEFAULT_REGION", "eu-west-1");
        command.env("AWS_ACCESS_KEY_ID", "none").env("AWS_SECRET_ACCESS_KEY", "none");
        command.env("AWS_MAX_ATTEMPTS", "1").env("AMI_BAKE_POLL", "0.2").stdin(Stdio::null());
        command
    }

    /// A call of the real command line, its words split at blanks; its JSON.
    ///
    /// # Errors
    /// When it fails.
    pub fn aws(&self, line: &str) -> anyhow::Result<Value> {
        let mut command = self.command("aws");
        let output = command.args(line.split_ascii_whitespace()).args(["--output", "json"]).output()?;
        ensure!(output.status.success(), "aws {line}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
