//! One client of the metadata service: a token first, then questions. Version 1 is never tried.

use std::time::{Duration, Instant};

use reqwest::{Client, Response, StatusCode};

use super::notice;

/// Six hours, the longest that the service gives.
const TOKEN_TTL: Duration = Duration::from_secs(21_600);
/// A token is renewed this long before it ends.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Each exchange, connection included. Off EC2 nothing answers, and this is the second that it costs.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The largest value is a notice of some hundred bytes.
const MAX_BYTES: usize = 4096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImdsError {
    /// Nothing answers there: not on EC2, or the service is switched off.
    #[error("no instance metadata service answers at {url} ({why})")]
    Absent {
        /// What was asked for.
        url: String,
        /// What the network said.
        why: String,
    },
    /// Something answers, but gives no token: version 2 isn't there.
    #[error("{url} gives no IMDSv2 token: {status}")]
    NoToken {
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The service fails at the moment.
    #[error("{url}: {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The answer isn't what the service would say.
    #[error("{url}: not an answer of the instance metadata service")]
    Garbage {
        /// What was asked for.
        url: String,
    },
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A line of printable text.
    Line,
    /// Several such lines.
    Lines,
    /// A JSON object, spaced in any way; told without its spaces.
    Json,
}

pub(super) struct Imds {
    client: Client,
    endpoint: String,
    token: Option<(String, Instant)>,
}

impl Imds {
    /// Never through a proxy, never redirected: what answers elsewhere isn't this instance's service.
    pub(super) fn new(endpoint: &str) -> reqwest::Result<Self> {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(1)
            .build()?;
        Ok(Self { client, endpoint: endpoint.trim_end_matches('/').to_owned(), token: None })
    }

    /// The value of `path` below `latest/meta-data/`; `None` where the service has none (404).
    pub(super) async fn get(&mut self, path: &str, form: Form) -> Result<Option<String>, ImdsError> {
        self.get_at(&format!("latest/meta-data/{path}"), form).await
    }

    /// Gets a token where none is left, and nothing else.
    pub(super) async fn ready(&mut self) -> Result<(), ImdsError> {
        self.token().await.map(drop)
    }

    /// As [`get`](Self::get), of a path below the service's root.
    pub(super) async fn get_at(&mut self, path: &str, form: Form) -> Result<Option<String>, ImdsError> {
        let url = format!("{}/{path}", self.endpoint);
        let mut renewed = false;
        loop {
            let token = self.token().await?;
            let asked = self.client.get(&url).header("X-aws-ec2-metadata-token", token).send().await;
            let answer = asked.map_err(|e| absent(&url, &e))?;
            match answer.status() {
                StatusCode::OK => return text(answer, &url, form).await.map(Some),
                StatusCode::NOT_FOUND => return Ok(None),
                // The token was revoked or the instance was started from a snapshot: once more with a new one.
                StatusCode::UNAUTHORIZED if !renewed => {
                    self.token = None;
                    renewed = true;
                }
                status => return Err(ImdsError::Status { url, status }),
            }
        }
    }

    async fn token(&mut self) -> Result<String, ImdsError> {
        if let Some((token, renew_at)) = &self.token
            && Instant::now() < *renew_at
        {
            return Ok(token.clone());
        }
        let url = format!("{}/latest/api/token", self.endpoint);
        let ttl = TOKEN_TTL.as_secs().to_string();
        let asked = self.client.put(&url).header("X-aws-ec2-metadata-token-ttl-seconds", ttl).send().await;
        let answer = asked.map_err(|e| absent(&url, &e))?;
        match answer.status() {
            StatusCode::OK => {
                let token = text(answer, &url, Form::Line).await?;
                self.token = Some((token.clone(), Instant::now() + TOKEN_TTL - RENEW_BEFORE));
                Ok(token)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                Err(ImdsError::Status { url, status: StatusCode::TOO_MANY_REQUESTS })
            }
            // 403 is the service switched off (HttpEndpoint=disabled); version 1 alone says 404 or 405.
            status if status.is_client_error() => Err(ImdsError::NoToken { url, status }),
            status => Err(ImdsError::Status { url, status }),
        }
    }
}

fn absent(url: &str, error: &reqwest::Error) -> ImdsError {
    let why = if error.is_timeout() { "no answer within 1 s" } else { "the connection failed" };
    ImdsError::Absent { url: url.to_owned(), why: why.to_owned() }
}

/// A short printable line: it ends up in a header and in JSON that others read.
async fn text(mut answer: Response, url: &str, form: Form) -> Result<String, ImdsError> {
    let garbage = || ImdsError::Garbage { url: url.to_owned() };
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| garbage())? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_BYTES {
            return Err(garbage());
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| garbage())?;
    if form == Form::Json {
        return notice::compact(&text).ok_or_else(garbage);
    }
    let text = text.trim();
    let printable = |c: char| c.is_ascii_graphic() || c == ' ' || (c == '\n' && form == Form::Lines);
    let printable = !text.is_empty() && text.chars().all(printable);
    printable.then(|| text.to_owned()).ok_or_else(garbage)
}
