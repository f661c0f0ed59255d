//! Output that nobody has to wait for: lines go to a queue, and a thread writes them. A reader that stopped reading
//! (Ctrl-S, a full pipe) keeps only that thread. What doesn't fit into the queue is dropped and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::sys::{sched, thread};

/// What may wait for a reader.
const MAX_BYTES: usize = 1 << 20;
/// At the end, how long a reader that reads nothing is waited for.
const PATIENCE: Duration = Duration::from_millis(400);

/// One stream with its thread.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    writing: bool,
    closed: bool,
    /// The thread that writes.
    tid: i32,
    /// Counts the writes that were done: whether the reader still reads.
    written: u64,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds this.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn start(name: &str, out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        // Signals are for the thread that waits for them; this one would let them end us.
        let mut before = SigSet::empty();
        nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))?;
        let name = std::ffi::CString::new(name).unwrap_or_default();
        let work = move || {
            let _ = rustix::thread::set_name(&name);
            // Whoever started us idle (`chrt -i`) still wants to read what is told.
            let _ = sched::set_current_thread(sched::Policy::Normal);
            theirs.queue().tid = rustix::thread::gettid().as_raw_nonzero().get();
            write_all(&theirs, out);
        };
        let spawned = thread::spawn(64 << 10, Box::new(work));
        before.thread_set_mask()?;
        spawned.map(|()| Self { shared })
    }

    /// The CPU seconds of its thread.
    pub(super) fn cpu_secs(&self) -> f64 {
        let tid = self.shared.queue().tid;
        if tid == 0 { 0.0 } else { thread::cpu_secs(tid).unwrap_or(0.0) }
    }

    /// Puts a line into the queue. Never waits.
    pub(super) fn send(&self, bytes: Vec<u8>) {
        let mut queue = self.shared.queue();
        if queue.closed {
            return;
        }
        if queue.bytes + bytes.len() > MAX_BYTES {
            queue.dropped += 1;
            return;
        }
        queue.bytes += bytes.len();
        queue.chunks.push_back(bytes);
        self.shared.changed.notify_all();
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.queue().closed
    }

    /// How many lines didn't fit.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.queue().dropped
    }

    /// Waits until everything is written, as long as the reader reads, which it may have stopped doing at `since`.
    pub(super) fn finish(&self, since: Instant) {
        self.drain(since, PATIENCE);
    }

    /// The same with another patience.
    pub(super) fn drain(&self, mut since: Instant, patience: Duration) {
        let mut queue = self.shared.queue();
        let mut seen = queue.written;
        while (queue.writing || !queue.chunks.is_empty()) && !queue.closed {
            if queue.written != seen {
                (seen, since) = (queue.written, Instant::now());
            }
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn write_all(shared: &Shared, mut out: impl Write) {
    let mut queue = shared.queue();
    loop {
        let Some(chunk) = queue.chunks.pop_front() else {
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        queue.writing = true;
        drop(queue);
        // In small pieces, so that it is seen when the reader reads.
        let mut ok = true;
        for piece in chunk.chunks(4096) {
            ok = out.write_all(piece).and_then(|()| out.flush()).is_ok();
            shared.queue().written += 1;
            if !ok {
                break;
            }
        }
        queue = shared.queue();
        queue.bytes -= chunk.len();
        queue.writing = false;
        queue.closed |= !ok;
        shared.changed.notify_all();
        if queue.closed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn lines_arrive_in_their_order() {
        let (mut read, write) = std::io::pipe().unwrap();
        let writer = Writer::start("out", write).unwrap();
        let lines: Vec<String> = (0..2000).map(|n| format!("{n}\n")).collect();
        let reader = std::thread::spawn(move || {
            let mut text = vec![0; 8890];
            read.read_exact(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        lines.iter().for_each(|line| writer.send(line.clone().into_bytes()));
        writer.finish(Instant::now());
        assert_eq!(reader.join().unwrap(), lines.concat());
    }

    #[test]
    fn a_reader_that_stopped_reading_keeps_nobody_and_what_does_not_fit_is_counted() {
        let (_read, write) = std::io::pipe().unwrap();
        let writer = Writer::start("out", write).unwrap();
        for _ in 0..3000 {
            writer.send(vec![b'x'; 1000]);
        }
        assert!(writer.dropped() > 0 && !writer.is_closed());
        writer.finish(Instant::now());
    }

    #[test]
    fn a_closed_pipe_is_seen_and_ends_nothing() {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let writer = Writer::start("out", write).unwrap();
        writer.send(b"x\n".to_vec());
        writer.finish(Instant::now());
        assert!(writer.is_closed());
        writer.send(b"y\n".to_vec());
    }
}
