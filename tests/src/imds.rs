//! A fake instance metadata service on loopback. The rules are those of "Use the Instance Metadata Service to access
//! instance metadata", <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>
//! and of the pages under it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::http::{Method, Request, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::background::Background;

const TOKEN_PATH: &str = "/latest/api/token";
const VALUES: &str = "/latest/meta-data/";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";

/// How the service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// As IMDSv2 does on an instance that requires it.
    V2,
    /// As IMDSv1 alone: values without a token; `PUT` isn't known (404).
    V1Only,
    /// Correct, but each answer comes this late. For a service that never answers, an hour.
    Slow(Duration),
    /// Every request gets this status. 403: the service is turned off; 503: "the request could not be completed".
    Status(u16),
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `PUT` or `GET`.
    pub method: String,
    /// The path.
    pub path: String,
    /// What it was answered.
    pub status: u16,
    /// When it came.
    pub at: Instant,
}

/// A metadata service with its own address. Dropped, its address refuses connections.
#[derive(Debug)]
pub struct Imds {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    background: Option<Background>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    values: BTreeMap<String, String>,
    /// Paths that get this status instead, whatever the service does otherwise.
    failing: BTreeMap<String, u16>,
    tokens: BTreeMap<String, Instant>,
    issued: u64,
    longest: Duration,
    asked: Vec<Asked>,
}

impl Imds {
    /// Starts a service on a free port of `ip`, for an instance `id` in `zone` (a t3.micro in service, without any
    /// notice).
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn start(ip: Ipv4Addr, id: &str, zone: &str) -> anyhow::Result<Self> {
        let values = [
            ("instance-id", id),
            ("placement/availability-zone", zone),
            ("instance-type", "t3.micro"),
            ("autoscaling/target-lifecycle-state", "InService"),
        ];
        let state = State {
            behaviour: Behaviour::V2,
            values: values.map(|(path, text)| (path.to_owned(), text.to_owned())).into(),
            failing: BTreeMap::new(),
            tokens: BTreeMap::new(),
            issued: 0,
            longest: Duration::MAX,
            asked: Vec::new(),
        };
        let addr = SocketAddr::new(ip.into(), 0);
        let mut imds = Self { addr, state: Arc::new(Mutex::new(state)), background: None };
        imds.appear()?;
        Ok(imds)
    }

    /// What the setting `identity.endpoint` has to say.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on, behaves so.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state().behaviour = behaviour;
    }

    /// Sets a value below `/latest/meta-data/`, such as `spot/instance-action`; `None` makes it a 404.
    pub fn set(&self, path: &str, text: Option<&str>) {
        match text {
            Some(text) => self.state().values.insert(path.to_owned(), text.to_owned()),
            None => self.state().values.remove(path),
        };
    }

    /// From now on a path below `/latest/` gets this status; `None`: what it is otherwise.
    pub fn fail(&self, path: &str, status: Option<u16>) {
        match status {
            Some(status) => self.state().failing.insert(format!("/latest/{path}"), status),
            None => self.state().failing.remove(&format!("/latest/{path}")),
        };
    }

    /// Forgets all tokens given out so far: each gets 401 from now on, as after its end or after a move of the
    /// instance.
    pub fn expire_tokens(&self) {
        self.state().tokens.clear();
    }

    /// Lets tokens live no longer than this, whatever was asked for.
    pub fn limit_tokens(&self, longest: Duration) {
        self.state().longest = longest;
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// How many requests were answered so far with `status`.
    pub fn answered(&self, status: u16) -> usize {
        self.state().asked.iter().filter(|one| one.status == status).count()
    }

    /// How many requests for tokens came so far.
    pub fn tokens_asked(&self) -> usize {
        self.state().asked.iter().filter(|one| one.path == TOKEN_PATH).count()
    }

    /// Refuses connections, as off EC2 (there, some networks drop them instead: [`Behaviour::Slow`]).
    pub fn vanish(&mut self) {
        self.background = None;
    }

    /// Comes back at the same address.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn appear(&mut self) -> anyhow::Result<()> {
        let background = Background::start("imds")?;
        let _entered = background.handle().enter();
        let listener = std::net::TcpListener::bind(self.addr).with_context(|| self.addr.to_string())?;
        self.addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        background.spawn(serve(TcpListener::from_std(listener)?, Arc::clone(&self.state)));
        self.background = Some(background);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&state, &request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: &Mutex<State>, request: &Request<Incoming>) -> Response<Body> {
    let behaviour = locked(state).behaviour;
    if let Behaviour::Slow(late) = behaviour {
        tokio::time::sleep(late).await;
    }
    let mut state = locked(state);
    let failing = state.failing.get(request.uri().path()).copied();
    let response = match behaviour {
        _ if failing.is_some() => StatusCode::from_u16(failing.unwrap_or(503))
            .unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            .into_response(),
        Behaviour::Status(code) => {
            StatusCode::from_u16(code).unwrap_or(StatusCode::SERVICE_UNAVAILABLE).into_response()
        }
        Behaviour::V1Only => state.value(request, false),
        Behaviour::V2 | Behaviour::Slow(_) if request.method() == Method::PUT => state.token(request),
        Behaviour::V2 | Behaviour::Slow(_) => state.value(request, true),
    };
    state.asked.push(Asked {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        status: response.status().as_u16(),
        at: Instant::now(),
    });
    response
}

impl State {
    /// A token lives from one second to six hours; without a valid TTL, 400; a request that came through a proxy
    /// (`X-Forwarded-For`) gets none ("How Instance Metadata Service Version 2 works",
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html>).
    fn token(&mut self, request: &Request<Incoming>) -> Response<Body> {
        if request.uri().path() != TOKEN_PATH {
            return StatusCode::NOT_FOUND.into_response();
        }
        if request.headers().contains_key("x-forwarded-for") {
            return StatusCode::FORBIDDEN.into_response();
        }
        let asked = header(request, TTL).and_then(|text| text.parse::<u32>().ok());
        let Some(ttl) = asked.filter(|ttl| (1..=21_600).contains(ttl)) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        self.issued += 1;
        let token = format!("AQAEAFake{:08}==", self.issued);
        let life = Duration::from_secs(ttl.into()).min(self.longest);
        self.tokens.insert(token.clone(), Instant::now() + life);
        ([(TTL, ttl.to_string())], token).into_response()
    }

    fn value(&self, request: &Request<Incoming>, needs_token: bool) -> Response<Body> {
        if request.method() != Method::GET {
            return StatusCode::NOT_FOUND.into_response();
        }
        let alive = |token: &str| self.tokens.get(token).is_some_and(|end| Instant::now() < *end);
        if needs_token && !header(request, TOKEN).is_some_and(alive) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let path = request.uri().path();
        let name = path.strip_prefix(VALUES).or_else(|| path.strip_prefix("/latest/"));
        match name.and_then(|name| self.values.get(name)) {
            Some(text) => text.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

fn header<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}
