//! One node's listener: takes clients' connections, routes their requests, tells what became of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::event::{self, Event, Journal};
use super::forward::{Forwarder, rewritten};
use super::routing::{Route, route};
use super::settings::Group;
use super::state::State;
use super::target::Target;

/// What a node needs to serve clients.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: usize,
    pub(super) addr: SocketAddr,
    pub(super) targets: watch::Receiver<Vec<Arc<Target>>>,
    pub(super) turn: AtomicUsize,
    pub(super) group: Group,
    pub(super) start: Instant,
    pub(super) forwarder: Forwarder,
    pub(super) journal: Arc<Journal>,
}

impl Node {
    /// Serves for ever.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, client)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await; // out of descriptors: some will close
                continue;
            };
            let _ = stream.set_nodelay(true);
            tokio::spawn(Arc::clone(&self).converse(stream, client));
        }
    }

    async fn converse(self: Arc<Self>, stream: tokio::net::TcpStream, client: SocketAddr) {
        let service = service_fn(|request| {
            let node = Arc::clone(&self);
            async move { Ok::<_, Infallible>(node.answer(request, client).await) }
        });
        let _ = Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.forwarder.idle_timeout)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(&self, request: Request<Incoming>, client: SocketAddr) -> Response<Body> {
        let mut told = Told::new(self, request.uri().path());
        let (route, targets) = self.route();
        let result = match route {
            Route::Nowhere => Err(StatusCode::SERVICE_UNAVAILABLE),
            Route::To { place, fail_open } => {
                let target = &targets[place];
                (told.event.target, told.event.fail_open) = (Some(target.addr), fail_open);
                let request = rewritten(request, client, self.addr.port());
                let mut health = target.health.subscribe();
                // "If a deregistering target has in-flight requests", they have the deregistration delay; what then becomes of
                // them isn't documented: our model cuts them off.
                let given_up = async {
                    let _ = health.wait_for(|health| health.state == State::Draining).await;
                    tokio::time::sleep(self.group.deregistration_delay).await;
                };
                let result = tokio::select! {
                    result = self.forwarder.forward(target, request) => result.map_err(StatusCode::from),
                    () = given_up => Err(StatusCode::BAD_GATEWAY),
                };
                let ok = result.as_ref().is_ok_and(|response| response.status().as_u16() < 500);
                target.weight().took(ok);
                result
            }
        };
        told.event.by_target = result.is_ok();
        let response = result.unwrap_or_else(own_answer);
        told.event.status = response.status().as_u16();
        response
    }

    /// "HTTP 503: Service unavailable: the target groups for the load balancer have no registered targets" (the page
    /// that `forward` names).
    fn route(&self) -> (Route, Vec<Arc<Target>>) {
        let targets = self.targets.borrow().clone();
        let states: Vec<State> = targets.iter().map(|target| target.health.borrow().state).collect();
        let healthy = states.iter().filter(|state| **state == State::Healthy).count();
        let now = self.start.elapsed();
        let weights: Vec<f64> =
            targets.iter().map(|one| one.weight().at(&self.group, now, healthy)).collect();
        (route(&states, &weights, &self.group, self.turn.fetch_add(1, Ordering::Relaxed)), targets)
    }
}

/// An answer of the load balancer's own, in the form that its users know.
fn own_answer(status: StatusCode) -> Response<Body> {
    let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let body = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n\
         </html>\r\n"
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(SERVER, HeaderValue::from_static("awselb/2.0"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}

/// A request's event, told when the request is over in whichever way: answered, or given up by the client.
struct Told<'a> {
    journal: &'a Journal,
    event: event::Request,
}

impl<'a> Told<'a> {
    fn new(node: &'a Node, path: &str) -> Self {
        let event = event::Request {
            node: node.number,
            target: None,
            path: path.to_owned(),
            at: Instant::now(),
            took: Duration::ZERO,
            // "HTTP 460: the client closed the connection with the load balancer before the idle timeout period
            // elapsed" (the page that `forward` names): true unless an answer replaces it.
            status: 460,
            by_target: false,
            fail_open: false,
        };
        Self { journal: &node.journal, event }
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.event.took = self.event.at.elapsed();
        self.journal.record(Event::Request(self.event.clone()));
    }
}
