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
        // A cause that the text before it tells is no source of its error (see the test).
        let message = format!("{error:#}");
        let mut out = Output::new(json);
        out.event(&ErrorEvent { event: "error", exit: exit.number(), message: &message });
        out.note(&format!("agent: {message}"));
        exit
    });
    ExitCode::from(exit.number())
}

#[cfg(test)]
mod tests {
    /// What the system said, told by every error that has such a cause.
    fn cause() -> std::io::Error {
        std::io::Error::other("CAUSE")
    }

    #[test]
    fn every_error_tells_its_cause_once() {
        use crate::access_log::balancer::BalancerError;
        use crate::access_log::locate::LocateError;
        use crate::config::ConfigError;
        use crate::drill::schedule::run::DrillError;
        use crate::fault::FaultError as F;
        use crate::fault::record::RecordError as R;
        use crate::nginx::conf::ConfError;
        use crate::serve::ServeError;
        use crate::stress::run::StressError;
        let path = || std::path::PathBuf::from("/x");
        let conf = || ConfError::Read { path: path(), included: String::new(), why: cause() };
        let inject = || F::Inject { what: "stop".into(), why: cause() };
        let parse = serde_json::Error::io(cause());
        let errors: Vec<anyhow::Error> = vec![
            F::Folder { path: path(), why: cause() }.into(),
            F::File { path: path(), why: cause() }.into(),
            F::Record(R::Read { path: path(), why: cause() }).into(),
            F::Record(R::Write { path: path(), why: cause() }).into(),
            F::Record(R::Parse { path: path(), why: parse }).into(),
            inject().into(),
            F::Wait(cause()).into(),
            F::Lease(cause().to_string()).into(),
            F::NotRecovered(cause().to_string()).into(),
            ServeError::Bind { key: "serve.listen", addr: ([127, 0, 0, 1], 80).into(), why: cause() }.into(),
            ServeError::System { what: "start", why: cause() }.into(),
            DrillError::System { what: "start", why: cause() }.into(),
            DrillError::Fault(inject()).into(),
            BalancerError::Read { path: path(), why: cause() }.into(),
            conf().into(),
            LocateError::from(conf()).into(),
            ConfigError::Read { path: path(), source: cause() }.into(),
            StressError::Stat(cause()).into(),
            StressError::Threads { workers: 1, why: cause() }.into(),
            StressError::Signals(cause()).into(),
            crate::cli::told::failure(inject()).error,
            anyhow::Error::from(cause()).context("cannot write"),
        ];
        for error in errors {
            let told = format!("{error:#}");
            assert_eq!(told.matches("CAUSE").count(), 1, "{told}");
        }
    }
}
