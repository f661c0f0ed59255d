//! Starting a process that owes nothing to the one that started it: own session, and the user, groups, limits and
//! umask that it is meant to have; or one that ends with it. std sets the user but drops the groups, and knows neither
//! sessions nor limits nor how to end with another process.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgid, setgroups, setsid, setuid};

use super::proc::Credentials;

/// Lets the command start in a session of its own, away from our terminal, as the one `who` says.
pub fn detached<'a>(command: &'a mut Command, who: &Credentials) -> &'a mut Command {
    let who = who.clone();
    let groups: Vec<Gid> = who.groups.iter().copied().map(Gid::from_raw).collect();
    let become_it = move || -> io::Result<()> {
        setsid()?;
        if let Some((soft, hard)) = who.open_files {
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        }
        if nix::unistd::geteuid().is_root() {
            setgroups(&groups)?;
            setgid(Gid::from_raw(who.gid))?;
            setuid(Uid::from_raw(who.uid))?;
        }
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(who.umask));
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
    unsafe { command.pre_exec(become_it) }
}

/// Lets the command be told to end (SIGTERM) when the thread that starts it ends, be it by SIGKILL
/// (PR_SET_PDEATHSIG(2const)).
pub fn ended_with_us(command: &mut Command) -> &mut Command {
    let us = nix::unistd::getpid();
    let bind = move || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
        // Who started it may be gone already: then nothing would be told.
        if nix::unistd::getppid() == us { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
    unsafe { command.pre_exec(bind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::proc::Identity;

    #[test]
    fn a_detached_process_leads_its_own_session_with_the_limits_it_was_given() {
        let ours = Credentials::of(Identity::ours().unwrap().pid).unwrap();
        let who = Credentials { umask: 0o27, open_files: Some((64, 128)), ..ours };
        let mut command = Command::new("sh");
        command.args(["-c", "ps -o pid=,sid= $$; umask; ulimit -n; ulimit -Hn"]);
        let output = detached(&mut command, &who).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        assert_eq!(words[0], words[1]);
        assert_eq!(words[2..], ["0027", "64", "128"]);
    }
}
