//! The load of a drill of scaling: `agent stress` beside it. However the drill ends, so does the load.

use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::Span;
use crate::sys::spawn;

/// The load. Dropped, it ends.
#[derive(Debug)]
pub struct Load(Child);

impl Load {
    /// Holds this host at `target` percent for `secs`. It must be the main thread that calls: the load ends with the
    /// thread that began it.
    ///
    /// # Errors
    /// When there is no process for it.
    pub fn start(target: f64, secs: Span, config: Option<&Path>) -> io::Result<Self> {
        let mut stress = Command::new("/proc/self/exe");
        stress.args(["stress", "--target", &target.to_string(), "--secs", &secs.to_string()]);
        if let Some(config) = config {
            stress.arg("--config").arg(config);
        }
        stress.stdin(Stdio::null()).stdout(Stdio::null());
        spawn::ended_with_us(&mut stress).spawn().map(Self)
    }

    /// How it ended, once it has.
    ///
    /// # Errors
    /// When the system doesn't tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}
