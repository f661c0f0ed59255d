//! The clients: a request at a steady pace, a connection each, and what came back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http;

/// One request as the client saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// How long the answer took.
    pub(super) took: Duration,
    /// The status; 0 when there was no answer.
    pub(super) status: u16,
}

/// Clients that run until they are told to stop, or dropped.
#[derive(Debug)]
pub(super) struct Clients {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Seen>>>,
}

impl Clients {
    /// One client for each address, a request every `pace`.
    pub(super) fn start(addrs: &[SocketAddr], path: &'static str, pace: Duration) -> Self {
        let over = Arc::<AtomicBool>::default();
        let client = |addr: &SocketAddr| {
            let (addr, over) = (*addr, Arc::clone(&over));
            std::thread::spawn(move || ask_until(&over, addr, path, pace))
        };
        let threads = addrs.iter().map(client).collect();
        Self { over, threads }
    }

    /// Stops them; what each saw, in the order of the addresses.
    pub(super) fn stop(mut self) -> Vec<Vec<Seen>> {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).map(|thread| thread.join().unwrap_or_default()).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn ask_until(over: &AtomicBool, addr: SocketAddr, path: &str, pace: Duration) -> Vec<Seen> {
    let mut all = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let at = Instant::now();
        let answer = http::get(addr, path, Duration::from_secs(5)).ok();
        all.push(Seen { took: at.elapsed(), status: answer.as_ref().map_or(0, |answer| answer.status) });
        std::thread::sleep(pace.saturating_sub(at.elapsed()));
    }
    all
}
