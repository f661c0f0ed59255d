//! Probes that arrive at the agent's own listener: handed over by a thread that must never wait.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::event::{EventfdFlags, eventfd};

use crate::probes::follow::now_ms;

/// Far more than come in the time between two looks.
const QUEUE: usize = 1024;
/// As much of a path as tells target groups apart.
const PATH: usize = 64;

/// A probe that was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) node: IpAddr,
    pub(super) status: u16,
    pub(super) at_ms: i64,
    path: [u8; PATH],
    len: usize,
}

impl Seen {
    pub(super) fn path(&self) -> &[u8] {
        self.path.get(..self.len).unwrap_or_default()
    }
}

/// Hands probes to the watcher.
#[derive(Debug, Clone)]
pub struct Direct {
    queue: SyncSender<Seen>,
    dropped: Arc<AtomicU64>,
    wake: Arc<Wake>,
}

impl Direct {
    pub(super) fn new(wake: Arc<Wake>) -> (Self, Receiver<Seen>) {
        let (queue, seen) = sync_channel(QUEUE);
        (Self { queue, dropped: Arc::default(), wake }, seen)
    }

    /// A probe of the load balancer (the caller has checked the User-Agent) was answered with `status`. Never waits
    /// and allocates nothing; what finds the queue full is only counted. Requests from this machine itself are no
    /// probes: nginx proxies them, and has logged them.
    pub fn seen(&self, node: IpAddr, path: &str, status: u16) {
        let node = node.to_canonical();
        if node == Ipv4Addr::LOCALHOST || node == Ipv6Addr::LOCALHOST {
            return;
        }
        let mut seen = Seen { node, status, at_ms: now_ms(), path: [0; PATH], len: path.len().min(PATH) };
        seen.path.iter_mut().zip(path.bytes()).for_each(|(to, from)| *to = from);
        match self.queue.try_send(seen) {
            Ok(()) => self.wake.wake(),
            Err(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Wakes the watcher from its wait: one system call for any number of probes between two looks.
#[derive(Debug)]
pub(super) struct Wake {
    fd: OwnedFd,
    pending: AtomicBool,
    over: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd, pending: AtomicBool::new(false), over: AtomicBool::new(false) })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        }
    }

    /// Makes the watcher end.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.pending.store(false, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Before the queue is emptied: who comes from now on wakes again.
    pub(super) fn clear(&self, woken: bool) {
        if woken {
            let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
            self.pending.store(false, Ordering::Release);
        }
    }
}
