//! Why there is no fault, or why one isn't over.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::fault::lease::record::RecordError;
use crate::nginx::master::{Reason, Rejected};

/// Each says what was tried, on what, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// Not root.
    #[error("a fault is root's to make and to end: run this with sudo")]
    NotRoot,
    /// A folder of ours can't be used.
    #[error("{}: {why}; a fault needs this folder to be root's and writable", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: io::Error,
    },
    /// A file of ours can't be used.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: io::Error,
    },
    /// The record can't be known or kept.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another fault is on record.
    #[error("a fault is active already: {0}; end it with `agent recover`")]
    Active(String),
    /// Another command is arming or ending a fault.
    #[error("another command has been starting or ending a fault for {} s; try again", .0.as_secs())]
    Busy(Duration),
    /// No nginx that could fail.
    #[error("no nginx found{}; start it, or name its configuration with --conf", reasons(.0))]
    NoNginx(Vec<Rejected>),
    /// More than one.
    #[error("several nginx run here, say which with --pid or --conf: {0}")]
    Several(String),
    /// nginx is already failing.
    #[error("nginx {pid} {what} at {at}: a fault is only for an nginx that is well, see its error log")]
    Unwell {
        /// Its master.
        pid: i32,
        /// Where it was asked.
        at: String,
        /// What came.
        what: String,
    },
    /// `/health` is failing already.
    #[error(
        "/health at {at} answers {status} already, see `agent status`: a fault is only for a target that is well"
    )]
    Unhealthy {
        /// Where it was asked.
        at: SocketAddr,
        /// What it said.
        status: u16,
    },
    /// It listens on nothing that could be asked.
    #[error(
        "nginx {pid} takes no connections, only {on}: whether it answers cannot be told; give it a listener on \
         127.0.0.1 for that"
    )]
    NoListener {
        /// Its master.
        pid: i32,
        /// Where it listens instead.
        on: String,
    },
    /// `[nginx] url` is somebody else's.
    #[error("`[nginx] url` is {url}, and nginx {pid} listens on {on}: set it to an address of this nginx")]
    Elsewhere {
        /// Its master.
        pid: i32,
        /// The setting.
        url: String,
        /// Its listeners.
        on: String,
    },
    /// What was named isn't an nginx master.
    #[error("{what}{}", instead(.others))]
    NotIt {
        /// What it is.
        what: String,
        /// Those that could be named.
        others: Vec<String>,
    },
    /// It is in no state to be made to fail.
    #[error("nginx {pid}: {why}")]
    Unsafe {
        /// Its master.
        pid: i32,
        /// Why.
        why: Reason,
    },
    /// It could not be started again.
    #[error("nginx {pid} could not be brought back: {because}; nothing was touched")]
    NoWayBack {
        /// Its master.
        pid: i32,
        /// Why.
        because: String,
    },
    /// It is the first process.
    #[error(
        "nginx is process 1 here: when it ends, this container or machine ends with it; use --mode hang, drop, reject \
         or error"
    )]
    First,
    /// Something else would start it again at once, or start it twice.
    #[error(
        "nginx {pid} stays in the foreground of {parent}, which may start it again at once or end with it: use a mode \
         that leaves it running (hang, drop, reject, error, unhealthy, slow), or --force"
    )]
    Supervised {
        /// Its master.
        pid: i32,
        /// Who started it.
        parent: String,
    },
    /// systemd would undo it.
    #[error(
        "{unit} has Restart={restart}: systemd would undo a crash at once; use --mode stop, or --force to see it do so"
    )]
    Undone {
        /// The unit.
        unit: String,
        /// The setting.
        restart: String,
    },
    /// How it was started can't be told.
    #[error("nginx {pid}: {reason}")]
    Unknown {
        /// Its master.
        pid: i32,
        /// Why.
        reason: String,
    },
    /// The kernel, or what this process may, lacks what the mode needs.
    #[error("--mode {mode} is not possible here: {what}; other modes may be")]
    Missing {
        /// The mode.
        mode: &'static str,
        /// What is missing.
        what: String,
    },
    /// A debugger is at it.
    #[error("nginx {pid} is being traced by process {tracer}: end that one first")]
    Traced {
        /// Its master or a worker.
        pid: i32,
        /// Who.
        tracer: i32,
    },
    /// Longer than allowed.
    #[error("{} s is longer than {} s: add --force if the outage is meant to last that long", .0.as_secs(), super::MAX.as_secs())]
    TooLong(Duration),
    /// The lease can't be armed.
    #[error("the keeper that would end the fault could not be started: {0}; nothing was touched")]
    Lease(String),
    /// The fault can't be injected.
    #[error("{what}: {why}")]
    Inject {
        /// What was tried.
        what: String,
        /// What the system said.
        why: io::Error,
    },
    /// It isn't over.
    #[error("not recovered: {0}; the fault stays on record and is tried again, see `agent recover`")]
    NotRecovered(String),
    /// Nothing can be started any more, and nothing is to be begun.
    #[error("this machine is being shut down: what is on record ends when it is up again")]
    GoingDown,
    /// Waiting failed.
    #[error("waiting for the deadline: {0}")]
    Wait(io::Error),
}

impl FaultError {
    /// Whether it was refused because unsafe; otherwise it can't be done or told.
    pub fn is_refusal(&self) -> bool {
        use FaultError::{
            Active, First, NoWayBack, Several, Supervised, TooLong, Traced, Undone, Unhealthy, Unsafe, Unwell,
        };
        matches!(
            self,
            Active(_)
                | First
                | NoWayBack { .. }
                | Several(_)
                | Supervised { .. }
                | TooLong(_)
                | Traced { .. }
                | Undone { .. }
                | Unhealthy { .. }
                | Unsafe { .. }
                | Unwell { .. }
        )
    }
}

fn reasons(rejected: &[Rejected]) -> String {
    let each: Vec<String> = rejected.iter().map(|r| format!("{}: {}", r.pid, r.why)).collect();
    if each.is_empty() { String::new() } else { format!(" that may be touched ({})", each.join("; ")) }
}

fn instead(others: &[String]) -> String {
    match others {
        [] => "; no nginx runs here that may be touched".into(),
        others => format!("; running here: {}", others.join(", ")),
    }
}
