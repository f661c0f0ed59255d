//! One connection of a client that may be hostile: a deadline for each of its phases, and a place in the register
//! that it can lose. hyper's own header timer can't serve here, as it also runs while a kept connection is idle.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use super::counters::Counters;
use super::wrong::Kind;

/// From the first byte of a request, or from the connection, to the end of its headers; also how long an answer may
/// wait for a client that doesn't read. With the second that a silent connection waits in the kernel (see
/// `front::DEFER`) a half-open client is cut after 5 s.
const HEAD_LIMIT: Duration = Duration::from_secs(4);
/// How long a kept connection may be idle: over the 60 s after which the load balancer closes it from its side
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html>).
const IDLE_LIMIT: Duration = Duration::from_secs(75);

/// How much is read from a socket that isn't registered; a probe's request has some hundred bytes.
const FIRST_READ: usize = 1024;

/// What the client is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing yet: we have not looked at what it sent.
    New,
    /// Send the rest of a request.
    Head,
    /// Wait: it is our turn.
    Serving,
    /// Whatever it likes.
    Idle,
}

/// What a connection, its service and the register share; all on one thread.
#[derive(Debug)]
pub(super) struct Life {
    pub phase: Cell<Phase>,
    /// Requests so far.
    pub requests: Cell<u32>,
    /// What is wrong with this client is counted already.
    pub known_wrong: Cell<bool>,
    /// Since when an answer has waited for a client that doesn't read, or reads little.
    blocked: Cell<Option<Instant>>,
    deadline: Cell<Instant>,
    read_at: Cell<Instant>,
}

impl Life {
    pub(super) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::New),
            requests: Cell::new(0),
            known_wrong: Cell::new(false),
            blocked: Cell::new(None),
            deadline: Cell::new(now + HEAD_LIMIT),
            read_at: Cell::new(now),
        })
    }

    /// How little right it has to stay where there is no room, and since when: one that doesn't read its answer comes
    /// first, then one that owes us a request, then one that is idle. `None` for one that waits for us.
    fn owes(&self) -> Option<(u8, Instant)> {
        match (self.blocked.get(), self.phase.get()) {
            (Some(since), _) => Some((0, since)),
            (None, Phase::Head) => Some((1, self.read_at.get())),
            (None, Phase::Idle) => Some((2, self.read_at.get())),
            (None, Phase::New | Phase::Serving) => None,
        }
    }

    /// When the last bytes came.
    pub(super) fn read_at(&self) -> Instant {
        self.read_at.get()
    }
}

/// A socket that is made known to the runtime only once it lets us wait. The request of a probe is already there when
/// it is accepted, so that most probes never cost a registration.
enum Stream {
    /// Not known to the runtime.
    Bare(std::net::TcpStream),
    /// Waited for.
    Registered(TcpStream),
    /// Could not be registered.
    Broken,
}

impl Stream {
    /// What `done` does to the bare socket, or `None` when it would block, and is registered from now on.
    fn try_bare<T>(
        &mut self,
        mut done: impl FnMut(&mut std::net::TcpStream) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let Self::Bare(bare) = self else { return None };
        loop {
            match done(bare) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                result => return Some(result),
            }
        }
        let Self::Bare(bare) = std::mem::replace(self, Self::Broken) else { return None };
        match TcpStream::from_std(bare) {
            Ok(registered) => {
                *self = Self::Registered(registered);
                None
            }
            Err(e) => Some(Err(e)),
        }
    }

    fn registered(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match self {
            Self::Registered(stream) => Ok(Pin::new(stream)),
            Self::Bare(_) | Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; FIRST_READ];
        let most = chunk.len().min(buf.remaining());
        match self.try_bare(|bare| bare.read(&mut chunk[..most])) {
            Some(result) => Poll::Ready(result.map(|n| buf.put_slice(&chunk[..n]))),
            None => self.registered()?.poll_read(cx, buf),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.try_bare(|bare| bare.write_vectored(slices)) {
            Some(result) => Poll::Ready(result),
            None => self.registered()?.poll_write_vectored(cx, slices),
        }
    }
}

/// The stream with its deadlines.
pub(super) struct Guarded {
    stream: Stream,
    life: Rc<Life>,
    counters: Arc<Counters>,
    peer: IpAddr,
    /// Made when the client first lets us wait; most probes never do.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// Guards a socket that doesn't block.
    pub(super) fn new(
        stream: std::net::TcpStream,
        life: Rc<Life>,
        counters: Arc<Counters>,
        peer: IpAddr,
    ) -> Self {
        Self { stream: Stream::Bare(stream), life, counters, peer, timer: None }
    }

