//! The place in a log, kept over a restart.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::follower::{FileId, Follower, Place};
use super::siblings::{self, Known, Sibling};
use super::{Start, Tail};
use crate::sys::file;

/// A checkpoint is some kilobytes a log; what is larger isn't ours.
const MAX_BYTES: u64 = 4 << 20;
/// How much older than the checkpoint a file's time may be and still be later: clocks tick coarsely.
const SLACK: Duration = Duration::from_secs(5);

/// Where a [`Tail`] stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The log.
    pub path: PathBuf,
    at: SystemTime,
    generations: Vec<Place>,
    known: Vec<Place>,
    /// A gap that was found and not yet reported.
    lost: bool,
    /// Where we were in files when they were truncated, and how much of that was an unfinished line.
    truncated: Vec<(Place, u64)>,
}

impl Checkpoint {
    /// In a folder of its own: the daemon may run as a user that owns this one, while the state folder, which has the
    /// fault record, is root's alone.
    fn file(state: &Path) -> PathBuf {
        state.join("serve").join("probes.json")
    }

    /// Reads the checkpoints in the state folder.
    ///
    /// # Errors
    /// When there are some that can't be read, trusted or understood.
    pub fn read(state: &Path) -> std::io::Result<Vec<Self>> {
        /// One log's alone is what earlier versions wrote.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Kept {
            Several(Vec<Checkpoint>),
            One(Checkpoint),
        }
        let Some(bytes) = file::read_trusted(&Self::file(state), MAX_BYTES)? else { return Ok(Vec::new()) };
        Ok(match serde_json::from_slice(&bytes)? {
            Kept::Several(several) => several,
            Kept::One(one) => vec![one],
        })
    }

    /// Writes those of all logs below the state folder, which is made when missing.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn write(all: &[Self], state: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(state.join("serve"))?;
        file::replace(&Self::file(state), &serde_json::to_vec(all)?, 0o600)
    }

    /// Whether nothing but the time differs.
    pub fn same_place(&self, other: &Self) -> bool {
        self.path == other.path && self.generations == other.generations && self.known == other.known
    }
}

impl Tail {
    /// Where this tail stands: unfinished lines will be read again.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            path: self.path.clone(),
            at: SystemTime::now(),
            generations: self.generations.iter().map(Follower::place).collect(),
            known: self.known.places().to_vec(),
            lost: self.lost,
            truncated: self.truncated.iter().copied().collect(),
        }
    }

    /// Goes on where `checkpoint` was taken: each file is found by its inode or, moved to another, by its content.
    pub fn resume(checkpoint: &Checkpoint) -> Self {
        let mut tail = Self::new(&checkpoint.path, Start::Beginning);
        tail.start = None;
        tail.rotating = true;
        tail.known = Known::new(checkpoint.known.clone());
        tail.truncated = checkpoint.truncated.iter().copied().collect();
        tail.not_before = checkpoint.at.checked_sub(SLACK);
        let listed = siblings::list(&checkpoint.path);
        tail.generations = checkpoint.generations.iter().filter_map(|place| find(place, &listed)).collect();
        tail.lost = checkpoint.lost;
        tail.lost |= match checkpoint.generations.last() {
            Some(last) => last.offset > 0 && !tail.generations.iter().any(|g| g.id == last.id && !g.finished),
            None => false,
        };
        tail
    }
}

/// The file that `place` was in, followed from there. One of which nothing was read can't be told from another that
/// got its inode since: it is left to be found as a new one.
fn find(place: &Place, listed: &[Sibling]) -> Option<Follower> {
    let same = |id: FileId| listed.iter().find(move |s| s.id == id);
    let untouched = same(place.id)
        .filter(|s| s.size >= place.offset)
        .and_then(Sibling::open)
        .filter(|file| place.fits(file).unwrap_or(false));
    if let Some(file) = untouched {
        return Follower::at(file, place.offset).ok();
    }
    let copy = listed
        .iter()
        .filter(|s| s.is_generation && s.size >= place.offset)
        .find_map(|s| s.open().filter(|file| place.fits(file).unwrap_or(false)))?;
    let mut follower = Follower::at(copy, place.offset).ok()?;
    follower.finished = true;
    Some(follower)
}
