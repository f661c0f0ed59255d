//! A real terminal: tmux with a server of its own, in which a program is started, pressed keys at and looked at.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::place::{Place, wait_until};

/// A terminal with a shell in it. Dropped, it is closed.
#[derive(Debug)]
pub struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Opens a terminal of `width` columns and `height` lines with an interactive bash, whose environment is
    /// `variables` and `PATH`.
    ///
    /// # Errors
    /// When tmux isn't installed.
    pub fn open(place: &Place, width: u16, height: u16, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let socket = tempfile::Builder::new().prefix("tmux-").tempdir_in(place.path())?.keep().join("s");
        let terminal = Self { socket };
        let mut command = terminal.command();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // tmux itself speaks UTF-8, whatever the program in it is told.
        command.env("LC_ALL", "C.UTF-8").args(["-u", "-f", "/dev/null", "new-session", "-d"]);
        command.args(["-x", &width.to_string(), "-y", &height.to_string()]);
        let set: String = variables.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
        command.arg(format!("env -u LC_ALL PS1='ready> ' {set}bash --norc --noprofile -i"));
        let output = command.current_dir(place.path()).output().context("tmux: is it installed?")?;
        ensure!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        terminal.wait_for("ready>")?;
        Ok(terminal)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command().args(args).output()?)
    }

    /// Types a line and Enter.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn line(&self, text: &str) -> anyhow::Result<()> {
        self.run(&["send-keys", "-l", text])?;
        self.key("Enter")
    }

    /// Presses a key, by the name that tmux gives it.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn key(&self, name: &str) -> anyhow::Result<()> {
        ensure!(self.run(&["send-keys", name])?.status.success(), "no key {name}");
        Ok(())
    }

    /// Gives the window another size.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, width: u16, height: u16) -> anyhow::Result<()> {
        let (width, height) = (width.to_string(), height.to_string());
        ensure!(self.run(&["resize-window", "-x", &width, "-y", &height])?.status.success(), "no such size");
        Ok(())
    }

    /// What is on the screen, without colours.
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default()
    }

    /// What is on the screen, with the sequences that colour it.
    pub fn coloured(&self) -> String {
        let output = self.run(&["capture-pane", "-p", "-e"]);
        output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
    }

    /// Waits until `text` is on the screen.
    ///
    /// # Errors
    /// With the screen, when it isn't within 20 s.
    pub fn wait_for(&self, text: &str) -> anyhow::Result<()> {
        self.wait(|screen| screen.contains(text)).with_context(|| format!("no {text:?} on the screen"))
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Errors
    /// With the screen, when it isn't within 20 s.
    pub fn wait(&self, wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let there = wait_until(Duration::from_secs(20), || wanted(&self.screen()));
        ensure!(there, "on the screen is\n{}", self.screen());
        Ok(())
    }

    /// Whether the terminal is as a shell wants it: echo and lines on, no program's screen, the cursor shown.
    ///
    /// # Errors
    /// When it isn't within 20 s.
    pub fn is_whole(&self) -> anyhow::Result<()> {
        let modes = || {
            let output = self.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
            output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
        };
        ensure!(
            wait_until(Duration::from_secs(20), || modes() == "0 1"),
            "alternate and cursor: {}",
            modes()
        );
        // A mark of its own: what was on the screen before the program's is there again, with the mark of an earlier look.
        let mark = format!("looked-{}", std::time::UNIX_EPOCH.elapsed()?.as_nanos());
        let look = "clear; stty -a | tr ';' '\\n' | grep -cE '(^| )(icanon|echo)( |$)'";
        self.line(&format!("{look}; echo {mark}"))?;
        self.wait(|screen| screen.lines().any(|line| line == mark))?;
        let screen = self.screen();
        ensure!(screen.lines().any(|line| line.trim() == "1" || line.trim() == "2"), "stty: {screen}");
        ensure!(!screen.contains("-icanon"), "stty: {screen}");
        Ok(())
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}
