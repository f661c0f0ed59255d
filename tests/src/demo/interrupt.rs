//! SIGINT, SIGTERM and SIGHUP end the story at the next wait; what was built is then taken down in order.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::background::Background;

/// A signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interrupted(pub(super) i32);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted by signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Watches for signals.
#[derive(Debug)]
pub(super) struct Interrupt {
    caught: Arc<(Mutex<Option<i32>>, Condvar)>,
    _background: Background,
}

impl Interrupt {
    pub(super) fn watch() -> anyhow::Result<Self> {
        let caught = Arc::<(Mutex<Option<i32>>, Condvar)>::default();
        let background = Background::start("signals")?;
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let _entered = background.handle().enter();
            let mut signals = signal(kind).context("a signal handler")?;
            let caught = Arc::clone(&caught);
            background.spawn(async move {
                while signals.recv().await.is_some() {
                    let (number, came) = &*caught;
                    number.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(kind.as_raw_value());
                    came.notify_all();
                }
            });
        }
        Ok(Self { caught, _background: background })
    }

    /// Waits that long.
    pub(super) fn pause(&self, limit: Duration) -> Result<(), Interrupted> {
        let (number, came) = &*self.caught;
        let number = number.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, _) = came
            .wait_timeout_while(number, limit, |number| number.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        number.map_or(Ok(()), |number| Err(Interrupted(number)))
    }

    /// Whether to go on.
    pub(super) fn check(&self) -> Result<(), Interrupted> {
        self.pause(Duration::ZERO)
    }
}
