//! The accept loop: hands connections to hyper and bounds what clients can take from us.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::connection::{Guarded, Life, Phase, Register};
use super::counters::Counters;
use super::flood::{Flood, WINDOW};
use super::wrong::Kind;
use crate::sys::sched::{self, Policy};
use crate::sys::socket::{defer_accept, wait_for};

/// A silent connection waits in the kernel for about this long, and one whose request is already there costs one
/// wake-up less (TCP_DEFER_ACCEPT, tcp(7)).
pub(super) const DEFER: Duration = Duration::from_secs(1);
/// Connections that wait for the accept loop (the kernel's limit, somaxconn, is 4096 by default).
const BACKLOG: u32 = 4096;
/// After so many requests a connection is closed, so that no client holds on for ever.
const MAX_REQUESTS: u32 = 1000;
/// Headers of a request; hyper takes no less room than 8 KiB for them.
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 8 << 10;
/// That connections can't be taken is told so often at most.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// How long the last answers may take once no new connection is taken.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Binds an address as the listeners want it.
///
/// # Errors
/// When the address is in use, foreign, or not permitted.
pub(super) fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket_with, sockopt};
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &addr)?;
    let _ = defer_accept(&socket, DEFER); // a saving, not a need
    listen(&socket, BACKLOG as i32)?;
    Ok(socket.into())
}

/// What one listener serves and within which bounds.
pub(super) struct Front<S> {
    pub service: S,
    pub max_connections: usize,
    pub counters: Arc<Counters>,
    /// Real-time priority, and giving it up in a flood.
    pub realtime: bool,
}

/// Something that answers a request of a peer.
pub(super) trait Answering: Clone + 'static {
    fn answer(
        &self,
        peer: IpAddr,
        request: Request<hyper::body::Incoming>,
    ) -> impl Future<Output = Response> + 'static;
    /// Whether kept connections shall end with their next answer.
    fn is_closing(&self) -> bool;
}

/// What the connections of one thread share.
struct Shared<S> {
    front: Front<S>,
    http: http1::Builder,
    register: Register,
    flood: RefCell<Flood>,
}

