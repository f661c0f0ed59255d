//! A log followed through everything that logs go through: every line comes out once, in order within a file. What
//! can't be known is reported as a gap. Looks when told to and never waits: [`wait`] does that.
//!
//! The log is a row of generations, each held by its descriptor: the last one has the log's name, those before it
//! were renamed or deleted and may still be written to, as nginx's workers go on until they are told to reopen.

mod aside;
mod checkpoint;
mod follower;
mod lines;
mod quiet;
mod siblings;
pub mod wait;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

pub use checkpoint::Checkpoint;
pub use follower::open;
pub use lines::MAX_LINE;

use follower::{Ended, FileId, Follower, Place};
use quiet::Quiet;
use siblings::{Known, Sibling};

/// How long a file that lost the log's name is followed after its last line, and how many of them.
const LINGER: Duration = Duration::from_secs(600);
const MAX_GENERATIONS: usize = 16;

/// Finds the offset from which a file is to be read.
pub type Find = Box<dyn Fn(&File) -> io::Result<u64> + Send>;

/// Where reading starts in a log that is there at the first look; one that appears later is new from its first byte.
pub enum Start {
    /// The first byte.
    Beginning,
    /// The line that is being written.
    Now,
    /// Where this function says.
    At(Find),
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Beginning => "Beginning",
            Self::Now => "Now",
            Self::At(_) => "At",
        })
    }
}

/// Why lines may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// The file was truncated: what was written since our last look is gone, unless a copy beside it had it.
    Truncated,
    /// As before, and a copy beside the log had all up to the copying.
    Copied,
    /// After a restart the file that was being read is nowhere to be found.
    Lost,
    /// A file couldn't be read to its end.
    Unreadable,
}

/// What a look yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Whole lines, each with its line break; a byte NUL in a line means that the line begins behind it.
    Lines(&'a [u8]),
    /// Lines may be missing here.
    Gap(Gap),
}

/// What has the log's name.
enum Present {
    None,
    /// The last generation.
    Followed,
    New(File, FileId),
}

/// Takes what a look yields.
pub type Sink<'a> = dyn FnMut(Event<'_>) + 'a;

/// Why a log can't be followed. It is tried again at the next look.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TailError {
    /// The log.
    pub path: PathBuf,
    /// What the system said, or what it is instead of a file.
    pub reason: io::Error,
}

/// A followed log.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    start: Option<Start>,
    generations: Vec<Follower>,
    /// Whether the last generation has the log's name.
    named: bool,
    /// Generations beside the log are old, unless they appear while this is set.
    rotating: bool,
    known: Known,
    /// Where we were in files when they were truncated, and how much of that was an unfinished line: a copy may turn up.
    truncated: VecDeque<(Place, u64)>,
    /// Files older than this were there before; only after a restart.
    not_before: Option<SystemTime>,
    /// After a restart, the file that was being read wasn't found whole.
    lost: bool,
    overlong: u64,
    /// As it was when all had been read, while nothing has happened since.
    quiet: Option<Quiet>,
    /// Looks that more than a glance was needed for.
    looks: u64,
    /// How often there may have been other folders or files to watch since.
    changes: u64,
}

impl Tail {
    /// Will follow the log at `path`.
    pub fn new(path: &Path, start: Start) -> Self {
        Self {
            path: path.to_owned(),
            start: Some(start),
            generations: Vec::new(),
            named: false,
            rotating: false,
            known: Known::default(),
            truncated: VecDeque::new(),
            not_before: None,
            lost: false,
            overlong: 0,
            quiet: None,
            looks: 0,
            changes: 0,
        }
    }

    /// The log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the log's file is there.
    pub fn is_there(&self) -> bool {
        self.named
    }

    /// Lines that were too long, and skipped.
    pub fn overlong(&self) -> u64 {
        self.overlong + self.generations.iter().map(|g| g.lines.overlong).sum::<u64>()
    }

    /// How many bytes of the log's present file are behind us.
    pub fn offset(&self) -> u64 {
        self.generations.last().map_or(0, |g| g.offset)
    }

