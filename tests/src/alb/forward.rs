//! One node's way from a client to a target and back, with the errors of "Troubleshoot your Application Load
//! Balancers", <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html>.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use hyper::{Request, Response, StatusCode};
use tokio::time::timeout;

use super::target::{Connection, Target};

/// A longer answer is cut off with 502: our model, so that a test can't fill the memory.
const LONGEST_BODY: usize = 64 << 20;

/// Why the load balancer answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// 502: "the load balancer received a TCP RST from the target when attempting to establish a connection", "the
    /// target closed the connection with a TCP RST or a TCP FIN while the load balancer had an outstanding request to
    /// the target", "the target response is malformed or contains HTTP headers that are not valid".
    BadGateway,
    /// 504: "the load balancer failed to establish a connection to the target before the connection timeout expired
    /// (10 seconds)", "the load balancer established a connection to the target but the target did not respond before
    /// the idle timeout period elapsed".
    GatewayTimeout,
}

impl From<Failed> for StatusCode {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::BadGateway => Self::BAD_GATEWAY,
            Failed::GatewayTimeout => Self::GATEWAY_TIMEOUT,
        }
    }
}

/// How a node reaches its targets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forwarder {
    pub(super) source: Ipv4Addr,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
}

impl Forwarder {
    /// Sends the request and gives the whole answer. That the answer is gathered before the client gets any of it is
    /// our model; AWS streams, and a target that dies in the middle then shows as a cut answer instead of 502.
    pub(super) async fn forward(
        &self,
        target: &Arc<Target>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failed> {
        let (mut connection, response) = self.exchange(target, request).await?;
        let (mut head, body) = response.into_parts();
        let body = self.gather(body).await?;
        remove_hop_by_hop(&mut head.headers);
        let target = Arc::clone(target);
        tokio::spawn(async move {
            if connection.sender.ready().await.is_ok() {
                target.pool.keep(connection);
            }
        });
        Ok(Response::from_parts(head, Body::from(body)))
    }

    /// Sends the request, on a kept connection if there is one. A request that a closing connection did not take
    /// goes out again on a new one; one that it took may have had effects, so it ends with 502, as on AWS when the
    /// target's keep-alive time is shorter than the idle time-out.
    async fn exchange(
        &self,
        target: &Target,
        mut request: Request<Body>,
    ) -> Result<(Connection, Response<Incoming>), Failed> {
        if let Some(mut kept) = target.pool.take(self.idle_timeout) {
            match self.in_time(kept.sender.try_send_request(request)).await? {
                Ok(response) => return Ok((kept, response)),
                Err(mut e) => request = e.take_message().ok_or(Failed::BadGateway)?,
            }
        }
        let opened = timeout(self.connect_timeout, Connection::open(self.source, target.addr)).await;
        let mut fresh = opened.map_err(|_| Failed::GatewayTimeout)?.map_err(|_| Failed::BadGateway)?;
        let sent = self.in_time(fresh.sender.send_request(request)).await?;
        sent.map(|response| (fresh, response)).map_err(|_| Failed::BadGateway)
    }

    async fn gather(&self, mut body: Incoming) -> Result<Bytes, Failed> {
        let mut all = Vec::new();
        while let Some(frame) = self.in_time(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))).await? {
            let frame = frame.map_err(|_| Failed::BadGateway)?;
            all.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if all.len() > LONGEST_BODY {
                return Err(Failed::BadGateway);
            }
        }
        Ok(all.into())
    }

    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, Failed> {
        timeout(self.idle_timeout, answer).await.map_err(|_| Failed::GatewayTimeout)
    }
}

/// The request as the target gets it: the client's `Host` and path, and `X-Forwarded-For`, `-Proto` and `-Port` ("HTTP
/// headers and Application Load Balancers", mode `append`,
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html>).
pub(super) fn rewritten(request: Request<Incoming>, client: SocketAddr, port: u16) -> Request<Body> {
    let (mut head, body) = request.into_parts();
    remove_hop_by_hop(&mut head.headers);
    append_client(&mut head.headers, client);
    head.headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    head.headers.insert("x-forwarded-port", HeaderValue::from(port));
    Request::from_parts(head, Body::new(body))
}

fn append_client(headers: &mut HeaderMap, client: SocketAddr) {
    let mut all: Vec<u8> = headers.get_all("x-forwarded-for").iter().fold(Vec::new(), |mut all, one| {
        all.extend_from_slice(one.as_bytes());
        all.extend_from_slice(b", ");
        all
    });
    all.extend_from_slice(client.ip().to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        headers.insert("x-forwarded-for", value);
    }
}

/// Removes what holds for one connection only (RFC 9110, 7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, HeaderName::from_static("keep-alive")];
    for name in named.into_iter().chain(always) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_appended_to_what_proxies_before_said() {
        let mut headers = HeaderMap::new();
        append_client(&mut headers, "127.0.0.9:5".parse().unwrap());
        assert_eq!(headers["x-forwarded-for"], "127.0.0.9");
        append_client(&mut headers, "127.0.0.8:5".parse().unwrap());
        assert_eq!(headers["x-forwarded-for"], "127.0.0.9, 127.0.0.8");
    }

    #[test]
    fn what_belongs_to_one_connection_stays_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Mine"), ("x-mine", "1"), ("keep-alive", "5"), ("x-other", "2")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-other"]);
    }
}