    /// Waits for the deadline; fails once it has passed. A deadline that moved on costs nothing until the timer ends
    /// and is set again.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let deadline = self.life.deadline.get().into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        if timer.deadline() < deadline {
            timer.as_mut().reset(deadline);
            ready!(timer.as_mut().poll(cx));
        }
        self.counters.timed_out.fetch_add(1, Relaxed);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Counts clients that speak another protocol.
    fn first_bytes(&self, bytes: &[u8]) {
        if let Some(kind) = Kind::of_first_bytes(bytes) {
            self.life.known_wrong.set(true);
            self.counters.wrong.count(kind, self.peer, || None);
        }
    }

    fn written(&self) {
        self.life.blocked.set(None);
        let now = Instant::now();
        if self.life.phase.get() == Phase::Idle {
            // A stream of events: who still takes them is there.
            self.life.deadline.set(now + IDLE_LIMIT);
        }
        if self.life.phase.get() == Phase::Serving {
            self.counters.took(now - self.life.read_at.get());
            self.life.phase.set(Phase::Idle);
            self.life.deadline.set(now + IDLE_LIMIT);
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match self.stream.poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                let life = &self.life;
                if life.phase.get() == Phase::New {
                    self.first_bytes(buf.filled().get(before..).unwrap_or_default());
                }
                if life.phase.get() != Phase::Serving {
                    let now = Instant::now();
                    life.read_at.set(now);
                    if life.phase.replace(Phase::Head) == Phase::Idle {
                        life.deadline.set(now + HEAD_LIMIT);
                    }
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if self.life.phase.get() != Phase::Serving => {
                if self.life.phase.get() == Phase::New {
                    self.life.phase.set(Phase::Head);
                }
                self.poll_deadline(cx).map(Err)
            }
            other => other,
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.stream.poll_write_vectored(cx, slices) {
            Poll::Ready(result) => {
                self.written();
                Poll::Ready(result)
            }
            // The client doesn't read what it asked for; the deadline of its request goes on.
            Poll::Pending => {
                if self.life.blocked.get().is_none() {
                    self.life.blocked.set(Some(Instant::now()));
                }
                self.life.deadline.set(self.life.read_at.get() + HEAD_LIMIT);
                self.poll_deadline(cx).map(Err)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: what is written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing: the connection is closed right behind this, and close(2) says goodbye just as well.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The connections that are open, oldest first.
#[derive(Debug, Default)]
pub(super) struct Register {
    open: RefCell<BTreeMap<u64, (Rc<Life>, AbortHandle)>>,
    next: Cell<u64>,
}

impl Register {
    pub(super) fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// The number that the next connection gets.
    pub(super) fn draw(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    pub(super) fn enter(&self, id: u64, life: Rc<Life>, task: AbortHandle) {
        self.open.borrow_mut().insert(id, (life, task));
    }

    pub(super) fn leave(&self, id: u64) {
        self.open.borrow_mut().remove(&id);
    }

    /// Closes the connection that has the least right to stay, see [`Life::owes`]. One that waits for us is never
    /// closed, nor is one whose first bytes we have not looked for: a probe that just came stays.
    pub(super) fn evict(&self) -> bool {
        let victim = {
            let open = self.open.borrow();
            let owing = open.iter().filter_map(|(id, (life, _))| Some((life.owes()?, *id)));
            owing.min().map(|(_, id)| id)
        };
        victim.and_then(|id| self.open.borrow_mut().remove(&id)).map(|(_, task)| task.abort()).is_some()
    }

    /// Whether any connection could make room.
    pub(super) fn has_debtor(&self) -> bool {
        self.open.borrow().values().any(|(life, _)| life.owes().is_some())
    }

    /// Closes all that are idle.
    pub(super) fn close_idle(&self) {
        self.open.borrow_mut().retain(|_, (life, task)| {
            let idle = life.phase.get() == Phase::Idle;
            if idle {
                task.abort();
            }
            !idle
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(register: &Register, phase: Phase, blocked: Option<Instant>, at: Instant) -> u64 {
        let life = Life::new(at);
        life.phase.set(phase);
        life.blocked.set(blocked);
        let id = register.draw();
        let task = tokio::task::spawn_local(std::future::pending::<()>());
        register.enter(id, life, task.abort_handle());
        id
    }

    #[tokio::test(flavor = "local")]
    async fn who_owes_progress_makes_room_and_who_just_came_never_does() {
        let register = Register::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let new = entered(&register, Phase::New, None, at(0));
        let serving = entered(&register, Phase::Serving, None, at(1));
        let idle = entered(&register, Phase::Idle, None, at(2));
        let late_head = entered(&register, Phase::Head, None, at(4));
        let head = entered(&register, Phase::Head, None, at(3));
        let blocked = entered(&register, Phase::Serving, Some(at(9)), at(5));
        let mut order = Vec::new();
        while register.evict() {
            let open: Vec<u64> = register.open.borrow().keys().copied().collect();
            order.extend(
                [blocked, head, late_head, idle]
                    .iter()
                    .filter(|id| !open.contains(id) && !order.contains(*id))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(order, [blocked, head, late_head, idle]);
        assert_eq!(register.open.borrow().keys().copied().collect::<Vec<_>>(), [new, serving]);
    }
}
