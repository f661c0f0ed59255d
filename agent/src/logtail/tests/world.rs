//! The model: a log, its writer, its reader, and which lines must come out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use super::super::wait::{News, Waiter};
use super::super::*;
use super::Act;

/// A log, its writer, its reader, and the truth.
pub(super) struct World {
    dir: tempfile::TempDir,
    folder: PathBuf,
    log: PathBuf,
    append: bool,
    writer: Option<fs::File>,
    part: Option<String>,
    next: u32,
    files: u32,
    /// Lines by the inode they stand in.
    lines: BTreeMap<u64, BTreeSet<u32>>,
    seen: BTreeMap<u32, u32>,
    lost: BTreeSet<u32>,
    gaps: u32,
    /// A file that was being read was truncated: that must be reported.
    must_report: bool,
    /// The end was cut off: what is written before the next look may be taken for what was there.
    uncertain: bool,
    /// A line was torn in two by a truncation.
    torn: bool,
    tail: Option<Tail>,
    /// Tells what happened; without it every look is at all there is.
    waiter: Option<Waiter>,
    checkpoint: Option<Checkpoint>,
}

impl World {
    pub(super) fn new(append: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("logs");
        fs::create_dir(&folder).unwrap();
        let log = folder.join("access.log");
        let tail = Some(Tail::new(&log, Start::Beginning));
        Self {
            dir,
            folder,
            log,
            append,
            writer: None,
            part: None,
            next: 0,
            files: 0,
            lines: BTreeMap::new(),
            seen: BTreeMap::new(),
            lost: BTreeSet::new(),
            gaps: 0,
            must_report: false,
            torn: false,
            uncertain: false,
            tail,
            waiter: None,
            checkpoint: None,
        }
    }

    /// The same, where events say what is to be looked at.
    pub(super) fn by_events(append: bool) -> Self {
        Self { waiter: Some(Waiter::eager()), ..Self::new(append) }
    }

    fn open(&self, path: &Path) -> fs::File {
        OpenOptions::new()
            .create(true)
            .write(!self.append)
            .append(self.append)
            .truncate(false)
            .open(path)
            .unwrap()
    }

    fn line(&mut self) -> String {
        self.next += 1;
        format!("line {:06} {}\n", self.next, "x".repeat(self.next as usize * 37 % 90))
    }

    fn put(&mut self, text: &str) {
        if self.writer.is_none() {
            self.reopen();
        }
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        let ino = writer.metadata().unwrap().ino();
        self.lines.entry(ino).or_default().insert(self.next);
        self.lost.extend(self.uncertain.then_some(self.next));
    }

    fn write(&mut self, count: u8) {
        self.end_part();
        for _ in 0..count {
            let line = self.line();
            self.put(&line);
        }
    }

    fn end_part(&mut self) {
        if let Some(rest) = self.part.take() {
            let id = self.next;
            self.put(&rest);
            self.next = id;
        }
    }

    fn reopen(&mut self) {
        self.end_part_if_writing();
        use std::io::Seek;
        let mut file = self.open(&self.log.clone());
        file.seek(io::SeekFrom::End(0)).unwrap();
        self.writer = Some(file);
    }

    fn end_part_if_writing(&mut self) {
        if self.writer.is_some() {
            self.end_part();
        }
    }

    fn shift(&self) {
        for n in (1..40).rev() {
            let from = self.folder.join(format!("access.log.{n}"));
            if from.exists() {
                fs::rename(from, self.folder.join(format!("access.log.{}", n + 1))).unwrap();
            }
        }
    }

    fn ino(&self) -> Option<u64> {
        fs::metadata(&self.log).ok().map(|meta| meta.ino())
    }

    /// What stands in the log's file and wasn't seen can't be known any more.
    fn lose(&mut self) {
        let unseen = |id: &&u32| !self.seen.contains_key(*id);
        let ids: Vec<u32> = self
            .ino()
            .and_then(|ino| self.lines.remove(&ino))
            .iter()
            .flatten()
            .filter(unseen)
            .copied()
            .collect();
        self.lost.extend(ids);
    }