/// Serves until `stop` turns true, then finishes what is in flight. Runs in a `LocalRuntime`.
///
/// # Errors
/// When the listener can't be registered with the runtime.
pub(super) async fn serve<S: Answering>(
    listener: TcpListener,
    front: Front<S>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = wait_for(listener)?;
    let flood = RefCell::new(Flood::new(Instant::now(), thread_cpu()));
    let mut http = http1::Builder::new();
    http.half_close(true).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    let shared = Rc::new(Shared { front, http, register: Register::default(), flood });
    if shared.front.realtime {
        shared.set_realtime(true);
    }
    let stopped = stop.wait_for(|stop| *stop);
    tokio::pin!(stopped);
    let mut complained: Option<Instant> = None;
    loop {
        // A flood gets a share of the CPU, and its end is looked for though no connection comes.
        let pause = shared.pause();
        if let Some(left) = pause {
            sleep(left).await;
            shared.measure(Instant::now());
        }
        shared.make_room().await;
        tokio::select! {
            biased;
            accepted = accept(&listener) => match accepted {
                Ok((stream, peer)) => {
                    shared.measure(Instant::now());
                    shared.clone().take(stream, peer);
                }
                // Out of descriptors: make room, and let the tasks run that close them.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => {
                    if complained.is_none_or(|at| at.elapsed() > COMPLAIN_EVERY) {
                        complained = Some(Instant::now());
                        tracing::warn!("cannot take a connection: {e}");
                    }
                    if shared.register.evict() {
                        shared.front.counters.evicted.fetch_add(1, Relaxed);
                    }
                    sleep(Duration::from_millis(10)).await;
                }
                // The client was gone before we came.
                Err(_) => {}
            },
            () = shared.flood_window() => shared.measure(Instant::now()),
            _ = &mut stopped => break,
        }
    }
    drop(listener);
    let _ = timeout(LAST_ANSWERS, async {
        loop {
            shared.register.close_idle();
            if shared.register.len() == 0 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Ok(())
}

/// The next connection; its socket doesn't block and isn't registered with the runtime.
async fn accept(listener: &AsyncFd<TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    loop {
        let mut ready = listener.readable().await?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match ready.try_io(|listener| Ok(acceptfrom_with(listener, flags)?)) {
            Ok(accepted) => {
                let (socket, peer) = accepted?;
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                return peer
                    .map(|peer| (socket.into(), peer))
                    .ok_or_else(|| std::io::ErrorKind::NotConnected.into());
            }
            Err(_would_block) => {}
        }
    }
}

impl<S: Answering> Shared<S> {
    /// Where all places are taken by connections that we have not looked at yet, lets their tasks look first.
    async fn make_room(&self) {
        let full = || self.register.len() >= self.front.max_connections && !self.register.has_debtor();
        for _ in 0..2 {
            if !full() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn pause(&self) -> Option<Duration> {
        let mut flood = self.flood.borrow_mut();
        if flood.is_on() { flood.pause(Instant::now(), thread_cpu()) } else { None }
    }

    fn take(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let counters = &self.front.counters;
        counters.accepted.fetch_add(1, Relaxed);
        if self.register.len() >= self.front.max_connections {
            if !self.register.evict() {
                counters.refused.fetch_add(1, Relaxed);
                return; // every one is being served: the newest has to try again
            }
            counters.evicted.fetch_add(1, Relaxed);
        }
        let id = self.register.draw();
        let life = Life::new(Instant::now());
        let peer = peer.ip().to_canonical();
        let task = tokio::task::spawn_local(self.clone().connection(stream, peer, id, life.clone()));
        self.register.enter(id, life, task.abort_handle());
    }

    async fn connection(self: Rc<Self>, stream: TcpStream, peer: IpAddr, id: u64, life: Rc<Life>) {
        let _place = Place { shared: &self, id };
        self.front.counters.open.fetch_add(1, Relaxed);
        let guarded = Guarded::new(stream, life.clone(), self.front.counters.clone(), peer);
        let service = service_fn(|request| {
            life.phase.set(Phase::Serving);
            life.requests.set(life.requests.get() + 1);
            self.measure(life.read_at());
            let answer = self.front.service.answer(peer, request);
            let (life, shared) = (&life, &self);
            async move {
                let mut answer = answer.await;
                shared.front.counters.answered(answer.status().as_u16());
                if shared.is_last(life) {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        // An error is the client's: it left, was too slow, or sent no HTTP (and was told so).
        let result = self.http.serve_connection(TokioIo::new(guarded), service).await;
        if !life.known_wrong.get()
            && let Some(kind) = what_was_wrong(result.err().as_ref(), &life)
        {
            self.front.counters.wrong.count(kind, peer, || None);
        }
    }

    /// Whether a connection ends with the answer that it gets now.
    fn is_last(&self, life: &Life) -> bool {
        life.requests.get() >= MAX_REQUESTS || self.flood.borrow().is_on() || self.front.service.is_closing()
    }

    /// Ends with the next look at a flood; never while there is none.
    async fn flood_window(&self) {
        let is_on = self.flood.borrow().is_on();
        if is_on { sleep(WINDOW).await } else { std::future::pending().await }
    }

    /// Looks whether a flood began or ended.
    fn measure(&self, now: Instant) {
        let mut flood = self.flood.borrow_mut();
        if !flood.is_due(now) {
            return;
        }
        if let Some(began) = flood.measure(now, thread_cpu()) {
            if began {
                self.front.counters.floods.fetch_add(1, Relaxed);
                tracing::warn!("a flood of requests: bounded, at normal priority, until it is over");
            } else {
                tracing::info!("the flood is over");
            }
            if self.front.realtime {
                self.set_realtime(!began);
            }
        }
    }

    fn set_realtime(&self, on: bool) {
        let policy = if on { Policy::RealTime } else { Policy::Normal };
        match sched::set_current_thread(policy) {
            Ok(()) => self.front.counters.realtime.store(on, Relaxed),
            Err(e) if on => {
                self.front.counters.realtime.store(false, Relaxed);
                tracing::warn!("no real-time priority ({e}): a busy machine may delay the answers to probes");
            }
            Err(e) => tracing::error!("cannot give up real-time priority: {e}"),
        }
    }
}

/// What a connection's end says of its client.
fn what_was_wrong(error: Option<&hyper::Error>, life: &Life) -> Option<Kind> {
    match error {
        Some(e) if e.is_parse_too_large() => Some(Kind::Size),
        Some(e) if e.is_parse() => Some(Kind::Garbage),
        _ if life.requests.get() == 0 => Some(Kind::NoRequest),
        _ => None,
    }
}

/// A connection's place in the register, given back however it ends.
struct Place<'a, S: Answering> {
    shared: &'a Shared<S>,
    id: u64,
}

impl<S: Answering> Drop for Place<'_, S> {
    fn drop(&mut self) {
        self.shared.register.leave(self.id);
        self.shared.front.counters.open.fetch_sub(1, Relaxed);
    }
}

fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use std::io::{Read, Write};

    /// Answers everything with 204.
    #[derive(Clone)]
    struct Fine;

    impl Answering for Fine {
        fn answer(
            &self,
            _peer: IpAddr,
            _request: Request<hyper::body::Incoming>,
        ) -> impl Future<Output = Response> + 'static {
            std::future::ready(axum::http::StatusCode::NO_CONTENT.into_response())
        }

        fn is_closing(&self) -> bool {
            false
        }
    }

    /// Serves while `clients` runs in a thread of its own; gives what was counted.
    fn served(max_connections: usize, clients: impl FnOnce(SocketAddr) + Send + 'static) -> Arc<Counters> {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let counters = Arc::new(Counters::default());
        let front = Front { service: Fine, max_connections, counters: counters.clone(), realtime: false };
        let (stop, stopped) = watch::channel(false);
        let clients = std::thread::spawn(move || {
            clients(addr);
            stop.send_replace(true);
        });
        let options = tokio::runtime::LocalOptions::default();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(options).unwrap();
        runtime.block_on(serve(listener, front, stopped)).unwrap();
        clients.join().unwrap();
        counters
    }

    fn ask(addr: SocketAddr) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_request_is_answered_where_all_places_are_held_by_halves_of_requests() {
        let counters = served(16, |addr| {
            let half = |_| {
                let mut stream = TcpStream::connect(addr).unwrap();
                stream.write_all(b"GET / HT").unwrap();
                stream
            };
            let held: Vec<TcpStream> = (0..64).map(half).collect();
            for _ in 0..20 {
                assert!(ask(addr).starts_with("HTTP/1.1 204"));
            }
            drop(held);
        });
        assert_eq!(counters.refused.load(Relaxed), 0);
        assert!(counters.evicted.load(Relaxed) >= 48);
    }

    #[test]
    fn what_is_no_request_is_counted_by_kind() {
        let counters = served(16, |addr| {
            for bytes in [b"\x16\x03\x01".as_slice(), b"hello\r\n\r\n", b"G"] {
                let mut stream = TcpStream::connect(addr).unwrap();
                stream.write_all(bytes).unwrap();
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        let counts: Vec<_> = counters.wrong.counts().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counts, [(Kind::Tls, 1), (Kind::NoRequest, 1), (Kind::Garbage, 1)]);
    }
}
