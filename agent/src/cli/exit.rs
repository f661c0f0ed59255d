//! Exit codes, and how an error reaches people and programs.

use std::process::ExitCode;

use crate::cli::output::Output;
use crate::cli::schema::ErrorEvent;

/// What the exit code of a verb says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Yes, or done.
    Done,
    /// No: not confirmed, unhealthy, the load not reached, no effect, recovery not verified.
    No,
    /// Wrong usage or configuration.
    Usage,
    /// Cannot tell: no log, no nginx found, not permitted, too little data.
    CannotTell,
    /// Refused because unsafe.
    Refused,
    /// Ended by this signal, after cleaning up.
    Signal(i32),
}

impl Exit {
    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::CannotTell => 3,
            Self::Refused => 4,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// An error on its way out: what to tell, and the exit code.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// Ends the program with `exit`, telling `error`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// An error whose exit code isn't known better: the agent could not tell.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::CannotTell, error)
    }
}

/// Says which exit code an error of a room stands for.
pub trait OrExit<T> {
    /// # Errors
    /// The same error, with its exit code.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|e| Failure::new(exit, e))
    }
}

/// Tells a failure and gives the exit code.
pub(super) fn code(result: Result<Exit, Failure>, json: bool) -> ExitCode {
    let exit = result.unwrap_or_else(|Failure { exit, error }| {
        let message = told_once(&error);
        let mut out = Output::new(json);
        out.event(&ErrorEvent { event: "error", exit: exit.number(), message: &message });
        out.note(&format!("agent: {message}"));
        exit
    });
    ExitCode::from(exit.number())
}

/// An error and its causes in one line. A cause that the text before it tells already isn't told again.
fn told_once(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error =
            anyhow::anyhow!("No such file").context("cannot read /x: No such file").context("no settings");
        assert_eq!(told_once(&error), "no settings: cannot read /x: No such file");
    }
}
