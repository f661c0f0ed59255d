//! `/events`: what `/status` says, every second to whoever listens (server-sent events, as the HTML standard has them,
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>). The first event is the last hour. Nobody pays
//! for it while nobody listens.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Frame};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::history::{CELL_SECS, History, Observation};
use super::status::Sources;
use crate::sys::cpu::{CpuShare, CpuTimes};
use crate::sys::ticks::Ticks;

/// How often something is told.
const EVERY: Duration = Duration::from_secs(1);
/// Events that a slow reader may be behind; after that the next ones wait, and are newer then.
const BEHIND: usize = 4;

/// The host's CPU over the last second, as an event.
#[derive(Debug, Serialize)]
struct Cpu {
    busy_pct: f64,
    steal_pct: f64,
}

/// Answers with the stream.
pub(super) fn stream(sources: Arc<Sources>) -> Response {
    let (tell, events) = channel(BEHIND);
    tokio::task::spawn(async move {
        let _ = feed(&sources, &tell).await;
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Body::new(Events(events))).into_response()
}

/// Tells until nobody listens.
async fn feed(sources: &Sources, tell: &Sender<Bytes>) -> Result<(), ()> {
    let send = async |bytes| tell.send(bytes).await.map_err(drop);
    let history = event("history", &*sources.history.borrow()).map_err(drop)?;
    send(history).await?;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut meter = Meter::default();
    loop {
        tick.tick().await;
        if let Some(cpu) = meter.read() {
            let CpuShare { busy_pct, steal_pct } = cpu;
            send(event("cpu", &Cpu { busy_pct, steal_pct }).map_err(drop)?).await?;
        }
        send(event("status", &sources.status()).map_err(drop)?).await?;
    }
}

fn event(name: &str, data: &impl Serialize) -> io::Result<Bytes> {
    Ok(Bytes::from(format!("event: {name}\ndata: {}\n\n", serde_json::to_string(data)?)))
}

/// The body of a stream of events.
struct Events(Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The shares of CPU time between two looks.
#[derive(Default)]
struct Meter(Option<CpuTimes>);

impl Meter {
    fn read(&mut self) -> Option<CpuShare> {
        let now = CpuTimes::now().ok()?;
        let before = self.0.replace(now)?;
        now.since(&before)
    }
}

/// Keeps the last hour: looks every cell. Ends with the daemon.
pub(super) async fn keep_history(sources: Arc<Sources>, history: watch::Sender<History>) {
    let first = until_first_look(Timestamp::now().as_millisecond());
    let ticks = match Ticks::every(Duration::from_secs(CELL_SECS.unsigned_abs()), first) {
        Ok(ticks) => ticks,
        Err(e) => return tracing::warn!("the last hour is not kept: no timer: {e}"),
    };
    let mut meter = Meter::default();
    loop {
        let seen = Observation { cpu: meter.read(), ..sources.observation() };
        history.send_modify(|history| history.observe(&seen));
        if ticks.next().await.is_err() {
            return;
        }
    }
}

/// Until the first look, which is a second before the end of a cell by the clock, and so are those after it: one that
/// comes a little early or late on a busy machine leaves no cell empty, whose minute would then be no datapoint.
fn until_first_look(now_ms: i64) -> Duration {
    let cell = CELL_SECS * 1000;
    let wait = (cell - 1000 - now_ms).rem_euclid(cell);
    Duration::from_millis(if wait == 0 { cell } else { wait }.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_in_the_last_second_of_a_cell() {
        for now in 1_700_000_000_000..1_700_000_005_000_i64 {
            let first = now + until_first_look(now).as_millis() as i64;
            assert!(first > now && first - now <= 5000 && first % 5000 == 4000, "{now}");
        }
    }

    #[test]
    fn an_event_is_one_line_of_data() {
        let bytes = event("status", &serde_json::json!({"a": "x\ny"})).unwrap();
        assert_eq!(&bytes[..], b"event: status\ndata: {\"a\":\"x\\ny\"}\n\n");
    }
}
