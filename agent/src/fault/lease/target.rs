//! The nginx that fails: what it takes to know it again, and to start it again as it was.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::nginx::answer::{Answer, Endpoint};
use crate::sys::attributes::Attributes;
use crate::sys::listening::Listening;
use crate::sys::proc::{Credentials, Exe, Identity};

/// An nginx as it was before the fault: what it takes to know it again, and to start it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its master.
    pub master: Identity,
    /// What it ran.
    pub exe: Exe,
    /// Its arguments, without the program's name.
    pub args: Vec<String>,
    /// The folder it was started in.
    pub cwd: PathBuf,
    /// Its configuration.
    pub conf: PathBuf,
    /// The file that names its master.
    pub pid_file: PathBuf,
    /// Who it was to the kernel.
    pub credentials: Credentials,
    /// Whether it stays with the process that starts it.
    pub foreground: bool,
    /// Where it answers.
    pub endpoint: Endpoint,
    /// What it is asked for there.
    #[serde(default = "root")]
    pub path: String,
    /// The systemd unit that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Where it takes connections from other machines.
    #[serde(default)]
    pub listens: Vec<SocketAddr>,
    /// The inodes of its sockets; whoever runs the same file and holds one of them descends from it.
    pub sockets: BTreeSet<u64>,
    /// The program's name, as it was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it had from whoever started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Attributes>,
    /// All that the kernel said of where it could be reached.
    #[serde(default)]
    pub listening: Listening,
    /// How it spoke at each TCP address, and what it answered there.
    #[serde(default)]
    pub answers: Vec<Answered>,
    /// The users of its workers: what they leave behind is theirs.
    #[serde(default)]
    pub workers: BTreeSet<u32>,
    /// The units that systemd stops with its unit, and that were active.
    #[serde(default)]
    pub dependents: Vec<String>,
}

fn root() -> String {
    "/".to_owned()
}

/// What an address of nginx answered before the fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Where it was asked, and how.
    pub endpoint: Endpoint,
    /// What came.
    pub was: Kind,
}

/// The kinds of answers that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// nginx answered with a status.
    Status,
    /// It answered by closing what it had read (`return 444`), or it refused the handshake.
    Closed,
    /// It takes connections, and says nothing that is HTTP: a stream.
    Other,
    /// Nobody takes connections there that could be seen from here.
    Nothing,
}

impl Kind {
    /// Of an answer.
    pub(in crate::fault) fn of(answer: Answer) -> Self {
        match answer {
            Answer::Status(_) => Self::Status,
            Answer::NoStatus => Self::Closed,
            Answer::Cut | Answer::Silent => Self::Other,
            Answer::Refused => Self::Nothing,
        }
    }
}

impl Target {
    /// What still holds after a reboot: pids, starts and inodes name others now.
    pub(in crate::fault) fn of_another_boot(self) -> Self {
        // What a unit gives its processes now, it gives them; nobody's nginx is otherwise for having been rebooted.
        let attributes = self.attributes.filter(|_| self.unit.is_none());
        Self { master: Identity { pid: 0, start_ticks: 0 }, sockets: BTreeSet::new(), attributes, ..self }
    }
}