    pub(super) fn look(&mut self) {
        let Some(mut tail) = self.tail.take() else { return };
        let news = self.waiter.as_mut().map(|waiter| waiter.wait(&[&tail], &[], Duration::ZERO).0);
        let mut take = |event: Event<'_>| self.take(event);
        match news {
            Some(News::Writes) => tail.look_at_writes(&mut take),
            _ => tail.look(&mut take),
        }
        .unwrap();
        self.uncertain = false;
        self.tail = Some(tail);
    }

    fn take(&mut self, event: Event<'_>) {
        let Event::Lines(block) = event else { return self.gaps += 1 };
        for line in block.split_inclusive(|b| *b == b'\n') {
            let line = &line[memchr::memrchr(0, line).map_or(0, |at| at + 1)..];
            let text = String::from_utf8(line.to_vec()).unwrap();
            let id = text.strip_prefix("line ").and_then(|t| t.get(..6)).and_then(|t| t.parse::<u32>().ok());
            match id {
                Some(id) => *self.seen.entry(id).or_default() += 1,
                None => assert!(self.gaps > 0 || self.torn, "a torn line without a reason: {text:?}"),
            }
        }
    }

    fn truncate(&mut self, to: u64) {
        OpenOptions::new().write(true).open(&self.log).unwrap().set_len(to).unwrap();
        self.torn |= self.part.is_some();
        let ino = self.ino();
        let read = |g: &Follower| Some(g.id.ino) == ino && g.place().offset > to;
        self.must_report |= self.tail.as_ref().is_some_and(|tail| tail.generations.iter().any(read));
    }

    pub(super) fn act(&mut self, act: Act) {
        let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
        match act {
            Act::Look => self.look(),
            Act::Write(count) => self.write(count),
            Act::Part => {
                self.end_part();
                let line = self.line();
                // With its number: two lines that have begun alike can't be told apart.
                let (first, rest) = line.split_at((line.len() / 2).max(12));
                self.part = Some(rest.to_owned());
                self.put(first);
            }
            Act::Rename => {
                if self.log.exists() {
                    self.shift();
                    fs::rename(&self.log, self.folder.join("access.log.1")).unwrap();
                }
            }
            Act::Create => drop(self.open(&self.log.clone())),
            Act::Reopen => self.reopen(),
            Act::CopyTruncate => {
                if self.log.exists() {
                    self.shift();
                    let copy = self.folder.join("access.log.1");
                    fs::copy(&self.log, &copy).unwrap();
                    let lines = self.ino().and_then(|ino| self.lines.remove(&ino)).unwrap_or_default();
                    // The second part of a line will stand in another file than the first.
                    let torn = self.part.is_some() && lines.contains(&self.next);
                    self.lost.extend(torn.then_some(self.next));
                    self.lines.insert(fs::metadata(&copy).unwrap().ino(), lines);
                    self.truncate(0);
                }
            }
            Act::Truncate | Act::TruncateAndRegrow => {
                if self.log.exists() {
                    let before = size(&self.log);
                    self.lose();
                    self.truncate(0);
                    self.lost.extend(self.part.is_some().then_some(self.next));
                    if matches!(act, Act::TruncateAndRegrow) {
                        self.reopen();
                        while size(&self.log) < before {
                            self.write(1);
                        }
                    }
                }
            }
            Act::CutEnd => {
                if self.log.exists() && self.part.is_none() && self.append && self.tail.is_some() {
                    let text = fs::read(&self.log).unwrap();
                    let keep = memchr::memchr_iter(b'\n', &text).nth(2).map_or(0, |at| at + 1);
                    let kept = String::from_utf8_lossy(&text[..keep]).lines().count();
                    if keep > 0 && kept == 3 && !text.contains(&0) {
                        let ino = self.ino().unwrap();
                        let stay: BTreeSet<u32> = String::from_utf8_lossy(&text[..keep])
                            .lines()
                            .filter_map(|l| l.get(5..11)?.parse().ok())
                            .collect();
                        self.lose();
                        self.lost.retain(|id| !stay.contains(id));
                        self.lines.insert(ino, stay);
                        self.truncate(keep as u64);
                        self.uncertain = true;
                        self.write(self.next as u8 % 2);
                        self.look();
                    }
                }
            }
            Act::DeleteAndRecreate => {
                if self.log.exists() {
                    self.end_part_if_writing();
                    if self.tail.is_none() {
                        self.lose();
                    } else {
                        self.maybe_never_seen();
                    }
                    fs::remove_file(&self.log).unwrap();
                    self.reopen();
                }
            }
            Act::Replace => {
                self.end_part_if_writing();
                if self.tail.is_none() {
                    self.lose()
                } else {
                    self.maybe_never_seen()
                }
                let other = self.folder.join("new.tmp");
                self.writer = Some(self.open(&other));
                self.write(2);
                fs::rename(&other, &self.log).unwrap();
            }
            Act::Retarget | Act::Relink => {
                self.end_part_if_writing();
                // What the name stood for is behind another symlink now, or gone.
                if self.tail.is_none() {
                    self.lose()
                } else {
                    self.maybe_never_seen()
                }
                self.files += 1;
                let target = self.folder.join(format!("real{}", self.files));
                self.writer = Some(self.open(&target));
                self.write(2);
                let link = self.folder.join("link.tmp");
                if matches!(act, Act::Relink) {
                    fs::hard_link(&target, &link).unwrap();
                } else {
                    std::os::unix::fs::symlink(&target, &link).unwrap();
                }
                fs::rename(link, &self.log).unwrap();
            }
            Act::MoveAwayAndBack => {
                if self.log.exists() {
                    let away = self.dir.path().join("away");
                    fs::rename(&self.log, &away).unwrap();
                    self.look();
                    fs::rename(&away, &self.log).unwrap();
                }
            }
            Act::FolderAwayAndBack => {
                self.look();
                let away = self.dir.path().join("elsewhere");
                fs::rename(&self.folder, &away).unwrap();
                self.look();
                fs::rename(&away, &self.folder).unwrap();
            }
            Act::Rest => {
                self.look();
                self.age();
                self.look();
                self.look();
            }
            Act::Stop => {
                // Who stops looks a last time: what was deleted can't be found again.
                let deleted = |g: &Follower| g.file.metadata().unwrap().nlink() == 0;
                if self.files > 0
                    || self.tail.as_ref().is_some_and(|tail| tail.generations.iter().any(deleted))
                {
                    self.look();
                }
                if let Some(tail) = self.tail.take() {
                    self.checkpoint = Some(tail.checkpoint());
                }
            }
            Act::Start => {
                if let Some(checkpoint) = self.checkpoint.take() {
                    let text = serde_json::to_vec(&checkpoint).unwrap();
                    self.tail = Some(Tail::resume(&serde_json::from_slice(&text).unwrap()));
                }
            }
        }
    }