    /// Hands on all that is new.
    ///
    /// # Errors
    /// When there is a log that can't be read or is no regular file. What was being read before is read all the same.
    pub fn look(&mut self, sink: &mut Sink<'_>) -> Result<(), TailError> {
        if self.quiet.as_ref().is_some_and(|quiet| quiet.lasts(self)) {
            self.changes += u64::from(self.retire());
            return Ok(());
        }
        self.looks += 1;
        let quiet = Quiet::of(self);
        let looked = self.look_closely(sink);
        self.quiet = quiet.filter(|quiet| looked.is_ok() && quiet.is_read(self));
        looked
    }

    /// The same where [`wait::News::Writes`] says that only the files that are followed were written to.
    ///
    /// # Errors
    /// As [`Tail::look`].
    pub fn look_at_writes(&mut self, sink: &mut Sink<'_>) -> Result<(), TailError> {
        if !self.named || self.start.is_some() || self.lost {
            return self.look(sink);
        }
        self.quiet = None;
        let ids = |tail: &Self| tail.generations.iter().map(|g| g.id).collect::<Vec<_>>();
        let before = ids(self);
        self.read_all(sink);
        self.changes += u64::from(ids(self) != before);
        Ok(())
    }

    fn look_closely(&mut self, sink: &mut Sink<'_>) -> Result<(), TailError> {
        if std::mem::take(&mut self.lost) {
            sink(Event::Gap(Gap::Lost));
        }
        let empty: Vec<FileId> = self.generations.iter().filter(|g| g.offset == 0).map(|g| g.id).collect();
        self.read_all(sink);
        if self.start.is_some() {
            // What lies beside the log before our first look is old.
            self.known.remember_all(&siblings::list(&self.path), true);
        }
        let failed = |reason| TailError { path: self.path.clone(), reason };
        let present = match self.present().map_err(failed) {
            Ok(present) => present,
            Err(e) => {
                self.named = false;
                return Err(e);
            }
        };
        // Asked and listed after the log was opened: what had its name in between is on the list.
        let renamed = self.known.names_changed(&self.path) || matches!(present, Present::New(..));
        let listed = if renamed { siblings::list(&self.path) } else { Vec::new() };
        let as_before = !renamed && matches!(present, Present::Followed);
        let count = self.generations.len();
        match present {
            Present::New(file, id) => {
                let adopted = self.adopt(file, id, &listed);
                self.start = None;
                adopted.map_err(|reason| TailError { path: self.path.clone(), reason })?;
            }
            Present::Followed => self.named = true,
            Present::None => {
                self.named = false;
                self.rotating = true;
                if self.start.take().is_none() {
                    let between = self.unread(&listed, &[]);
                    self.generations.extend(between);
                }
            }
        }
        // A file that was written, copied away and truncated between two looks shows nothing of it.
        if self.named && self.generations.last().is_some_and(|last| empty.contains(&last.id)) {
            let copies = self.unread_copies(&listed, &[]);
            let last = self.generations.len() - 1;
            self.generations.splice(last..last, copies);
        }
        if !as_before || self.generations.len() != count {
            self.changes += 1;
            self.read_all(sink);
        }
        // Only if the log still is what we follow: else the list has generations that the next look must read.
        if renamed && self.named && matches!(self.present(), Ok(Present::Followed)) {
            let mut beside = listed;
            beside.retain(|s| !self.generations.iter().any(|g| g.id == s.id));
            self.known.remember_all(&beside, false);
        }
        if self.named {
            self.rotating = false;
            self.not_before = None;
        }
        self.changes += u64::from(self.retire());
        Ok(())
    }

    /// Hands on unfinished lines: at the end of the work, on what nobody will finish.
    pub fn finish(&mut self, sink: &mut Sink<'_>) {
        for generation in &mut self.generations {
            generation.lines.finish(|line| sink(Event::Lines(line)));
        }
    }

    /// The file that has the log's name now.
    fn present(&self) -> io::Result<Present> {
        let followed = self.generations.last().map(|g| g.id);
        if followed.is_some()
            && std::fs::metadata(&self.path).is_ok_and(|meta| Some(FileId::of(&meta)) == followed)
        {
            return Ok(Present::Followed);
        }
        let Some(file) = follower::open(&self.path)? else { return Ok(Present::None) };
        let id = FileId::of(&file.metadata()?);
        Ok(if Some(id) == followed { Present::Followed } else { Present::New(file, id) })
    }

