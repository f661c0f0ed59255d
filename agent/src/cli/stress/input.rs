//! What a run reads before it starts: the profile, and who and where it is.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context;

use crate::cli::exit::OrExit;
use crate::cli::{Exit, Failure};
use crate::identity;
use crate::stress::curve::Curve;
use crate::sys::sigwait::Signals;
use crate::sys::thread;

/// A day of seconds and percentages fits.
const MAX_PROFILE_BYTES: u64 = 4 << 20;
/// Who reads it needs no more stack.
const STACK_BYTES: usize = 256 << 10;
/// How long the metadata service may take; it is asked once.
const IMDS_LIMIT: Duration = Duration::from_secs(5);

/// A profile, or the signal that came while it was read: a FIFO may never have a writer, and stdin nobody who types.
///
/// # Errors
/// Exit 2 for a profile that can't be read or followed, exit 3 where the host allows no thread.
pub(super) fn profile(path: &Path, signals: &Signals) -> Result<Result<Curve, i32>, Failure> {
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    let (ours, theirs) = UnixStream::pair().context("cannot wait for the profile")?;
    let (sender, text) = channel();
    let from = path.to_owned();
    let work = move || {
        let _ = sender.send(read(&from));
        drop(theirs);
    };
    thread::spawn(STACK_BYTES, Box::new(work)).context("cannot start a thread that reads the profile")?;
    loop {
        match signals.wait_beside(ours.as_fd()).context("cannot wait for signals")? {
            Some(libc::SIGCONT) => {}
            Some(signal) => return Ok(Err(signal)),
            None => break,
        }
    }
    let text = text.recv().context("cannot read the profile")?;
    let text = text.with_context(|| format!("cannot read the profile {name}")).or_exit(Exit::Usage)?;
    Curve::parse(&text).with_context(|| format!("profile {name}")).or_exit(Exit::Usage).map(Ok)
}

fn read(path: &PathBuf) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let limit = MAX_PROFILE_BYTES + 1;
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > MAX_PROFILE_BYTES {
        return Err(std::io::Error::other(format!("it has more than {} MiB", MAX_PROFILE_BYTES >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8 text"))
}

/// The instance's type. Asked on a thread of its own, and only once the hypervisor withholds time, or to explain: no run
/// needs a runtime before.
pub(super) fn instance_type(settings: identity::Settings) -> Option<String> {
    let ask = async {
        let mut identity = identity::watch(settings);
        let known = identity.wait_for(|now| now.source != identity::Source::Unknown);
        let now = tokio::time::timeout(IMDS_LIMIT, known).await.ok()?.ok()?.clone();
        (now.source == identity::Source::Imds).then_some(now.kind)
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?.block_on(ask)
}

/// Who started this, as far as the environment and the user database tell.
pub(super) fn who() -> String {
    let uid = nix::unistd::getuid();
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| uid.is_root() && !name.is_empty());
    let user = || Some(nix::unistd::User::from_uid(uid).ok()??.name);
    sudo.or_else(user)
        .unwrap_or_else(|| format!("uid {uid}"))
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect()
}
