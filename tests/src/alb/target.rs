//! A target as one node knows it, and the node's connections to it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::state::Health;
use super::weight::Weight;

/// A target at one node.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    /// Written by the prober, read by whoever routes or looks.
    pub(super) health: watch::Sender<Health>,
    pub(super) pool: Pool,
    pub(super) weight: Mutex<Weight>,
}

impl Target {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            health: watch::Sender::new(Health::REGISTERED),
            pool: Pool::default(),
            weight: Mutex::default(),
        }
    }
}

impl Target {
    /// What is known of it beside its health.
    pub(super) fn weight(&self) -> MutexGuard<'_, Weight> {
        self.weight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Body>,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects from `source`.
    pub(super) async fn open(source: Ipv4Addr, target: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        let stream = socket.connect(target).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let mut driver = JoinSet::new();
        driver.spawn(async {
            let _ = connection.await; // the sender learns of every error
        });
        Ok(Self { sender, _driver: driver })
    }
}

/// Connections that wait for their next request: "HTTP connections",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/how-elastic-load-balancing-works.html#http-connections>.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<(Connection, Instant)>>);

impl Pool {
    /// The one used last that is still open and wasn't idle for longer than `idle`.
    pub(super) fn take(&self, idle: Duration) -> Option<Connection> {
        let mut kept = self.kept();
        kept.retain(|(connection, since)| since.elapsed() < idle && !connection.sender.is_closed());
        kept.pop().map(|(connection, _)| connection)
    }

    /// Keeps one for the next request.
    pub(super) fn keep(&self, connection: Connection) {
        if !connection.sender.is_closed() {
            self.kept().push((connection, Instant::now()));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
