//! A log to which nothing has happened is told by a few calls of stat(2): nothing is opened, read or listed for it.

use std::fs::Metadata;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Tail;
use super::follower::FileId;
use super::siblings::{self, TICK};

/// What stat(2) says of one file or folder: which it is, how long, when it was last changed.
type Face = (FileId, u64, SystemTime);

/// What a log, its folders and the older generations looked like, when each of them had been left alone for longer
/// than the tick of the clock that file times are taken from: whatever has happened since shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Quiet {
    log: Option<Face>,
    folders: Vec<(PathBuf, Option<Face>)>,
    older: Vec<Face>,
}

impl Quiet {
    /// To be taken before anything is read; `None` while something is going on.
    pub(super) fn of(tail: &Tail) -> Option<Self> {
        let log = face(std::fs::metadata(&tail.path));
        if !log.is_none_or(is_settled) {
            return None;
        }
        let quiet = Self { log, folders: faces(siblings::folders(&tail.path)), older: older(tail) };
        let folders = quiet.folders.iter().filter_map(|(_, face)| *face);
        folders.chain(quiet.older.iter().copied()).all(is_settled).then_some(quiet)
    }

    /// Whether all of it was read by now.
    pub(super) fn is_read(&self, tail: &Tail) -> bool {
        let sizes = self.older.iter().chain(&self.log).map(|(id, size, _)| (*id, *size));
        tail.named == self.log.is_some() && sizes.eq(tail.generations.iter().map(|g| (g.id, g.offset)))
    }

    /// Whether nothing has happened since.
    pub(super) fn lasts(&self, tail: &Tail) -> bool {
        let same = |(path, before): &(PathBuf, Option<Face>)| face(std::fs::metadata(path)) == *before;
        face(std::fs::metadata(&tail.path)) == self.log
            && self.folders.iter().all(same)
            && older(tail) == self.older
    }
}

/// The generations that no longer have the log's name.
fn older(tail: &Tail) -> Vec<Face> {
    let count = tail.generations.len().saturating_sub(usize::from(tail.named));
    tail.generations.iter().take(count).filter_map(|g| face(g.file.metadata())).collect()
}

fn faces(folders: Vec<PathBuf>) -> Vec<(PathBuf, Option<Face>)> {
    folders.into_iter().map(|path| (path.clone(), face(std::fs::metadata(path)))).collect()
}

fn face(meta: std::io::Result<Metadata>) -> Option<Face> {
    let meta = meta.ok()?;
    Some((FileId::of(&meta), meta.len(), meta.modified().ok()?))
}

fn is_settled((_, _, changed): Face) -> bool {
    changed.elapsed().is_ok_and(|age| age > TICK)
}
