//! The terminal as it was, even where the view is killed with SIGKILL: another process waits for the view's end at a
//! pipe, and sets the terminal right unless the view has said that it did so itself.

use std::io::{self, Read, Write, stdin, stdout};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// The name of the verb under which this program is the guard.
pub const VERB: &str = "__screen";
/// Leaves the other screen and shows the cursor (xterm's control sequences).
const AS_BEFORE: &[u8] = b"\x1b[?1049l\x1b[?25h\x1b[0m\r\n";
/// Says that nothing is left to do.
const DONE: &[u8] = b"done\n";

/// The process that waits. Dropped, it is told that nothing is left to do.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Starts it, and waits until it knows how the terminal is now.
    ///
    /// # Errors
    /// When there can be no other process.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(VERB).stdin(Stdio::piped()).stdout(Stdio::inherit()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(ready) = &mut child.stderr {
            // One byte, or the end of it.
            let _ = ready.read(&mut [0])?;
        }
        Ok(Self(child))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(DONE);
        }
        let _ = self.0.wait();
    }
}

/// The guard's whole life.
///
/// # Errors
/// When stdout is no terminal.
pub fn run() -> io::Result<()> {
    let before = tcgetattr(stdout())?;
    // By then the shell has the terminal, and who sets it from the background is stopped, unless SIGTTOU is blocked (tty_ioctl(4)).
    let mut blocked = SigSet::empty();
    blocked.extend([Signal::SIGTTOU, Signal::SIGTSTP, Signal::SIGINT, Signal::SIGQUIT]);
    blocked.thread_block()?;
    let _ = io::stderr().write_all(b".");
    let mut told = Vec::new();
    stdin().read_to_end(&mut told)?;
    if told != DONE {
        tcsetattr(stdout(), OptionalActions::Now, &before)?;
        stdout().write_all(AS_BEFORE)?;
        stdout().flush()?;
    }
    Ok(())
}
