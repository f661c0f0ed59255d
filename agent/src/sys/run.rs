//! Running another program to its end, for a bounded time. What it writes goes to memory files, so that a child of
//! its own that keeps them open can't keep us waiting.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::pidfd::Handle;
use super::proc::Identity;

/// Nothing that we run says more than this that matters.
const MAX_BYTES: u64 = 256 << 10;

/// How a program ended, and what it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// The beginning of its stdout.
    pub stdout: String,
    /// The beginning of its stderr.
    pub stderr: String,
}

/// Runs a command, with `input` on its stdin. The caller has set its environment and its folder.
///
/// # Errors
/// When it can't be started; when it hasn't ended within `limit`, and then it is killed.
pub fn bounded(command: &mut Command, input: &str, limit: Duration) -> io::Result<Finished> {
    let memory = |name| {
        rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)
            .map(File::from)
            .map_err(io::Error::from)
    };
    let (mut stdin, mut stdout, mut stderr) = (memory("stdin")?, memory("stdout")?, memory("stderr")?);
    stdin.write_all(input.as_bytes())?;
    stdin.rewind()?;
    command.stdin(Stdio::from(stdin)).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = command.spawn()?;
    let ended = Identity::of(child.id().cast_signed())
        .and_then(Handle::open)
        .map(|process| process.is_none_or(|process| process.wait_end(limit)));
    if !matches!(ended, Ok(true)) {
        let _ = child.kill();
        let _ = child.wait();
        ended?;
        let program = command.get_program().to_string_lossy();
        return Err(io::Error::other(format!("{program} has not ended within {} s", limit.as_secs())));
    }
    let status = child.wait()?;
    let said = |file: &mut File| -> io::Result<String> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Finished { status, stdout: said(&mut stdout)?, stderr: said(&mut stderr)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_its_input_and_is_heard() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo oops >&2; exit 3"]);
        let done = bounded(&mut command, "hello", Duration::from_secs(20)).unwrap();
        assert_eq!(
            (done.stdout.as_str(), done.stderr.as_str(), done.status.code()),
            ("hello", "oops\n", Some(3))
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let mut command = Command::new("sleep");
        let late = bounded(command.arg("600"), "", Duration::from_millis(50)).unwrap_err();
        assert!(late.to_string().contains("has not ended"), "{late}");
    }
}
