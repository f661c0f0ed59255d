//! The public listener: `/health`, and nothing else. A probe is answered from the board.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_service::Service;

use super::counters::Counters;
use super::front::Answering;
use super::wrong::Kind;
use crate::health::{Board, CHECK_HEADER, Nonce};
use crate::probes::watcher::Direct;
use crate::sys::clock;

/// The public service.
#[derive(Clone)]
pub(super) struct Public {
    router: Router,
    board: Arc<Board>,
    nonce: Nonce,
    probes: Direct,
    counters: Arc<Counters>,
}

impl Public {
    pub(super) fn new(board: Arc<Board>, nonce: Nonce, probes: Direct, counters: Arc<Counters>) -> Self {
        let router = Router::new().route("/health", get(health)).with_state(board.clone());
        Self { router, board, nonce, probes, counters }
    }

    /// Whether this is our own check of nginx, which led back to us.
    fn is_check(&self, request: &Request<hyper::body::Incoming>) -> bool {
        let nonce = request.headers().get(CHECK_HEADER);
        nonce.is_some_and(|nonce| nonce.as_bytes() == self.nonce.as_str().as_bytes())
    }
}

/// What is wrong with a request. In HTTP/1.1 there is one Host, RFC 9112 §3.2.
fn wrong(request: &Request<hyper::body::Incoming>) -> Option<(Kind, Option<StatusCode>)> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = (hosts.next(), hosts.next());
    let usable = match host {
        (Some(host), None) => host.as_bytes().iter().all(|byte| is_of_a_host(*byte)),
        (None, None) => request.version() < Version::HTTP_11,
        _ => false,
    };
    match (usable, request.uri().path(), request.method()) {
        (false, ..) => Some((Kind::Host, Some(StatusCode::BAD_REQUEST))),
        (_, "/health", &Method::GET | &Method::HEAD) => None,
        (_, "/health", _) => Some((Kind::Method, None)),
        _ => Some((Kind::Path, None)),
    }
}

/// What a host and a port are made of, RFC 3986 §3.2.2.
fn is_of_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// A request in a line, as a client may have sent anything: short, and nothing but text.
fn in_a_line(request: &Request<hyper::body::Incoming>) -> String {
    let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let text = |text: &str, most| {
        text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(most).collect::<String>()
    };
    let by = agent.map_or(String::new(), |agent| format!(" by {}", text(agent, 40)));
    format!("{} {}{by}", text(request.method().as_str(), 10), text(request.uri().path(), 60))
}

async fn health(State(board): State<Arc<Board>>) -> Response {
    let decision = board.decide(Instant::now(), clock::since_boot);
    if let Some(delay) = decision.delay {
        tokio::time::sleep(delay).await;
    }
    let answer = decision.answer;
    let mut response = Response::new(answer.body.into());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// The load balancer's probes say who they are
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>).
fn is_probe(request: &Request<hyper::body::Incoming>) -> bool {
    let agent = request.headers().get(header::USER_AGENT);
    agent.is_some_and(|agent| agent.as_bytes().starts_with(b"ELB-HealthChecker/"))
}

/// Whether a request comes from this machine: nginx handing on a probe that it has logged itself. An address that a
/// socket can be bound to is ours; of loopback only the usual address, as a load balancer may be simulated there.
fn is_this_machine(peer: IpAddr) -> bool {
    match peer {
        IpAddr::V4(ip) if ip.is_loopback() => ip == Ipv4Addr::LOCALHOST,
        ip => UdpSocket::bind((ip, 0)).is_ok(),
    }
}

impl Answering for Public {
    fn answer(
        &self,
        peer: IpAddr,
        request: Request<hyper::body::Incoming>,
    ) -> impl Future<Output = Response> + 'static {
        let mut router = self.router.clone();
        let check = self.is_check(&request);
        let wrong = wrong(&request);
        if let Some((kind, _)) = wrong.filter(|_| !check) {
            self.counters.wrong.count(kind, peer, || Some(in_a_line(&request)));
        }
        let refused = wrong.and_then(|(_, status)| status);
        let probe = (is_probe(&request) && !is_this_machine(peer))
            .then(|| (self.probes.clone(), request.uri().path().to_owned()));
        async move {
            // nginx answers, and that is all our check asks: with 503 the verdict would depend on itself.
            if check {
                return StatusCode::NO_CONTENT.into_response();
            }
            if let Some(status) = refused {
                return status.into_response();
            }
            let response = router.call(request).await.unwrap_or_else(|never| match never {});
            if let Some((probes, path)) = probe {
                probes.seen(peer, &path, response.status().as_u16());
            }
            response
        }
    }

    fn is_closing(&self) -> bool {
        self.board.is_draining()
    }
}
