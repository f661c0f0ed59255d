//! The signals that end or stop the view.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Failure;

/// The signals that end or stop the view.
pub(super) struct Signals(Vec<(i32, tokio::signal::unix::Signal)>);

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        let all = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGTSTP, libc::SIGCONT];
        let caught = all.map(|number| Ok((number, signal(SignalKind::from_raw(number))?)));
        let caught: std::io::Result<Vec<_>> = caught.into_iter().collect();
        Ok(Self(caught.context("cannot wait for signals")?))
    }

    /// The next one's number.
    pub(super) async fn next(&mut self) -> i32 {
        std::future::poll_fn(|cx| {
            let ready = self.0.iter_mut().find_map(|(number, signal)| {
                matches!(signal.poll_recv(cx), std::task::Poll::Ready(Some(()))).then_some(*number)
            });
            ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }
}
