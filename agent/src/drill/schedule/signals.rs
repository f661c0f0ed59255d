//! The signals that end a drill, waited for among everything else.

use std::io;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::sys::sigwait::Signals;

/// Signals, in a runtime.
#[derive(Debug)]
pub struct SignalStream(Mutex<UnboundedReceiver<i32>>);

impl SignalStream {
    /// Waits for them in a thread that ends with the process. The thread of a fault waits for the same ones: whichever
    /// gets a signal, it ends the fault and the drill.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn new(signals: Signals) -> io::Result<Self> {
        let (tell, told) = unbounded_channel();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            loop {
                match signals.wait(Duration::from_secs(3600)) {
                    Ok(None) => {}
                    Ok(Some(signal)) if tell.send(signal).is_ok() => {}
                    Ok(Some(_)) | Err(_) => return,
                }
            }
        })?;
        Ok(Self(Mutex::new(told)))
    }

    /// The next signal.
    pub async fn next(&self) -> i32 {
        match self.0.lock().await.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}
