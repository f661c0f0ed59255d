//! Where the daemon's log goes: a bounded queue, and a thread that writes it to stderr. Whatever stderr is (a full
//! disk, a closed pipe, a journal that doesn't read), nobody who logs waits or fails; what can't be written is counted.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines that may wait.
const MOST: usize = 1024;
/// How long the last lines may take when the process ends.
const LAST_LINES: Duration = Duration::from_millis(300);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines that found no place in the queue or could not be written.
pub fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

enum Item {
    Line(Vec<u8>),
    /// Everything before is written: tell so.
    Flush(SyncSender<()>),
}

/// The queue's end that takes lines.
#[derive(Debug, Clone)]
pub struct Log(Option<SyncSender<Item>>);

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Item")
    }
}

impl Log {
    /// Starts the thread. Where there is none to be had every line is dropped.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(MOST);
        let thread = std::thread::Builder::new().name("log".into()).stack_size(64 << 10);
        Self(thread.spawn(move || write_all(&receiver, out)).is_ok().then_some(sender))
    }

    /// Takes a line, ended by a newline; never waits.
    pub fn line(&self, bytes: &[u8]) {
        let sent = match &self.0 {
            Some(queue) => queue.try_send(Item::Line(bytes.to_vec())).is_ok(),
            None => false,
        };
        if !sent {
            DROPPED.fetch_add(1, Relaxed);
        }
    }

    /// Waits until all is written, but not for long.
    pub fn flush(&self) {
        let Some(queue) = &self.0 else { return };
        let (tell, told) = sync_channel(1);
        let end = std::time::Instant::now() + LAST_LINES;
        let mut item = Item::Flush(tell);
        while let Err(TrySendError::Full(back)) = queue.try_send(item) {
            if std::time::Instant::now() > end {
                return;
            }
            item = back;
            std::thread::sleep(Duration::from_millis(5)); // the queue is full: nothing tells when it isn't
        }
        let _ = told.recv_timeout(LAST_LINES);
    }
}

fn write_all(queue: &Receiver<Item>, mut out: impl Write) {
    while let Ok(item) = queue.recv() {
        match item {
            Item::Line(bytes) => {
                if out.write_all(&bytes).is_err() {
                    DROPPED.fetch_add(1, Relaxed);
                }
            }
            Item::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// A line that is being put together; dropped, it goes into the queue as a whole.
#[derive(Debug)]
pub struct Line<'a> {
    log: &'a Log,
    bytes: Vec<u8>,
}

impl<'a> Line<'a> {
    /// An empty one.
    pub fn new(log: &'a Log) -> Self {
        Self { log, bytes: Vec::new() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.log.line(&self.bytes);
        }
    }
}

static CURRENT: Mutex<Option<Log>> = Mutex::new(None);

/// Keeps the process's log, so that whoever ends the process can [`flush`] it.
pub fn keep(log: &Log) {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(log.clone());
}

/// Writes what waits, but not for long.
pub fn flush() {
    let log = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(log) = log {
        log.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn lines_come_whole_and_in_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let log = Log::to(ours);
        for n in 0..3 {
            let mut line = Line::new(&log);
            write!(line, "line ").unwrap();
            writeln!(line, "{n}").unwrap();
        }
        log.flush();
        drop(log);
        let text = std::io::read_to_string(theirs).unwrap();
        assert_eq!(text, "line 0\nline 1\nline 2\n");
    }

    #[test]
    fn who_logs_never_waits_for_one_who_does_not_read_nor_fails_with_a_closed_pipe() {
        for reads in [true, false] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let log = Log::to(ours);
            let _unread = reads.then_some(theirs);
            let (before, start) = (dropped(), Instant::now());
            for _ in 0..MOST * 4 {
                log.line(&[b'x'; 1024]);
            }
            log.flush();
            assert!(dropped() > before && start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        }
    }
}
