//! The daemon's stream of events, read line by line; asked for again when it is lost.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use crate::serve::history::History;
use crate::serve::status::Status;

/// The longest event: an hour of cells with many nodes is far below.
const LONGEST: usize = 1 << 20;
/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(1);
/// The daemon tells something every second.
const SILENCE: Duration = Duration::from_secs(5);

/// What the daemon tells.
#[derive(Debug)]
pub enum Told {
    /// The last hour.
    History(Box<History>),
    /// What it knows now.
    Status(Box<Status>),
    /// It doesn't answer.
    Lost(String),
}

/// Listens to the daemon at `admin` until nobody wants to hear.
pub async fn listen(admin: SocketAddr, tell: Sender<Told>) {
    let url = format!("http://{admin}/events");
    loop {
        let why = match follow(&url, &tell).await {
            Ok(()) => "its stream of events has ended".to_owned(),
            Err(why) => why,
        };
        if tell.send(Told::Lost(format!("{url}: {why}"))).await.is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn follow(url: &str, tell: &Sender<Told>) -> Result<(), String> {
    let client = reqwest::Client::builder().no_proxy().connect_timeout(AGAIN).read_timeout(SILENCE);
    let client = client.build().map_err(|e| e.to_string())?;
    let mut answer = client.get(url).send().await.map_err(|e| short(&e))?;
    if !answer.status().is_success() {
        return Err(format!("answered {}: it is no agent, or one without this view", answer.status()));
    }
    let mut parser = Parser::default();
    while let Some(chunk) = answer.chunk().await.map_err(|e| short(&e))? {
        for told in parser.take(&chunk)? {
            if tell.send(told).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn short(error: &reqwest::Error) -> String {
    match () {
        () if error.is_connect() => "nothing answers".to_owned(),
        () if error.is_timeout() => format!("silent for {} s", SILENCE.as_secs()),
        () => "the connection was lost".to_owned(),
    }
}

/// Events out of bytes.
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
}

impl Parser {
    fn take(&mut self, chunk: &[u8]) -> Result<Vec<Told>, String> {
        if self.bytes.len() + chunk.len() > LONGEST {
            return Err("an event is too long".to_owned());
        }
        self.bytes.extend_from_slice(chunk);
        let mut told = Vec::new();
        while let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.bytes.drain(..end + 2).collect();
            told.extend(read(&String::from_utf8_lossy(&event)));
        }
        Ok(told)
    }
}

fn read(event: &str) -> Option<Told> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let data = field("data:")?;
    match field("event:")? {
        "history" => serde_json::from_str(data).ok().map(|history| Told::History(Box::new(history))),
        "status" => serde_json::from_str(data).ok().map(|status| Told::Status(Box::new(status))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_the_bytes_are_cut() {
        let stream =
            b"event: history\ndata: {\"nodes\":[],\"cells\":[{\"at\":5}]}\n\nevent: cpu\ndata: {}\n\n\
                       event: status\ndata: {}\n\nevent: history\ndata: {\"nodes\":[\"a\"],\"cells\":[]}\n\n";
        for size in [1, 2, 7, 1000] {
            let mut parser = Parser::default();
            let told: Vec<Told> = stream.chunks(size).flat_map(|chunk| parser.take(chunk).unwrap()).collect();
            assert!(
                matches!(&told[..], [Told::History(h), Told::History(n)] if h.cells.len() == 1 && n.nodes.len() == 1),
                "{size}: {told:?}"
            );
        }
        assert!(Parser::default().take(&vec![b'x'; LONGEST + 1]).is_err());
    }
}
