//! What every drill begins with: whom to ask, the signals that end it, and the addresses of the name.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;

use super::ends::DESCRIPTORS;
use crate::cli::exit::OrExit;
use crate::cli::{Exit, Failure};
use crate::drill::client::names;
use crate::drill::client::target::Target;
use crate::drill::client::tls::Tls;
use crate::drill::schedule::signals::SignalStream;
use crate::sys::limit::raise_descriptors;
use crate::sys::sigwait::Signals;

/// Whom to ask, and how to trust it.
pub(super) fn target(
    url: &str,
    host: Option<&str>,
    instead: &[IpAddr],
) -> Result<(Target, Option<Tls>), Failure> {
    let mut target = Target::parse(url, host).or_exit(Exit::Usage)?;
    target.instead = instead.to_vec();
    let tls = target.tls.then(|| Tls::new(&target.certificate_name()));
    Ok((target, tls.transpose().or_exit(Exit::CannotTell)?))
}

/// Runs a drill of `target` with the addresses that its name has now.
pub(super) fn run(
    signals: Signals,
    target: &Target,
    drill: impl AsyncFnOnce(&SignalStream, Vec<SocketAddr>) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    raise_descriptors(DESCRIPTORS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    runtime.block_on(async {
        let signals = SignalStream::new(signals).context("cannot wait for signals")?;
        let first = tokio::select! {
            first = names::resolve(target) => first,
            signal = signals.next() => return Ok(Exit::Signal(signal)),
        };
        let first =
            first.with_context(|| format!("cannot resolve {}", target.name)).or_exit(Exit::CannotTell)?;
        drill(&signals, first).await
    })
}
