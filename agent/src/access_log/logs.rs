//! Several logs followed together: one for `/health`, one a virtual host. Their probes come in the order of their
//! times, look by look, as if it were one log.

use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::format::Format;
use super::locate::{Located, LogFile};
use super::outsiders::Outsiders;
use super::recent;
use super::scan::{Arrival, Found, Scanner, Traffic};
use super::unread::Unread;
use crate::logtail::wait::News;
use crate::logtail::{Checkpoint, Event, Gap, Start, Tail, TailError};

/// As many probes of several logs are put in order at once; of one log none has to wait.
const MOST_WAITING: usize = 100_000;

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At each log's first byte.
    Beginning,
    /// With what is written from now on.
    Now,
    /// Where this time begins, milliseconds since 1970.
    Since(i64),
}

/// What a look yields.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A probe.
    Probe(&'a Found<'a>),
    /// Lines may be missing here.
    Gap(Gap),
}

/// The followed logs.
#[derive(Debug)]
pub struct Logs {
    sources: Vec<Source>,
    nodes: Vec<IpNet>,
    /// What was scanned in logs that were let go, and their lines that were too long.
    past: (Traffic, u64),
}

#[derive(Debug)]
struct Source {
    tail: Tail,
    scanner: Scanner,
    file: LogFile,
    trouble: Option<String>,
    /// Probes from before this time don't count, milliseconds since 1970: the log was found while others were followed.
    not_before_ms: Option<i64>,
    /// It is no longer in nginx's configuration.
    left: bool,
    /// Its formats are others from the next look on.
    learns: bool,
}

/// A probe that waits for its turn: the text of its line, and what the scanner made of it.
struct Waiting {
    source: usize,
    text: Vec<u8>,
    found: Found<'static>,
}

/// How a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What is new, after such news.
    Look(News),
    /// What is left: nothing more will come.
    Finish,
}

/// Hands on what one log yields.
struct Hand<'a, 's> {
    at: usize,
    alone: bool,
    not_before_ms: i64,
    waiting: &'a mut Vec<Waiting>,
    sink: &'a mut (dyn FnMut(Seen<'_>) + 's),
}

impl Hand<'_, '_> {
    fn probe(&mut self, found: Found<'_>) {
        if found.stamp.at_ms + i64::from(found.stamp.resolution_ms) <= self.not_before_ms {
            return;
        }
        if self.alone {
            return (self.sink)(Seen::Probe(&found));
        }
        let text = found.text.to_vec();
        self.waiting.push(Waiting { source: self.at, text, found: found.without_text() });
    }
}

impl Logs {
    /// Will read what is located, from there on; a log with a checkpoint goes on at it.
    pub fn new(located: &Located, from: From, nodes: &[IpNet], checkpoints: &[Checkpoint]) -> Self {
        let source = |file: &LogFile| Source::new(file, from, nodes, checkpoints);
        Self {
            sources: located.logs.iter().map(source).collect(),
            nodes: nodes.to_vec(),
            past: (Traffic::default(), 0),
        }
    }

    /// Goes on with what is located now that nginx's configuration is another: logs that are still in it are read on, in
    /// their old formats and their new ones, as nginx goes on with the old ones until it is reloaded; new logs are read
    /// from `since_ms` on; and those that nothing names any more until [`Logs::let_go`].
    pub fn relocate(&mut self, located: &Located, since_ms: i64) {
        self.sources.iter_mut().for_each(|source| source.left = true);
        for file in &located.logs {
            if let Some(source) = self.sources.iter_mut().find(|source| source.file.path == file.path) {
                source.left = false;
                source.learns = true;
                source.file = file.clone();
            } else {
                let source = Source::new(file, From::Since(since_ms), &self.nodes, &[]);
                self.sources.push(Source { not_before_ms: Some(since_ms), ..source });
            }
        }
    }

