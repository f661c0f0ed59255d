//! Programs that tests make and run.
//!
//! They are written by a child. A file that this process holds open for writing, however briefly, is also open in what
//! another thread forks in that instant, and execve(2) refuses it with ETXTBSY until that child has executed something.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Puts a copy of `from` at `to`, which anybody may execute.
///
/// # Errors
/// When install(1) fails.
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> anyhow::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let status = Command::new("install").args(["-m", "755"]).arg(from).arg(to).status()?;
    ensure!(status.success(), "install {} {}: {status}", from.display(), to.display());
    Ok(())
}

/// Puts a script at `to`, which anybody may execute.
///
/// # Errors
/// As [`copy`].
pub fn write(to: impl AsRef<Path>, text: &str) -> anyhow::Result<()> {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(to.as_ref()).stdin(Stdio::piped());
    let mut install = install.spawn()?;
    install.stdin.take().context("a pipe")?.write_all(text.as_bytes())?;
    let status = install.wait()?;
    ensure!(status.success(), "install /dev/stdin {}: {status}", to.as_ref().display());
    Ok(())
}
