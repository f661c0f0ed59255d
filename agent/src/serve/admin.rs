//! The admin listener: `/status` and `/metrics`, for whoever is on the machine. Nothing here changes anything.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header, uri::Authority};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_service::Service;

use super::events;
use super::front::Answering;
use super::metrics;
use super::page;
use super::status::Sources;

/// The admin service.
#[derive(Clone)]
pub(super) struct Admin {
    router: Router,
}

impl Admin {
    pub(super) fn new(sources: Arc<Sources>) -> Self {
        let router = Router::new()
            .route("/status", get(status))
            .route("/metrics", get(scrape))
            .route("/events", get(events))
            .route("/", get(page::page))
            .with_state(sources);
        Self { router }
    }
}

async fn status(State(sources): State<Arc<Sources>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    let text = serde_json::to_string(&sources.status()).unwrap_or_default();
    (headers, format!("{text}\n")).into_response()
}

async fn events(State(sources): State<Arc<Sources>>) -> Response {
    events::stream(sources)
}

async fn scrape(State(sources): State<Arc<Sources>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&sources)).into_response()
}

impl Answering for Admin {
    fn answer(
        &self,
        _peer: IpAddr,
        request: Request<hyper::body::Incoming>,
    ) -> impl Future<Output = Response> + 'static {
        let mut router = self.router.clone();
        async move {
            if !is_for_loopback(&request) {
                return (StatusCode::FORBIDDEN, "the Host header must name a loopback address\n")
                    .into_response();
            }
            router.call(request).await.unwrap_or_else(|never| match never {})
        }
    }

    fn is_closing(&self) -> bool {
        false
    }
}

/// Whether the Host header is a loopback address or `localhost`: a web page that made its own name point to
/// 127.0.0.1 is kept out (DNS rebinding).
fn is_for_loopback(request: &Request<hyper::body::Incoming>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) => names_loopback(host),
        _ => false,
    }
}

fn names_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_get_in() {
        for host in ["127.0.0.1:8081", "localhost", "LOCALHOST:1", "[::1]:8081", "127.9.9.9"] {
            assert!(names_loopback(host), "{host}");
        }
        for host in
            ["", "example.com", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1", "a@127.0.0.1"]
        {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