    /// Lets go of logs that nginx's configuration no longer names and that nobody has written to for so long.
    pub fn let_go(&mut self, idle: Duration) {
        let is_written = |path: &Path| {
            let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
            modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < idle))
        };
        let keep = |source: &Source| !source.left || is_written(&source.file.path);
        let (kept, gone) = std::mem::take(&mut self.sources).into_iter().partition(keep);
        self.sources = kept;
        for source in gone {
            self.past.0 = self.past.0.and(source.scanner.traffic());
            self.past.1 += source.tail.overlong();
        }
    }

    /// Reads all that is new. `arrival` says when it arrived, where that is known.
    ///
    /// # Errors
    /// When no log can be read; the next look tries again.
    pub fn look(
        &mut self,
        news: News,
        arrival: Option<Arrival>,
        sink: &mut dyn FnMut(Seen<'_>),
    ) -> Result<(), TailError> {
        let mut failed = None;
        let mut waiting = Vec::new();
        let mut read = self.sources.is_empty();
        for at in 0..self.sources.len() {
            if let Err(e) = self.read(at, Step::Look(news), arrival, &mut waiting, sink) {
                failed = failed.or(Some(e));
            } else {
                read = true;
            }
            self.pass_on(&mut waiting, MOST_WAITING, sink);
        }
        self.pass_on(&mut waiting, 0, sink);
        match failed {
            Some(failed) if !read => Err(failed),
            _ => Ok(()),
        }
    }

    /// Takes unfinished last lines for whole: nothing more will come.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Seen<'_>)) {
        let mut waiting = Vec::new();
        for at in 0..self.sources.len() {
            let _ = self.read(at, Step::Finish, None, &mut waiting, sink);
        }
        self.pass_on(&mut waiting, 0, sink);
    }

    fn read(
        &mut self,
        at: usize,
        step: Step,
        arrival: Option<Arrival>,
        waiting: &mut Vec<Waiting>,
        sink: &mut dyn FnMut(Seen<'_>),
    ) -> Result<(), TailError> {
        // Probes of one log alone are in order.
        let alone = self.sources.len() == 1 && step != Step::Finish;
        let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
        let Source { tail, scanner, file, trouble, not_before_ms, learns, .. } = source;
        let not_before_ms = not_before_ms.unwrap_or(i64::MIN);
        let mut hand = Hand { at, alone, not_before_ms, waiting, sink };
        if std::mem::take(learns) {
            scanner.learn(&file.formats, &mut |found| hand.probe(found));
        }
        let mut take = |event: Event<'_>| match event {
            Event::Lines(block) => scanner.block(block, arrival, &mut |found| hand.probe(found)),
            Event::Gap(gap) => (hand.sink)(Seen::Gap(gap)),
        };
        let looked = match step {
            Step::Look(News::Writes) => tail.look_at_writes(&mut take),
            Step::Look(_) => tail.look(&mut take),
            Step::Finish => {
                tail.finish(&mut take);
                return Ok(());
            }
        };
        *trouble = looked.as_ref().err().map(ToString::to_string);
        looked
    }

    /// Hands on what waits, the oldest first, once it is more than `most`.
    fn pass_on(&mut self, waiting: &mut Vec<Waiting>, most: usize, sink: &mut dyn FnMut(Seen<'_>)) {
        if waiting.len() <= most {
            return;
        }
        waiting.sort_by_key(|one| one.found.stamp.at_ms);
        for Waiting { source, text, found } in waiting.drain(..) {
            let Some(source) = self.sources.get_mut(source) else { continue };
            if let Some(line) = source.scanner.parse(&text) {
                sink(Seen::Probe(&Found { line, text: &text, ..found }));
            }
        }
    }

    /// What was scanned in all logs together.
    pub fn traffic(&self) -> Traffic {
        self.sources.iter().map(|source| source.scanner.traffic()).fold(self.past.0, Traffic::and)
    }

    /// Who bears the load balancer's name and isn't in its networks.
    pub fn outsiders(&self) -> Outsiders {
        self.sources.iter().fold(Outsiders::default(), |mut all, source| {
            all.merge(source.scanner.outsiders());
            all
        })
    }

    /// The first line that couldn't be read, and its log.
    pub fn unread(&self) -> Option<(&Path, &Unread)> {
        self.sources.iter().find_map(|source| Some((source.tail.path(), source.scanner.unread()?)))
    }

    /// Whether a forged User-Agent would show, in every log that has probes.
    pub fn verifiable(&self) -> bool {
        let probed = || self.sources.iter().filter(|source| source.scanner.traffic().probes > 0);
        let all = |mut sources: std::slice::Iter<'_, Source>| sources.all(|s| s.scanner.verifiable());
        if probed().next().is_some() {
            probed().all(|s| s.scanner.verifiable())
        } else {
            all(self.sources.iter())
        }
    }

    /// Whether at least one log is there.
    pub fn is_there(&self) -> bool {
        self.sources.iter().any(|source| source.tail.is_there())
    }

    /// The logs' tails, for who waits for them to change.
    pub fn tails(&self) -> Vec<&Tail> {
        self.sources.iter().map(|source| &source.tail).collect()
    }

    /// Each log with the format that its lines have, once lines were read, and what was scanned in it.
    pub fn each(&self) -> impl Iterator<Item = (&LogFile, Option<&Format>, Traffic)> {
        let format = |source: &'_ Source| source.scanner.traffic().last_ms.is_some();
        self.sources.iter().map(move |source| {
            let used = Some(source.scanner.format()).filter(|_| format(source)).flatten();
            (&source.file, used, source.scanner.traffic())
        })
    }

    /// Lines that were too long, and skipped.
    pub fn overlong(&self) -> u64 {
        self.past.1 + self.sources.iter().map(|source| source.tail.overlong()).sum::<u64>()
    }

    /// Why some log can't be read at the moment.
    pub fn troubles(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| source.trouble.as_deref())
    }
}

impl Source {
    fn new(file: &LogFile, from: From, nodes: &[IpNet], checkpoints: &[Checkpoint]) -> Self {
        let tail = match checkpoints.iter().find(|checkpoint| checkpoint.path == file.path) {
            Some(checkpoint) => Tail::resume(checkpoint),
            None => Tail::new(&file.path, start(file, from)),
        };
        let scanner = Scanner::new(file.formats.clone(), nodes.to_vec());
        Self {
            tail,
            scanner,
            file: file.clone(),
            trouble: None,
            not_before_ms: None,
            left: false,
            learns: false,
        }
    }
}

fn start(file: &LogFile, from: From) -> Start {
    match from {
        From::Beginning => Start::Beginning,
        From::Now => Start::Now,
        From::Since(since_ms) => {
            let formats = file.formats.clone();
            Start::At(Box::new(move |file| recent::start_of(file, since_ms, &formats)))
        }
    }
}

#[cfg(test)]
mod tests;
