//! One client of the metadata service: a token first, then questions. Version 1 is never tried.

use std::time::{Duration, Instant};

use reqwest::{Client, Response, StatusCode};

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
    #[error("no instance metadata service at {url}: {source}")]
    Absent {
        /// What was asked for.
        url: String,
        /// What the network said.
        source: reqwest::Error,
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
    pub(super) async fn get(&mut self, path: &str) -> Result<Option<String>, ImdsError> {
        let url = format!("{}/latest/meta-data/{path}", self.endpoint);
        let mut renewed = false;
        loop {
            let token = self.token().await?;
            let asked = self.client.get(&url).header("X-aws-ec2-metadata-token", token).send().await;
            let answer = asked.map_err(|source| ImdsError::Absent { url: url.clone(), source })?;
            match answer.status() {
                StatusCode::OK => return text(answer, &url).await.map(Some),
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
        let answer = asked.map_err(|source| ImdsError::Absent { url: url.clone(), source })?;
        match answer.status() {
            StatusCode::OK => {
                let token = text(answer, &url).await?;
                self.token = Some((token.clone(), Instant::now() + TOKEN_TTL - RENEW_BEFORE));
                Ok(token)
            }
            // 403 is the service switched off (HttpEndpoint=disabled); version 1 alone says 404 or 405.
            status if status.is_client_error() => Err(ImdsError::NoToken { url, status }),
            status => Err(ImdsError::Status { url, status }),
        }
    }
}

/// A short printable line: it ends up in a header and in JSON that others read.
async fn text(mut answer: Response, url: &str) -> Result<String, ImdsError> {
    let garbage = || ImdsError::Garbage { url: url.to_owned() };
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| garbage())? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_BYTES {
            return Err(garbage());
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| garbage())?;
    let text = text.trim();
    let printable = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c == '\n');
    printable.then(|| text.replace('\n', " ")).ok_or_else(garbage)
}