    /// Makes everything look as if it had been left alone for a while, the order of the files' times kept.
    fn age(&self) {
        let older = |path: &Path| {
            let Ok(file) = fs::File::open(path) else { return };
            let before = file.metadata().unwrap().modified().unwrap() - Duration::from_millis(70);
            file.set_times(fs::FileTimes::new().set_modified(before)).unwrap();
        };
        fs::read_dir(&self.folder).unwrap().flatten().for_each(|entry| older(&entry.path()));
        older(&self.folder);
    }

    /// A file that came and went between two looks under the log's name alone was never held.
    fn maybe_never_seen(&mut self) {
        let held = self
            .ino()
            .is_some_and(|ino| self.tail.as_ref().unwrap().generations.iter().any(|g| g.id.ino == ino));
        if !held {
            self.lose();
        }
    }

    /// Looks that found something to do.
    pub(super) fn looks(&self) -> u64 {
        self.tail.as_ref().map_or(0, |tail| tail.looks)
    }

    pub(super) fn end(mut self) {
        self.act(Act::Start);
        self.end_part_if_writing();
        self.look();
        self.write(1);
        self.look();
        self.look();
        assert!(self.gaps > 0 || !self.must_report, "a truncation went unreported");
        for id in 1..=self.next {
            let times = self.seen.get(&id).copied().unwrap_or(0);
            assert!(times < 2, "line {id} came {times} times");
            assert!(times == 1 || self.lost.contains(&id), "line {id} was lost and need not have been");
        }
    }
}
