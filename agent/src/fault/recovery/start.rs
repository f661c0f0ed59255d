//! Starting an nginx that no service manager runs, as it was started before.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::fault::lease::record::Target;
use crate::fault::recovery::environment;
use crate::fault::recovery::restore::STARTED;
use crate::sys::pidfd::Handle;
use crate::sys::proc::{self, Identity};
use crate::sys::spawn;

/// Starts nginx as it was started before, with the environment that was kept of it in the state folder.
pub(in crate::fault) fn start(target: &Target, state: &Path) -> Result<(), String> {
    let program = &target.exe.path;
    let failed = |e: io::Error| format!("{} could not be started: {e}", program.display());
    if !proc::is_trusted_program(program) {
        return Err(format!("{} is missing, or others than root can replace it", program.display()));
    }
    let mut said = File::from(
        rustix::fs::memfd_create("stderr", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?,
    );
    let cwd = if target.cwd.is_dir() { target.cwd.as_path() } else { "/".as_ref() };
    let mut command = Command::new(program);
    command.args(&target.args).current_dir(cwd).env_clear().envs(environment::kept(state));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone().map_err(failed)?);
    let mut child = spawn::detached(&mut command, &target.credentials).spawn().map_err(failed)?;
    if target.foreground {
        return Ok(());
    }
    let id = Identity::of(child.id().cast_signed()).map_err(failed)?;
    if let Some(process) = Handle::open(id).map_err(failed)?
        && !process.wait_end(STARTED)
    {
        return Err(format!("{} has not become a daemon within {} s", program.display(), STARTED.as_secs()));
    }
    if child.wait().map_err(failed)?.success() {
        return Ok(());
    }
    let mut text = String::new();
    let _ = said.rewind().and_then(|()| said.take(4096).read_to_string(&mut text));
    let reason = text.lines().find(|l| l.contains("[emerg]")).or_else(|| text.lines().next());
    Err(failed(io::Error::other(reason.unwrap_or("it said nothing").to_owned())))
}