    /// Takes the file that now has the log's name, and what had it in between.
    fn adopt(&mut self, file: File, id: FileId, listed: &[Sibling]) -> io::Result<()> {
        self.named = true;
        if let Some(at) = self.generations.iter().position(|g| g.id == id) {
            let back = self.generations.remove(at);
            self.generations.push(back);
            return Ok(());
        }
        if let Some(start) = self.start.take() {
            let offset = match &start {
                Start::Beginning => 0,
                Start::Now => line_start(&file, file.metadata()?.len())?,
                Start::At(find) => find(&file)?,
            };
            if let (0, Start::At(find)) = (offset, &start) {
                self.generations.extend(Self::before(listed, find).filter(|before| before.id != id));
            }
            self.generations.push(Follower::at(file, offset)?);
            return Ok(());
        }
        let size = file.metadata()?.len();
        let mut follower = if let Some(place) = self.known.of(id, &file) {
            let offset = if place.offset <= size { place.offset } else { 0 };
            Follower::at(file, offset)?
        } else if let Some(before) = self.generations.last_mut()
            && before.reached().fits(&file)?
        {
            // The same content under another inode: a copy that was put in the log's place.
            let mut follower = Follower::at(file, before.offset)?;
            std::mem::swap(&mut follower.lines, &mut before.lines);
            follower
        } else {
            Follower::at(file, 0)?
        };
        follower.busy = Instant::now();
        let between = if self.rotating || !self.generations.is_empty() {
            self.unread(listed, &[Follower::at(follower.file.try_clone()?, size)?.reached()])
        } else {
            Vec::new()
        };
        self.generations.extend(between);
        self.generations.push(follower);
        Ok(())
    }

    /// Reads every generation to its end, the oldest first.
    fn read_all(&mut self, sink: &mut Sink<'_>) {
        let mut at = 0;
        while let Some(generation) = self.generations.get_mut(at) {
            match generation.read(&mut |block| sink(Event::Lines(block))) {
                Ok(Ended::AtEnd) => at += 1,
                Ok(Ended::Truncated) => at = self.truncated(at, sink),
                Err(_) => {
                    sink(Event::Gap(Gap::Unreadable));
                    let last = at + 1 == self.generations.len();
                    self.named &= !last;
                    self.generations.remove(at);
                }
            }
        }
        let named = self.named;
        let count = self.generations.len();
        let mut done = Vec::new();
        for (at, generation) in self.generations.iter_mut().enumerate() {
            if generation.finished && !(named && at + 1 == count) {
                done.push(generation.reached());
                self.overlong += generation.lines.overlong;
            }
        }
        self.generations.retain(|g| !done.iter().any(|place| place.id == g.id));
        done.into_iter().for_each(|place| self.known.remember(place));
    }

    /// Lets go of files that lost the log's name long ago, remembering how far they were read; whether there was one.
    fn retire(&mut self) -> bool {
        let keep_last = usize::from(self.named || self.generations.len() == 1);
        let count = self.generations.len();
        let mut at = 0;
        while at + keep_last < self.generations.len() {
            let too_many = self.generations.len() > MAX_GENERATIONS;
            let generation = &mut self.generations[at];
            if generation.busy.elapsed() > LINGER || too_many {
                let place = generation.reached();
                self.overlong += generation.lines.overlong;
                self.known.remember(place);
                self.generations.remove(at);
            } else {
                generation.lines.rest();
                at += 1;
            }
        }
        self.generations.len() != count
    }
}

/// The start of the line that `offset` lies in.
fn line_start(file: &File, offset: u64) -> io::Result<u64> {
    let mut end = offset;
    while end > 0 && offset - end < MAX_LINE as u64 {
        let len = end.min(4096);
        let bytes = follower::bytes_at(file, end - len, usize::try_from(len).unwrap_or(0))?;
        if let Some(at) = memchr::memrchr(b'\n', &bytes) {
            return Ok(end - len + at as u64 + 1);
        }
        end -= len;
    }
    Ok(if end == 0 { 0 } else { offset })
}

#[cfg(test)]
mod tests;
