//! One request as a client of the load balancer sends it, and what becomes of it before its deadline.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SERVER, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::sample::{Class, Outcome, Stream, clean_name};
use super::target::Target;
use super::tls::Tls;

const NAME: HeaderValue =
    HeaderValue::from_static(concat!("asg-agent/", env!("CARGO_PKG_VERSION"), " drill"));
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// A connection that requests can be sent over; dropped, it is closed.
pub type Connection = SendRequest<String>;

/// What came of a request.
#[derive(Debug)]
pub struct Reply {
    /// The status, or why there is none.
    pub outcome: Outcome,
    /// The instance that says it answered.
    pub instance: Option<String>,
    /// Whether the load balancer says that the answer is its own.
    pub own: bool,
    /// The connection, where another request may follow on it.
    pub kept: Option<Connection>,
}

/// Connections of one node that wait for their next request.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Connection>>);

impl Pool {
    fn take(&self) -> Option<Connection> {
        let mut all = self.all();
        all.retain(|one| !one.is_closed());
        all.pop()
    }

    /// Keeps a connection as soon as it is ready for another request.
    pub async fn keep(&self, mut connection: Connection) {
        if connection.ready().await.is_ok() {
            self.all().push(connection);
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all requests of a drill have in common.
#[derive(Debug)]
pub struct Client {
    target: Target,
    instance_header: HeaderName,
    deadline: Duration,
    tls: Option<Tls>,
    /// Why the first handshake that failed did.
    untrusted: OnceLock<String>,
}

/// How far a request has come: it says what a time-out means.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Connecting,
    Handshaking,
    Waiting,
}

impl Client {
    /// Asks for `target`; an answer tells its instance in `instance_header`, and none is waited for longer than
    /// `deadline`.
    pub fn new(target: Target, instance_header: HeaderName, deadline: Duration, tls: Option<Tls>) -> Self {
        Self { target, instance_header, deadline, tls, untrusted: OnceLock::new() }
    }

    /// Why there was no TLS session, the first time that there was none.
    pub fn untrusted(&self) -> Option<&str> {
        self.untrusted.get().map(String::as_str)
    }

    /// One request to `node`.
    pub async fn ask(&self, node: SocketAddr, stream: Stream, pool: &Pool) -> Reply {
        let mut stage = Stage::Connecting;
        let asked = timeout(self.deadline, self.exchange(node, stream, pool, &mut stage)).await;
        let class = match asked {
            Ok(Ok(reply)) => return reply,
            Ok(Err(class)) => class,
            Err(_) => match stage {
                Stage::Connecting => Class::ConnectTimeout,
                Stage::Handshaking => Class::Tls,
                Stage::Waiting => Class::ReadTimeout,
            },
        };
        Reply { outcome: Outcome::Failed(class), instance: None, own: false, kept: None }
    }

    async fn exchange(
        &self,
        node: SocketAddr,
        stream: Stream,
        pool: &Pool,
        stage: &mut Stage,
    ) -> Result<Reply, Class> {
        let mut request = self.request(stream)?;
        if stream == Stream::Kept
            && let Some(mut kept) = pool.take()
        {
            *stage = Stage::Waiting;
            match kept.try_send_request(request).await {
                Ok(response) => return self.read(response, Some(kept)).await,
                // The other side closed an idle connection: it took nothing, and a browser would ask again.
                Err(mut e) => match e.take_message() {
                    Some(unsent) => request = unsent,
                    // It took the request and closed without a byte of an answer. Browsers ask again then too, as a GET
                    // may be repeated (RFC 9110, 9.2.2), and load balancers count on it (HAProxy's `http-reuse`): they
                    // log no error.
                    None if of_hyper(e.error()) == Class::Reset => request = self.request(stream)?,
                    None => return Err(of_hyper(e.error())),
                },
            }
            *stage = Stage::Connecting;
        }
        let mut fresh = self.connect(node, stage).await?;
        *stage = Stage::Waiting;
        let response = fresh.send_request(request).await.map_err(|e| of_hyper(&e))?;
        self.read(response, (stream == Stream::Kept).then_some(fresh)).await
    }

    fn request(&self, stream: Stream) -> Result<Request<String>, Class> {
        let mut request = Request::get(self.target.path.as_str())
            .header(HOST, &self.target.host)
            .header(USER_AGENT, NAME)
            .body(String::new())
            .map_err(|_| Class::Malformed)?;
        if stream == Stream::New {
            request.headers_mut().insert(CONNECTION, CLOSE);
        }
        Ok(request)
    }

    async fn connect(&self, node: SocketAddr, stage: &mut Stage) -> Result<Connection, Class> {
        let stream = TcpStream::connect(node).await.map_err(|e| of_io(&e))?;
        stream.set_nodelay(true).map_err(|e| of_io(&e))?;
        match &self.tls {
            None => converse(stream).await,
            Some(tls) => {
                *stage = Stage::Handshaking;
                let session = tls.connect(stream).await.map_err(|e| {
                    // It may quote the names in a certificate: anybody's text.
                    let visible = |c: char| if c.is_control() { '_' } else { c };
                    let _ = self.untrusted.set(e.to_string().chars().take(200).map(visible).collect());
                    Class::Tls
                });
                converse(session?).await
            }
        }
    }

    /// Reads an answer to its end and forgets what it says: a client that got half of it got nothing.
    async fn read(
        &self,
        response: hyper::Response<Incoming>,
        kept: Option<Connection>,
    ) -> Result<Reply, Class> {
        let (head, mut body) = response.into_parts();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            frame.map_err(|e| of_hyper(&e))?;
        }
        let instance = head.headers.get(&self.instance_header).and_then(|value| clean_name(value.as_bytes()));
        let own = instance.is_none() && is_own(&head.headers);
        Ok(Reply { outcome: Outcome::Status(head.status.as_u16()), instance, own, kept })
    }
}

/// Whether an answer is the load balancer's own: AWS's name themselves so (`Server: awselb/2.0`: "Troubleshoot your
/// Application Load Balancers",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html>).
fn is_own(headers: &HeaderMap) -> bool {
    headers.get(SERVER).is_some_and(|server| server.as_bytes().starts_with(b"awselb/"))
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Connection, Class> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| of_hyper(&e))?;
    // Whatever ends it, the sender learns of it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn of_io(error: &io::Error) -> Class {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => Class::Refused,
        Kind::TimedOut => Class::ConnectTimeout,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
            Class::Reset
        }
        Kind::InvalidData => Class::Tls,
        _ => Class::Unreachable,
    }
}

fn of_hyper(error: &hyper::Error) -> Class {
    if error.is_parse() {
        return Class::Malformed;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return match of_io(io) {
                Class::Unreachable => Class::Reset,
                class => class,
            };
        }
        source = cause.source();
    }
    Class::Reset
}
