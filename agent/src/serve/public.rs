//! The public listener: `/health`, and nothing else. A probe is answered from the board.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_service::Service;

use super::front::Answering;
use crate::health::{Board, CHECK_HEADER, Nonce};
use crate::sys::clock;

/// The public service.
#[derive(Clone)]
pub(super) struct Public {
    router: Router,
    board: Arc<Board>,
}

struct Health {
    board: Arc<Board>,
    nonce: Nonce,
}

impl Public {
    pub(super) fn new(board: Arc<Board>, nonce: Nonce) -> Self {
        let state = Arc::new(Health { board: board.clone(), nonce });
        Self { router: Router::new().route("/health", get(health)).with_state(state), board }
    }
}

async fn health(State(state): State<Arc<Health>>, headers: HeaderMap) -> Response {
    // Our own check of nginx, which led back to us: nginx answers, and that is all it asks. Saying 503 here would
    // make the verdict depend on itself.
    if headers.get(CHECK_HEADER).is_some_and(|nonce| nonce.as_bytes() == state.nonce.as_str().as_bytes()) {
        return StatusCode::NO_CONTENT.into_response();
    }
    let decision = state.board.decide(Instant::now(), clock::since_boot);
    if let Some(delay) = decision.delay {
        tokio::time::sleep(delay).await;
    }
    let answer = decision.answer;
    let mut response = Response::new(answer.body.into());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

impl Answering for Public {
    fn answer(
        &self,
        _peer: IpAddr,
        request: Request<hyper::body::Incoming>,
    ) -> impl Future<Output = Response> + 'static {
        let mut router = self.router.clone();
        async move { router.call(request).await.unwrap_or_else(|never| match never {}) }
    }

    fn is_closing(&self) -> bool {
        self.board.is_draining()
    }
}
